"""TargetController: a coefficient that holds a measure at a target."""

import math
from typing import Any, Literal

import keras

from keras_actpen import backend
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.callbacks.control_arguments import (
    check_bounds,
    check_move_freq,
    check_term,
)
from keras_actpen.callbacks.control_rules import (
    ControlRule,
    Limits,
    Memory,
    RuleName,
    get_rule,
)
from keras_actpen.callbacks.controller_state import (
    controller_states,
    forget_controller,
)
from keras_actpen.callbacks.copyable_callback import CopyableCallback
from keras_actpen.callbacks.measures import (
    EFFECTS,
    Effect,
    Measure,
    Reading,
    check_target,
    miss,
)
from keras_actpen.callbacks.ownership import claim, owns, release
from keras_actpen.callbacks.reach import Reach, check_reachable
from keras_actpen.callbacks.step_count import StepCount
from keras_actpen.callbacks.term_refs import (
    TermRef,
    find_term,
    log_coefficients,
    move_coefficients,
)
from keras_actpen.instrumentation.session import Session
from keras_actpen.penalties.validation import check_choice, check_integer


class TargetController(CopyableCallback):
    """Holds a measured quantity at a target by moving a term's coefficient.

    The share of zeros has no gradient, but the coefficient of a surrogate
    such as L1 controls it:

    ```python
    model = attach_penalty(model, "dense_4", l1=1e-3)
    model.fit(x, y, callbacks=[TargetController("dense_4/l1", 0.8)])
    ```

    Every `update_freq` steps the activations of one step are measured, as
    part of that step, and the coefficient is moved by `rule`. Nothing is
    recompiled, and no other step waits for the device.

    The default rule, `LogPI`, starts with 1/3000 of the attached
    coefficient, which may be ten times too small or too large. The published
    rules, `GECO` and `PI`, start with that coefficient itself; choose it too
    small rather than too large, because units that are 0 everywhere learn
    nothing. Their error is `target - measured`, divided by `|target|` unless
    the measure is a share, and clipped to -1 to 1.

    `logs`, and so the history, have the coefficient at the end of each epoch
    and the last measurement as `penalty.coefficient/<path>/<term>` and
    `<measure>/<path>/<term>`, and the terms, as with `PenaltyMonitor`, which
    can be used at the same time. The control of a saved model, or of one
    restored by `BackupAndRestore`, goes on where it was.

    A term belongs to one controller. Beside a `PenaltyScheduler` it needs a
    `start`, until which the term belongs to the scheduler, for example
    `[PenaltyScheduler(warm_up), TargetController("l1", 0.8, start=1000)]`.

    If the target is out of reach there is one warning, and the coefficient is
    held until the measure is on the other side of the target.

    Args:
        term: `"path/term"`, as in `penalty_terms`, or the name of a term
            that only one layer has.
        target: What to hold the measure at.
        measure: `"zero_fraction"` (exact zeros), `"l0"` (the mean number of
            units that are not 0, per position), `"mean"` or `"rms"` of the
            activations that the term penalizes, on the measured steps;
            `"dead_fraction"`, units that have not fired in the last 10,000
            positions; or `"value"`, the term without its coefficient, the
            mean over all steps since the last move in the same epoch.
        rule: `"log_pi"`, `"geco"`, which multiplies; `"pi"`, which adds and
            suits a coefficient of about the right size; or one of them with
            other gains, for example `keras_actpen.GECO(rate=0.5)`.
        update_freq: Steps from one move to the next, or `"epoch"` to move
            after the first step of every epoch.
        start: Batches that the optimizer has seen before the first move is
            prepared. Until then the coefficient is left alone.
        bounds: The smallest and the largest coefficient. By default 1e-4 and
            1e4 times the attached coefficient.
        patience: Moves without progress, with the coefficient at a bound or
            the measure standing still, after which the target is given up.
        effect: What a larger coefficient does to the measure: `"raises"` or
            `"lowers"` it. By default it raises the two shares and lowers the
            rest, as norms do; `VarianceFloor`, for example, raises `rms`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a wrong value; when training starts,
            if the model has no such term, several terms have the name, it was
            attached with 0, nothing that it depends on is trainable, the
            target is known to be out of reach (zeros of a sigmoid, an `l0`
            above the number of units), or another callback moves it.
    """

    def __init__(
        self,
        term: str,
        target: float,
        measure: Measure = "zero_fraction",
        *,
        rule: RuleName | ControlRule = "log_pi",
        update_freq: Literal["epoch"] | int = 20,
        start: int = 0,
        bounds: tuple[float, float] | None = None,
        patience: int = 10,
        effect: Effect | None = None,
    ):
        super().__init__()
        self.term: str = check_term(term)
        self.measure: str = check_choice("measure", measure, tuple(EFFECTS))
        self.target: float = check_target(target, measure)
        self.rule: ControlRule = get_rule(rule)
        self.update_freq = check_move_freq(update_freq)
        self.start: int = check_integer("start", start, "an integer >= 0", 0)
        self.bounds: tuple[float, float] | None = (
            None if bounds is None else check_bounds(bounds)
        )
        self.patience: int = check_integer(
            "patience", patience, "an integer >= 1", 1
        )
        effect = EFFECTS[measure] if effect is None else effect
        self.effect: str = check_choice("effect", effect, ("raises", "lowers"))
        self._start()

    def _start(self) -> None:
        """Set what belongs to a training."""
        self._fitted: keras.Model | None = None
        self._session: Session | None = None
        self._ref: TermRef | None = None
        self._limits: Limits | None = None
        self._memory: Memory = ()
        self._has_begun = False
        self._count = StepCount()
        # Whether the step before this one was measured, and steps since.
        self._pending = False
        self._waited = self._waited_before = 0
        self._before = Reading()
        self._measured: float | None = None
        self._reach: Reach | None = None

    def set_model(self, model: keras.Model) -> None:
        """Let the model's weight files have the state of the control."""
        super().set_model(model)
        # Not later: BackupAndRestore loads in its on_train_begin.
        controller_states(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the term and stand in for the model's train function."""
        self._start()
        # Not `self.model` in batch hooks: on JAX it syncs every time.
        self._fitted = self.model
        self._ref = find_term(self._fitted, self.term)
        check_reachable(self._fitted, self._ref, self.measure, self.target)
        claim(self._ref, self, self.start)
        attached = self._ref.attached
        low, high = self.bounds or (attached / 10000, attached * 10000)
        self._limits = Limits(low, high, attached)
        self._reach = Reach(self._ref, self.measure, self.target, self.patience)
        self._session = Session.of(self._fitted, penalized_layers(self._fitted))
        self._session.forget_others(self)
        if self.measure == "dead_fraction":
            self._session.follow_units()
        self._session.install(self)
        self._session.stand_in("train")

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Start a new period."""
        self._session.begin_period("train")
        self._before = Reading()
        self._count.begin_epoch(self._fitted)
        if self.update_freq == "epoch":
            self._waited = 0
        if not self._has_begun:
            # Not earlier: BackupAndRestore restores in its on_train_begin.
            self._has_begun = True
            self._begin()

    def _begin(self) -> None:
        """Set the first coefficient, where nothing has moved it before."""
        ref, states = self._ref, controller_states(self._fitted)
        states.running[ref.key] = self._state
        coefficient = ref.coefficient
        if ref.key in states.loaded:
            state = states.loaded.pop(ref.key)
            coefficient, self._memory = state["coefficient"], state["memory"]
            self._waited = state["waited"]
        elif coefficient == ref.attached and self.start == 0:
            coefficient = self._limits.clip(self.rule.first(coefficient))
        move_coefficients(self._fitted, {ref: coefficient})

    def _state(self) -> dict[str, Any]:
        """What a control that goes on from here has to know."""
        # Callbacks that save come before this one; the step may be done.
        has_run = self._count.has_run(self._session.state.runs["train"])
        if self._pending and has_run:
            self._move()
        return {
            "coefficient": self._ref.coefficient,
            "memory": list(self._memory),
            "waited": self._waited if has_run else self._waited_before,
        }

    # No on_train_batch_end: Keras would wait for every step's logs.
    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Move the coefficient if the last step was measured."""
        if self._pending:
            backend.sync_variables(self._fitted)
            self._move()
        self._waited_before = self._waited
        runs = self._session.state.runs["train"]
        step = self._count.begin_step(batch, runs)
        if not owns(self._ref, self, step):
            self._pending = False
        elif self.update_freq == "epoch":
            self._pending = batch == 0
        else:
            self._waited += self._fitted.steps_per_execution
            self._pending = self._waited >= self.update_freq
        if self._pending:
            self._waited = 0
        # The terms at every step: their means in `logs` are then exact.
        what = "statistics" if self._pending else "terms"
        self._session.request("train", what)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Move the coefficient if the last step was measured; log."""
        count, runs = self._count, self._session.state.runs["train"]
        if count.settle(count.has_run(runs)):
            self._waited, self._pending = self._waited_before, False
        if self._pending:
            self._move()
        if logs is not None:
            log_coefficients([self._ref], logs)
            if self._measured is not None:
                logs[f"{self.measure}/{self._ref.key}"] = self._measured

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the terms of a validation apart from those of the training."""
        if self._session is not None:
            self._session.stand_in("test")
            self._session.begin_period("test")

    def on_test_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Record the terms of the coming step."""
        if self._session is not None:
            self._session.request("test", "terms")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the model's own functions back."""
        self._session.uninstall(self)
        release([self._ref], self)
        forget_controller(self._fitted, self._ref.key)
        self._start()

    def _move(self) -> None:
        self._pending = False
        ref, limits = self._ref, self._limits
        now = Reading.of(ref, self._session.state)
        measured = now.measure(self.measure, self._before, ref)
        self._before = now
        if not math.isfinite(measured):
            return  # nothing but NaN: no reason to move
        self._measured = measured
        off = miss(measured, self.target, self.measure, self.effect)
        if self._reach.is_lost(measured, off, limits):
            return
        coefficient, self._memory = self.rule.move(
            limits.clip(ref.coefficient), off, self._memory, limits
        )
        move_coefficients(self._fitted, {ref: coefficient})
