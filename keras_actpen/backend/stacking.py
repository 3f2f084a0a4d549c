"""How one function of many tensors is compiled once, on JAX."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_actpen.backend.tensors import Tensor

if keras.backend.backend() == "jax":
    import jax
    import jax.numpy as jnp

# Elements of tensors that are copied to be looked at together. More take
# their time to compile, but no memory of their size: a copy of 4 million
# elements took as long as the 64 layers that they came from.
_MOST_ELEMENTS = 2**19


@dataclasses.dataclass(frozen=True)
class _Later:
    """What `results` computes something from."""

    function: Callable[[Tensor, Tensor | None], Any]
    tensor: Tensor
    mask: Tensor | None

    @property
    def together(self) -> int:
        """How many of its shape can be looked at together."""
        shape = self.tensor.shape
        if not all(isinstance(size, int) for size in shape):
            return 1
        return max(_MOST_ELEMENTS // max(math.prod(shape), 1), 1)

    @property
    def key(self) -> Any:
        """Equal where the same code can be compiled for both."""
        if self.together == 1:
            return id(self)
        tensors = (self.tensor, *([] if self.mask is None else [self.mask]))
        return self.function, *map(jax.typeof, tensors)


def later(
    function: Callable[[Tensor, Tensor | None], Any],
    tensor: Tensor,
    mask: Tensor | None,
) -> Any:
    """What `results` needs to return what a function returns.

    Args:
        function: Takes a tensor and its mask, returns tensors in any
            structure; the same object for all of which one can be compiled.
        tensor: Its first argument.
        mask: Its second one.
    """
    if keras.backend.backend() == "jax":
        return _Later(function, tensor, mask)
    # On torch activations must not wait, and keep their memory.
    return function(tensor, mask)


def results(pending: Sequence[Any]) -> list[Any]:
    """What functions return, on JAX that of tensors of one shape at once.

    XLA compiles the code of each tensor by itself. That took most of the
    first epoch of a model with 60 watched layers.

    Args:
        pending: What `later` has returned, in the same trace.
    """
    if keras.backend.backend() != "jax":
        return list(pending)
    groups: dict[Any, list[int]] = {}
    for i, one in enumerate(pending):
        groups.setdefault(one.key, []).append(i)
    found: dict[int, Any] = {}
    for numbers in groups.values():
        most = pending[numbers[0]].together
        for start in range(0, len(numbers), most):
            some = numbers[start : start + most]
            found |= zip(
                some, _together([pending[i] for i in some]), strict=True
            )
    return [found[i] for i in range(len(pending))]


def _together(group: Sequence[_Later]) -> list[Any]:
    first = group[0]
    if len(group) == 1:
        return [first.function(first.tensor, first.mask)]
    tensors = jnp.stack([one.tensor for one in group])
    masks = first.mask
    if masks is not None:
        masks = jnp.stack([one.mask for one in group])
    stacked = jax.vmap(first.function)(tensors, masks)
    # Some are float64.
    with jax.enable_x64(True):
        return [
            jax.tree.map(lambda leaf, at=i: leaf[at], stacked)
            for i in range(len(group))
        ]
