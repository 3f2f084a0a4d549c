"""Which tensors suit a penalty: rank, units, what the activation can give."""

from dataclasses import dataclass
from typing import Any, NoReturn

import keras
import numpy as np
from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.penalties.validation import invalid_value

# Wide enough to tell relu6 and leaky slopes from values in [0, 1].
_PROBE = np.linspace(-20.0, 20.0, 81, dtype="float32")[None]


@dataclass(frozen=True)
class Target:
    """What a class of penalties requires of the tensor it is attached to.

    Attributes:
        rank: Smallest number of axes.
        axes: Those axes in words.
        largest_rank: Largest number of axes, `None` for any.
        units: Smallest number of units, the size of the last axis.
        logits: Whether an activation other than linear is refused.
    """

    rank: int = 0
    axes: str = "(batch, ..., units)"
    largest_rank: int | None = None
    units: int = 0
    logits: bool = False

    def check(
        self,
        penalty: Any,
        tensor: Tensor,
        activation: Activation | None,
        on: str,
    ) -> None:
        """Refuse a tensor that lacks what `penalty` requires."""
        rank, largest = len(tensor.shape), self.largest_rank
        if rank < self.rank or (largest is not None and rank > largest):
            refuse_shape(
                penalty,
                f"a layer whose output has the axes {self.axes}",
                tensor,
            )
        if self.logits:
            check_logits(penalty, activation, on)
        units = tensor.shape[-1] if rank else None
        if units is not None and units < self.units:
            refuse_shape(
                penalty, f"a layer with at least {self.units} units", tensor
            )


def refuse(
    penalty: Any, expected: str, received: str, advice: str = ""
) -> NoReturn:
    """Raise the ValueError of a target that does not suit `penalty`."""
    expected = f"for {type(penalty).__name__} {expected}"
    raise invalid_value("layers", expected, received, advice)


def refuse_shape(penalty: Any, expected: str, tensor: Tensor) -> NoReturn:
    """Raise the ValueError of a target whose shape does not suit."""
    refuse(penalty, expected, f"an output of shape {tuple(tensor.shape)}")


def describe(activation: Activation | None, on: str) -> str:
    """Say in words what is penalized."""
    if on == "preactivation":
        return "the layer's pre-activation"
    if on != "output":
        return f"the layer's {on}"
    if activation is None:
        return "the output of a layer without an `activation`"
    name = getattr(activation, "__name__", type(activation).__name__)
    return f"an output after activation={name!r}"


def probe(activation: Activation | None, on: str) -> Tensor | None:
    """Values of the activation from -20 to 20, `None` if they are unknown.

    Users' own activations are probed like Keras's: there is no list of names.
    """
    if on == "preactivation":
        return ops.convert_to_tensor(_PROBE)
    # A layer as an activation may have weights: calling would build it.
    layer = isinstance(activation, keras.layers.Layer)
    if on != "output" or activation is None or layer:
        return None
    try:
        values = activation(ops.convert_to_tensor(_PROBE))
    except Exception:  # a user's function may refuse the probe in any way
        return None
    return values if tuple(values.shape) == _PROBE.shape else None


def lies_in(values: Tensor | None, low: float, high: float) -> bool:
    """Whether probed values are known to lie between `low` and `high`."""
    if values is None:
        return False
    least, most = float(ops.min(values)), float(ops.max(values))
    return low - 1e-6 <= least and most <= high + 1e-6


def is_softmax(values: Tensor | None) -> bool:
    """Whether probed values are known to be probabilities of one choice."""
    return lies_in(values, 0.0, 1.0) and (
        abs(float(ops.sum(values)) - 1.0) < 1e-4
    )


def check_logits(penalty: Any, activation: Activation | None, on: str) -> None:
    """Refuse what is known not to be logits: any activation but linear."""
    if on != "output" or activation is None:
        return
    values = probe(activation, on)
    identity = ops.convert_to_tensor(_PROBE)
    if values is not None and lies_in(values - identity, 0.0, 0.0):
        return
    refuse(
        penalty,
        "logits, a layer with a linear activation",
        describe(activation, on),
        "Write on='preactivation' for what this activation receives",
    )
