"""State that a compiled step keeps on the device, and how it counts."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import Tensor

# A count is kept in two words, the lower one below this number: a float32
# count stops at 2^24, an int32 one at 2^31.
WORD = 2**20

# The largest one is left out: XLA divides by multiplying with the inverse,
# and takes one below the normal numbers for 0.
_POWERS_OF_TWO = 2.0 ** np.arange(-126, 127).astype("float32")


class DeviceState(keras.layers.Layer):
    """Variables that the steps of a model hand through and write.

    A layer only so that it knows its variables; it is never called, and no
    layer of a model. A `PenalizedLayer` shows them in `variables` alone: not
    in `weights`, `count_params()` or weight files.
    """

    def __init__(self, name: str | None = None):
        super().__init__(name=name)
        self.built = True

    def reset(self) -> None:
        """Forget everything seen, on all replicas."""
        # Written without a look at the old value, which on JAX is gone
        # between two steps.
        for variable in self.variables:
            variable.assign(self.start_of(variable))

    def start_of(self, variable: keras.Variable) -> Tensor:
        """What one of the variables holds before anything has been seen."""
        return keras.ops.zeros(variable.shape, variable.dtype)


def state_variable(
    shape: tuple[int, ...],
    name: str,
    *,
    dtype: str = "float32",
    initializer: Any = "zeros",
) -> keras.Variable:
    """A variable that each replica writes alone and that is merged when read.

    One that is autocast would be read in half precision inside a mixed
    precision layer. As dtype `"int"` is int64 on TensorFlow, whose XLA cannot
    reach an int32 variable from a GPU.
    """
    return keras.Variable(
        initializer,
        shape=shape,
        dtype=dtype,
        trainable=False,
        autocast=False,
        synchronization="on_read",
        aggregation="sum",
        name=name,
    )


def counted_elements(
    activations: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Which elements of activations count.

    Args:
        activations: Float tensor of shape `(batch, ..., units)`, or of shape
            `(batch,)` for one unit.
        mask: Boolean tensor whose axes are the first axes of `activations`,
            `False` where a position does not count, or `None`.

    Returns:
        The activations in float32, a boolean tensor of the same shape that is
        `False` where they are masked or not finite, and the number of
        elements that are not masked.
    """
    x = ops.cast(ops.stop_gradient(activations), "float32")
    if len(x.shape) == 1:
        x = ops.expand_dims(x, -1)
    counted = ops.isfinite(x)
    seen = seen_elements(x, mask)
    if mask is None:
        return x, counted, seen
    mask = ops.cast(mask, "bool")
    while len(mask.shape) < len(x.shape):
        mask = ops.expand_dims(mask, -1)
    return x, ops.logical_and(counted, mask), seen


def seen_elements(x: Tensor, mask: Tensor | None) -> Tensor:
    """How many elements are not masked."""
    size = ops.cast(ops.size(x), "int")
    if mask is None:
        return size
    masked = ops.maximum(ops.cast(ops.size(mask), "int"), 1)
    return total(count_by_unit(ops.cast(mask, "bool"))) * (size // masked)


def count_by_unit(condition: Tensor) -> Tensor:
    """How often `condition` holds along all axes but the last, in float32.

    Not `count_nonzero` of Keras 3.15: four times as long on TensorFlow (2.8
    million), and a deprecation warning of torch.
    """
    axes = tuple(range(len(condition.shape) - 1))
    return ops.sum(ops.cast(condition, "float32"), axis=axes)


def total(counts: Tensor) -> Tensor:
    """Sum of float counts as an integer."""
    return ops.sum(ops.cast(counts, "int"))


def add_to_words(words: Sequence[Tensor] | Tensor, new: Tensor) -> Tensor:
    """Add counts to counts in two words.

    Args:
        words: Integer tensors of one shape: lower and upper words.
        new: Integer tensor of that shape.
    """
    lower, upper = words[0] + ops.cast(new, words[0].dtype), words[1]
    return ops.stack([lower % WORD, upper + lower // WORD])


def float_of_words(lower: Tensor, upper: Tensor) -> Tensor:
    """A count in two words as float32."""
    return ops.cast(lower, "float32") + float(WORD) * ops.cast(upper, "float32")


def read_words(words: np.ndarray) -> np.ndarray:
    """Counts in two words, of shape `(2, n)`, as int64 on the host."""
    lower, upper = words.astype("int64")
    return lower + WORD * upper


def power_of_two(x: Tensor) -> Tensor:
    """The largest powers of two up to `x` whose inverses are normal numbers."""
    powers = ops.convert_to_tensor(_POWERS_OF_TWO)
    reached = powers <= ops.expand_dims(x, -1)
    return ops.max(ops.where(reached, powers, powers[0]), axis=-1)


def largest(x: Tensor, counted: Tensor) -> Tensor:
    """Largest absolute value that counts, 0 if none does."""
    return ops.max(ops.where(counted, ops.abs(x), 0.0), initial=0.0)
