"""Whether a term can move a measure to its target."""

import math

import keras

from keras_actpen.attach.frozen import frozen_layers
from keras_actpen.attach.user_warning import warn_user
from keras_actpen.callbacks.control_rules import Limits, Miss
from keras_actpen.callbacks.measures import TOLERANCE
from keras_actpen.callbacks.term_refs import TermRef
from keras_actpen.statistics.thresholds import FACTS

# Activations that are never exactly 0.
_NEVER_ZERO = ("sigmoid", "softmax", "softplus", "exponential", "log_sigmoid")


def check_reachable(
    model: keras.Model, ref: TermRef, measure: str, target: float
) -> None:
    """Refuse a target that is out of reach whatever the coefficient.

    Args:
        model: The model that is trained.
        ref: The term.
        measure: Name of the measure.
        target: Its target.

    Raises:
        ValueError: If it is known to be out of reach.
    """
    if ref.attached == 0:
        raise ValueError(
            "Invalid value received for argument `term`. Expected a term that "
            "was attached with a coefficient > 0, from which the control "
            f"starts. Received: term={ref.key!r}, attached with 0"
        )
    if frozen_layers(model, {ref.path: ref.layer}):
        raise ValueError(
            "Invalid value received for argument `term`. Expected a term that "
            f"changes a weight. Received: term={ref.key!r}: "
            f"{FACTS['frozen']}"
        )
    units = ref.units
    if measure == "l0" and units is not None and target > units:
        raise ValueError(
            "Invalid value received for argument `target`. Expected a number "
            f"of units that fire, at most the {units} units of the layer "
            f"{ref.path!r}. Received: target={target}"
        )
    activation = getattr(getattr(ref.layer, "activation", None), "__name__", "")
    if activation not in _NEVER_ZERO or ref.on != "output":
        return
    asks_for_zeros = (measure.endswith("_fraction") and target > 0) or (
        measure == "l0" and units is not None and target < units
    )
    if asks_for_zeros:
        raise ValueError(
            "Invalid value received for argument `measure`. Expected one "
            f"that the layer {ref.path!r} can reach: no output of "
            f"{activation!r} is ever exactly 0. Choose measure='mean' or a "
            "layer with zeros, such as one with a ReLU. Received: "
            f"measure={measure!r}, target={target}"
        )


class Reach:
    """Finds out that a target is out of reach, and warns of it once.

    It is if the coefficient is at a bound, or the measure stands still, while
    the measure comes no closer; and in reach again as soon as the measure is
    on the other side of it.

    Args:
        ref: The term.
        measure: Name of the measure.
        target: Its target.
        patience: Moves without progress until then.
    """

    def __init__(
        self, ref: TermRef, measure: str, target: float, patience: int
    ):
        self.ref = ref
        self.measure = measure
        self.target = target
        self.patience = patience
        self._measured: float | None = None
        self._best = math.inf
        self._stuck = 0
        # Whether it asked for more penalty when it was given up.
        self._given_up: bool | None = None
        self._has_warned = False

    def is_lost(self, measured: float, miss: Miss, limits: Limits) -> bool:
        """Whether the target is out of reach.

        Args:
            measured: The measure.
            miss: How far it is off.
            limits: What the coefficient may be.
        """
        asks_for_more = miss.share > 0
        if self._given_up not in (None, asks_for_more):
            self._given_up, self._stuck = None, 0
        if self._given_up is not None:
            return True
        against = limits.high if asks_for_more else limits.low
        is_bounded = self.ref.coefficient == against
        if not self._is_stuck(measured, abs(miss.share), is_bounded):
            return False
        self._given_up = asks_for_more
        if not self._has_warned:
            self._has_warned = True
            self._warn(measured, asks_for_more, is_bounded)
        return True

    def _is_stuck(self, measured: float, off: float, is_bounded: bool) -> bool:
        still = measured == self._measured
        comes_no_closer = is_bounded and off > 0.99 * self._best
        self._measured = measured
        if off > TOLERANCE and (comes_no_closer or still):
            self._stuck += 1
        else:
            self._stuck = 0
            self._best = off if off > TOLERANCE else math.inf
        return self._stuck >= self.patience

    def _warn(
        self, measured: float, asks_for_more: bool, is_bounded: bool
    ) -> None:
        where = "a coefficient of"
        if is_bounded:
            side = "upper" if asks_for_more else "lower"
            where = f"the coefficient at its {side} bound"
        warn_user(
            f"TargetController gives up the target {self.target} of the term "
            f"{self.ref.key!r}: after {self.patience} moves without progress "
            f"`{self.measure}` is {measured:.4g} with {where} "
            f"{self.ref.coefficient:.4g}. The coefficient is held until the "
            "measure is on the other side of the target. Choose another "
            "target, another penalty (L1 on the output of a ReLU makes zeros) "
            "or other `bounds`."
        )
