"""Kinds of findings, and from which value on there is one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from keras_actpen.penalties.validation import (
    check_number,
    invalid_type,
    invalid_value,
)

Kind: TypeAlias = Literal[
    "unused",
    "not_called",
    "frozen",
    "nonfinite",
    "exploding",
    "dead",
    "saturated",
    "dominating",
    "negligible",
]
# What `alerts` may be.
AlertKinds: TypeAlias = (
    Literal["sparse"] | Sequence[Kind] | Mapping[Kind, float | None]
)

# From which value on there is a finding, by kind; for "negligible" below
# which, for "nonfinite" above which. In the order in which they are reported.
THRESHOLDS: dict[Kind, float] = {
    # Facts, which have no threshold: their value is 1.
    "unused": 1.0,
    "not_called": 1.0,
    "frozen": 1.0,
    # Number of elements: NaN never goes away by itself.
    "nonfinite": 0.0,
    # Root mean square of the activations. Initializers keep it near 1 (He,
    # Zhang, Ren, Sun 2015, "Delving Deep into Rectifiers").
    "exploding": 1000.0,
    # Share of the units: `threshold_layer` of the rule DeadRelu of SageMaker
    # Debugger.
    "dead": 0.5,
    # Share of the activations: `threshold_layer` of its SaturatedActivation.
    "saturated": 0.5,
    # Share of a layer's penalty in the loss: more than all the rest.
    "dominating": 0.5,
    # The same: 1 % of the share of the gradient, 0.01, from which on a
    # penalty usually matters, see `penalty_gradient_share`.
    "negligible": 1e-4,
}

# Facts about a layer, which are true or not, by kind.
FACTS: dict[str, str] = {
    "unused": (
        "your train_step or compute_loss does not add `sum(self.losses)`; "
        "the penalty is not in the loss"
    ),
    "not_called": (
        "the layer was not called in any step of the model; its penalty is 0 "
        "(does the model's code call another object, or bypass it?)"
    ),
    "frozen": (
        "nothing that the penalty depends on is trainable; it changes no weight"
    ),
}

# For sparse autoencoders: during a warm-up the penalty is almost none of the
# loss at first, and most of it later.
PRESETS: dict[str, tuple[str, ...]] = {
    "sparse": tuple(
        kind for kind in THRESHOLDS if kind not in ("dominating", "negligible")
    )
}

# Kinds whose threshold is a share.
SHARES = ("dead", "saturated", "dominating", "negligible")


def thresholds_from(
    argument: str, given: Any, defaults: Mapping[Kind, float]
) -> dict[str, float]:
    """Threshold of every kind that is looked for.

    Args:
        argument: Name of the argument that was given.
        given: A sequence of the kinds, a mapping from kinds to thresholds
            other than the default ones, `None` to leave a kind out, or a key
            of `PRESETS`.
        defaults: The default thresholds.

    Raises:
        TypeError: If `given` or a threshold has another type.
        ValueError: If a kind is unknown or a threshold out of range.
    """
    if isinstance(given, str) and given in PRESETS:
        given = PRESETS[given]
    if isinstance(given, str) or not isinstance(given, Mapping | Sequence):
        raise invalid_type(
            argument,
            "a sequence of kinds, () for none, a mapping from kinds to "
            f"thresholds, or one of {list(PRESETS)}",
            given,
        )
    for kind in given:
        if kind not in THRESHOLDS:
            expected = f"kinds among {list(THRESHOLDS)}"
            raise invalid_value(argument, expected, repr(kind))
    if not isinstance(given, Mapping):
        return {kind: defaults[kind] for kind in given}
    chosen = {**defaults, **given}
    return {
        kind: check_number(
            f"{argument}[{kind!r}]",
            value,
            *_range(kind),
        )
        for kind, value in chosen.items()
        if value is not None
    }


def _range(kind: str) -> tuple[str, Callable[[float], bool]]:
    """What a threshold of a kind may be: in words, and as a test."""
    otherwise = "or None to leave this kind out"
    if kind in FACTS:
        return f"1, {otherwise}", lambda number: number == 1
    if kind in SHARES:
        expected = f"a share from 0 to 1, 0.5 for 50 %, {otherwise}"
        return expected, lambda number: 0 <= number <= 1
    return f"a finite number >= 0, {otherwise}", lambda number: number >= 0
