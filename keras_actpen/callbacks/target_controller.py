"""TargetController: a coefficient that holds a measure at a target."""

import math
import warnings
from typing import Any

import keras

from keras_actpen import backend
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.callbacks.control_rules import GECO, PI, Limits, get_rule
from keras_actpen.callbacks.measures import (
    EFFECTS,
    TOLERANCE,
    Reading,
    check_target,
    check_units,
)
from keras_actpen.callbacks.term_refs import (
    TermRef,
    find_term,
    log_coefficients,
    move_coefficients,
)
from keras_actpen.instrumentation.session import Session
from keras_actpen.penalties.validation import check_choice, check_number


class TargetController(keras.callbacks.Callback):
    """Holds a measured quantity at a target by moving a term's coefficient.

    A share of zeros has no gradient, but the coefficient of a surrogate such
    as L1 decides it:

    ```python
    model = attach_penalty(model, "dense_4", l1=1e-3)
    model.fit(x, y, callbacks=[TargetController("dense_4/l1", 0.8)])
    ```

    Zeros come faster than they go, because a unit that is 0 everywhere learns
    nothing: start with a coefficient that is too small.

    Every `update_freq` steps the activations of one step are measured, as
    part of that step, and the coefficient is moved by `rule`. The error that
    the rule sees is `target - measured` for `zero_fraction` and
    `(target - measured) / |target|` for the others, signed so that it is
    above 0 if the coefficient is too small, and clipped to -1 to 1. Nothing
    is recompiled, and no other step waits for the device.

    The coefficient at the end of each epoch and the last measurement are in
    `logs`, hence in the history, as `penalty.coefficient/<path>/<term>` and
    `<measure>/<path>/<term>`; the terms are, as with `PenaltyMonitor`, which
    can stand beside it. A saved model keeps the current coefficient and the
    control goes on from there. `BackupAndRestore` restores weights only: the
    control then starts again from the attached coefficient.

    Args:
        term: `"path/term"`, as in `penalty_terms`, or the name of a term
            that only one layer has.
        target: What to hold the measure at.
        measure: `"zero_fraction"` (exact zeros), `"l0"` (mean number of units
            that fire per position), `"mean"` or `"rms"` of the activations
            that the term penalises, on the measured steps; or
            `"value"`, the term without its coefficient, the mean over all
            steps since the last move in the same epoch.
        rule: `"geco"`, which multiplies; `"pi"`, which adds and suits a
            coefficient of about the right size; or one of them with other
            gains, for example `keras_actpen.GECO(rate=0.5)`.
        update_freq: Steps from one move to the next, or `"epoch"` to move
            after the first step of every epoch.
        bounds: The smallest and the largest coefficient. By default a
            thousandth and a thousand times what the term was attached with.
        patience: Moves without progress, with the coefficient at a bound or
            the measure standing still, after which the target is given up.
        effect: What a larger coefficient does to the measure, `"raises"` or
            `"lowers"` it. By default `"raises"` for `zero_fraction`, else
            `"lowers"`, as for norms; `VarianceFloor` for one raises `rms`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a wrong value; when training starts,
            if the model has no such term, several have the name, or it was
            attached with 0; while training, if the term cannot move the
            measure to the target: the coefficient is at its upper bound, or
            the measure has not changed at all. At the lower bound, where the
            penalty is all but off, there is a warning only.
    """

    def __init__(
        self,
        term: str,
        target: float,
        measure: str = "zero_fraction",
        *,
        rule: str | GECO | PI = "geco",
        update_freq: int | str = 20,
        bounds: tuple[float, float] | None = None,
        patience: int = 10,
        effect: str | None = None,
    ):
        super().__init__()
        if not isinstance(term, str):
            raise TypeError(
                "Invalid type received for argument `term`. Expected "
                "'path/term' or the name of a term, for example "
                f"'dense_4/l1'. Received: term={term!r} (of type "
                f"{type(term).__name__})"
            )
        self.term = term
        self.measure: str = check_choice("measure", measure, tuple(EFFECTS))
        self.target: float = check_target(target, measure)
        self.rule: GECO | PI = get_rule(rule)
        if update_freq != "epoch":
            _check_count("update_freq", update_freq)
        self.update_freq = update_freq
        self.bounds: tuple[float, float] | None = (
            None if bounds is None else _check_bounds(bounds)
        )
        _check_count("patience", patience)
        self.patience = patience
        if effect is None:
            effect = EFFECTS[measure]
        self.effect: str = check_choice("effect", effect, ("raises", "lowers"))
        self._start()

    def _start(self) -> None:
        """What a training sets and a copy does not take along."""
        self._fitted: keras.Model | None = None
        self._session: Session | None = None
        self._site: TermRef | None = None
        self._limits: Limits | None = None
        self._memory: float | None = None
        # Whether the step before this one was measured, and steps since.
        self._pending = False
        self._waited = 0
        self._before = Reading()
        self._measured: float | None = None
        self._best = math.inf
        self._stuck = 0
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        """Arguments only: Keras Tuner deep-copies callbacks."""
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy that has seen no training."""
        super().__init__()
        vars(self).update(state)
        self._start()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the term and stand in for the model's train function."""
        self._start()
        # Not `self.model` in batch hooks: on JAX it syncs at every step.
        self._fitted = self.model
        self._site = find_term(self._fitted, self.term)
        check_units(self.target, self.measure, self._site)
        attached = self._site.attached
        if attached == 0:
            raise ValueError(
                "Invalid value received for argument `term`. Expected a term "
                "that was attached with a coefficient > 0, from which the "
                "control starts. Received: "
                f"term={self._site.key!r}, attached with 0"
            )
        low, high = self.bounds or (attached / 1000, attached * 1000)
        self._limits = Limits(low, high, attached)
        self._session = Session.of(self._fitted, penalized_layers(self._fitted))
        self._session.forget_others(self)
        self._session.install(self)
        self._session.stand_in("train")

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Start a new period."""
        self._session.state.reset("train")
        self._before = Reading()
        if self.update_freq == "epoch":
            self._waited = 0

    # No on_train_batch_end: Keras would wait for every step's logs.
    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Move the coefficient if the last step was measured."""
        if self._pending:
            backend.sync_variables(self._fitted)
            self._move()
        steps = self._fitted.steps_per_execution
        if self.update_freq == "epoch":
            self._pending = batch == 0
        else:
            self._waited += steps
            self._pending = self._waited >= self.update_freq
        if self._pending:
            self._waited = 0
        # The terms at every step: their means in `logs` are then exact.
        self._session.arm("train", "statistics" if self._pending else "terms")

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Move the coefficient if the last step was measured; log."""
        if self._pending:
            self._pending = False
            self._move()
        if logs is not None:
            log_coefficients([self._site], logs)
            if self._measured is not None:
                logs[f"{self.measure}/{self._site.key}"] = self._measured

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the terms of a validation apart from those of the training."""
        if self._session is not None:
            self._session.stand_in("test")
            self._session.state.reset("test")

    def on_test_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Record the terms of the coming step."""
        if self._session is not None:
            self._session.arm("test", "terms")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the model's own functions back."""
        self._session.uninstall(self)
        self._start()

    def _move(self) -> None:
        site, limits = self._site, self._limits
        state, term = self._session.state, (site.path, site.name)
        place = site.layer.actpen.terms[site.name].place
        totals, samples = state.totals["train"].read()
        now = Reading(
            state.snapshots()[site.path, place], totals[term], samples
        )
        measured = now.measure(self.measure, self._before, site)
        self._before = now
        if not math.isfinite(measured):
            return  # nothing but NaN: no reason to move
        error = self._error(measured)
        self._check_progress(measured, error)
        self._measured = measured
        coefficient, self._memory = self.rule.move(
            site.coefficient, min(max(error, -1.0), 1.0), self._memory, limits
        )
        move_coefficients(self._fitted, {site: coefficient})

    def _error(self, measured: float) -> float:
        """How far the measure is off; above 0 asks for more penalty."""
        error = self.target - measured
        if self.measure != "zero_fraction":
            error /= abs(self.target)
        return error if self.effect == "raises" else -error

    def _check_progress(self, measured: float, error: float) -> None:
        """Give up a target that the term cannot move the measure to.

        Raises:
            ValueError: If it cannot, and the penalty is strong.
        """
        site, limits = self._site, self._limits
        missed = abs(error) > TOLERANCE
        against = limits.high if error > 0 else limits.low
        at_bound = site.coefficient == against and (
            abs(error) > 0.99 * self._best
        )
        still = measured == self._measured
        if not (missed and (at_bound or still)):
            self._stuck = 0
            self._best = abs(error) if missed else math.inf
            return
        self._stuck += 1
        if self._stuck < self.patience:
            return
        where = "a coefficient of"
        bounded = site.coefficient == against
        if bounded:
            side = "upper" if error > 0 else "lower"
            where = f"the coefficient at its {side} bound"
        message = (
            "Invalid value received for argument `target`. Expected a value "
            f"that the term {site.key!r} can move `{self.measure}` to: after "
            f"{self.patience} moves without progress it is {measured:.4g} "
            f"with {where} {site.coefficient:.4g}. Choose another target, "
            "another penalty (L1 on the output of a ReLU makes zeros) or "
            f"other `bounds`. Received: target={self.target}"
        )
        if error > 0 or not bounded:
            self._session.uninstall(self)
            raise ValueError(message)
        self._stuck = 0
        if not self._warned:
            self._warned = True
            warnings.warn(message, stacklevel=2)


def _check_bounds(bounds: Any) -> tuple[float, float]:
    expected = "two finite numbers, 0 < low < high"
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise TypeError(
            "Invalid type received for argument `bounds`. Expected "
            f"{expected}. Received: bounds={bounds!r}"
        ) from None
    low = check_number("bounds[0]", low, expected, lambda value: value > 0)
    high = check_number("bounds[1]", high, expected, lambda value: value > low)
    return low, high


def _check_count(argument: str, value: Any) -> None:
    expected = "an integer >= 1"
    if argument == "update_freq":
        expected = f"'epoch' or {expected}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"Invalid type received for argument `{argument}`. Expected "
            f"{expected}. Received: {argument}={value!r} (of type "
            f"{type(value).__name__})"
        )
    if value < 1:
        raise ValueError(
            f"Invalid value received for argument `{argument}`. Expected "
            f"{expected}. Received: {argument}={value!r}"
        )
