"""Which outputs suit a penalty: rank, units, what the activation can give."""

from typing import Any, NoReturn

import keras
import numpy as np
from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor

# Wide enough to tell relu6 and leaky slopes from what lies in [0, 1].
_PROBE = np.linspace(-20.0, 20.0, 81, dtype="float32")[None]


def refuse(penalty: Any, expected: str, received: str) -> NoReturn:
    """Raise the ValueError of a target that does not suit `penalty`."""
    raise ValueError(
        "Invalid value received for argument `layers`. Expected for "
        f"{type(penalty).__name__} {expected}. Received: {received}"
    )


def check_rank(
    penalty: Any, output: Tensor, least: int, axes: str | None = None
) -> None:
    """Refuse an output with fewer axes than the penalty needs."""
    if len(output.shape) < least:
        axes = axes or "(batch, ..., units)"
        refuse(
            penalty,
            f"a layer whose output has the axes {axes}",
            f"an output of shape {tuple(output.shape)}",
        )


def check_units(penalty: Any, output: Tensor, least: int) -> None:
    """Refuse an output with fewer units than the penalty compares."""
    units = output.shape[-1]
    if units is not None and units < least:
        refuse(
            penalty,
            f"a layer with at least {least} units",
            f"an output of shape {tuple(output.shape)}",
        )


def describe(activation: Activation | None, on: str) -> str:
    """Say in words what is penalised."""
    if on == "preactivation":
        return "the layer's pre-activation"
    if activation is None:
        return "the output of a layer without an `activation`"
    name = getattr(activation, "__name__", type(activation).__name__)
    return f"an output after activation={name!r}"


def probe(activation: Activation | None, on: str) -> Tensor | None:
    """Values of the activation from -20 to 20, `None` if nobody can tell.

    Asking the function itself, not a list of names, lets users' own
    activations pass.
    """
    if on == "preactivation":
        return ops.convert_to_tensor(_PROBE)
    # A layer as an activation may have weights: calling would build it.
    if activation is None or isinstance(activation, keras.layers.Layer):
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


def check_logits(
    penalty: Any, output: Tensor, activation: Activation | None, on: str
) -> None:
    """Refuse what is known not to be logits: any activation but linear."""
    values = probe(activation, on)
    unknown = on == "output" and activation is None
    if unknown or (
        values is not None
        and lies_in(values - ops.convert_to_tensor(_PROBE), 0, 0)
    ):
        return
    refuse(
        penalty,
        "logits, a layer with a linear activation",
        f"{describe(activation, on)}. Write on='preactivation' for what this "
        "activation receives",
    )
