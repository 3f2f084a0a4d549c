"""PenaltyScheduler: coefficients that follow a plan while a model trains."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_actpen import backend
from keras_actpen.attach.select import Entries
from keras_actpen.attach.user_warning import warn_user
from keras_actpen.callbacks.control_arguments import check_terms
from keras_actpen.callbacks.copyable_callback import CopyableCallback
from keras_actpen.callbacks.ownership import claim, owns, release
from keras_actpen.callbacks.step_count import StepCount, steps_done
from keras_actpen.callbacks.term_refs import (
    TermRef,
    log_coefficients,
    move_coefficients,
    select_terms,
)
from keras_actpen.penalties.validation import invalid_type, invalid_value

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule
UNITS = ("step", "epoch")


class PenaltyScheduler(CopyableCallback):
    """Multiplies the coefficients of penalty terms by a schedule.

    At step (or epoch) `t` the coefficient of a term is `schedule(t)` times
    the coefficient that the term was attached with, so that a term that was
    attached with 0 stays 0. Nothing is recompiled. The last coefficients
    remain when training ends.

    Steps count as for a learning rate schedule: batches that the optimizer
    has seen, earlier `fit`s included. Epochs count as Keras counts them,
    `initial_epoch` included. So a training that is resumed with
    `BackupAndRestore`, `initial_epoch` or `keras.models.load_model` goes on
    with the right coefficients. With `steps_per_execution=n` a coefficient
    changes every `n` steps. It warns if a `fit` from epoch 0 does not start
    with the value of step 0 because the optimizer has already taken steps
    without it.

    A term belongs to one scheduler at most. A `TargetController` with
    `start=1000` takes it over after that many steps, for example at the end
    of a warm-up, and the scheduler lets it go.

    The coefficients at the end of each epoch are in `logs`, and so in the
    history, as `penalty.coefficient/<path>/<term>`; `PenaltyMonitor` writes
    them to TensorBoard under the same tag.

    The usual shapes, with `schedules = keras.optimizers.schedules`:

    ```python
    # Linear warm-up from 0 over 1000 steps, then constant.
    PenaltyScheduler(schedules.PolynomialDecay(0.0, 1000, 1.0))
    # Linear ramp from 1 to 0.1; `power=2.0` for a quadratic one.
    PenaltyScheduler(schedules.PolynomialDecay(1.0, 1000, 0.1))
    # Cosine ramp from 1 to 0, after a warm-up of 100 steps.
    PenaltyScheduler(schedules.CosineDecay(1.0, 1000))
    PenaltyScheduler(
        schedules.CosineDecay(0.0, 1000, warmup_target=1.0, warmup_steps=100))
    # Cosine ramp from 0 to 1.
    PenaltyScheduler(lambda t: 0.5 - 0.5 * math.cos(math.pi * min(t / 1000, 1)))
    # Off until step 500, then on.
    PenaltyScheduler(schedules.PiecewiseConstantDecay([499], [0.0, 1.0]))
    # Cyclical (Fu et al. 2019, "Cyclical Annealing Schedule: A Simple Approach
    # to Mitigating KL Vanishing"): up over half of 1000 steps, then constant.
    PenaltyScheduler(lambda t: min(1.0, (t % 1000) / 500))
    # By epochs: double it every 10 epochs.
    PenaltyScheduler(lambda t: 2.0 ** (t // 10), unit="epoch")
    ```

    Example:
    >>> import numpy as np
    >>> from keras_actpen import attach_penalty
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(2, name="dense_4")])
    >>> model = attach_penalty(model, "dense_4", l2=0.5)
    >>> model.compile("sgd", "mse")
    >>> warm_up = PenaltyScheduler(lambda t: min(t / 2, 1.0), unit="epoch")
    >>> history = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=4, verbose=0,
    ...     callbacks=[warm_up])
    >>> history.history["penalty.coefficient/dense_4/l2"]
    [0.0, 0.25, 0.5, 0.5]

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`, or a
            function of the step (or epoch), an integer from 0, that returns a
            finite number >= 0.
        layers: Which penalized layers, as in `attach_penalty`; plain layers
            that a glob, regex, class or predicate also matches are left out.
        terms: Which terms of these layers: a name or a glob, or a sequence of
            them.
        unit: `"step"` or `"epoch"`: what the schedule is a function of.

    Raises:
        TypeError: If `schedule` cannot be called or `terms` is not a string.
        ValueError: If `unit` is unknown or `terms` is empty; when training
            starts, if an entry of `layers` matches no penalized layer, an
            entry of `terms` matches no term of these layers, or another
            callback moves one of the coefficients; while training, if the
            schedule returns no finite number >= 0.
    """

    # Keras then waits for no step's logs to call on_train_batch_end.
    async_safe = True

    def __init__(
        self,
        schedule: Callable[[int], Any],
        layers: Entries = "*",
        terms: str | Sequence[str] = "*",
        *,
        unit: Literal["step", "epoch"] = "step",
    ):
        super().__init__()
        if not callable(schedule):
            raise invalid_type(
                "schedule",
                "a keras.optimizers.schedules.LearningRateSchedule or a "
                "function of the step",
                schedule,
            )
        if unit not in UNITS:
            raise invalid_value("unit", "'step' or 'epoch'", f"unit={unit!r}")
        self.schedule = schedule
        self.layers = layers
        self.terms: tuple[str, ...] = check_terms(terms)
        self.unit = unit
        self._start()

    def _start(self) -> None:
        """What a training sets and a copy does not take along."""
        self._refs: list[TermRef] = []
        self._fitted: keras.Model | None = None
        self._value: Callable[[int], Any] = self.schedule
        # Whether the optimizer came with steps that this scheduler missed.
        self._missed_steps = False
        self._count = StepCount()
        # Last batches of calls that have run; Keras adds them in threads.
        self._ended: set[int] = set()
        # Of the call that began last.
        self._batch = 0

    def set_model(self, model: keras.Model) -> None:
        """Compare the optimizer's steps with those of the last training."""
        super().set_model(model)
        # Not later: the steps that BackupAndRestore restores in its
        # on_train_begin, maybe in epoch 0, are those of a resumed training.
        # One that was interrupted may have run.
        self._count.end_step()
        self._missed_steps = steps_done(model) > self._count.done

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the terms."""
        self._count = StepCount()
        # Not `self.model` in batch hooks: on JAX it syncs at every step.
        self._fitted = self.model
        self._refs = select_terms(self._fitted, self.layers, self.terms)
        for ref in self._refs:
            claim(ref, self, 0)
        self._warn_of_zeros()
        if isinstance(self.schedule, LearningRateSchedule):
            self._value = backend.compiled(self.schedule)

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Set the coefficients of the epoch's first step."""
        # Not earlier: BackupAndRestore restores in its on_train_begin.
        self._settle()
        self._count.begin_epoch(self._fitted)
        step = self._count.epoch_start
        if self._missed_steps and epoch == 0 and self.unit == "step":
            self._warn_of_late_start()
        self._move(epoch if self.unit == "epoch" else step, step)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Set the coefficients of the coming step."""
        step = self._count.begin_step(batch)
        self._ended.clear()
        self._batch = batch
        if self.unit == "step":
            self._move(step, step)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Take note that a step has run."""
        self._ended.add(batch)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take back what a step has changed that did not run."""
        # A thread may still have to call on_train_batch_end.
        in_threads = backend.ends_steps_in_threads()
        if not in_threads or self._count.is_missed_by(self._fitted):
            self._settle()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Log the coefficients."""
        self._settle()
        log_coefficients(self._refs, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Let go of the model."""
        release(self._refs, self)
        # More than was counted, if the last call ran several steps.
        count = self._count
        count.done = max(steps_done(self._fitted), count.done)
        self._start()
        self._count = count

    def _settle(self) -> None:
        """Count the last step if it has run, else take back its change."""
        count = self._count
        if not count.settle(max(self._ended, default=-1) >= self._batch):
            return
        if self.unit == "step" and count.done > count.epoch_start:
            self._move(count.done - 1, count.done - 1)

    def _warn_of_late_start(self) -> None:
        try:
            first = self._factor(0)
        except Exception:  # a schedule for later steps may do anything at 0
            return
        steps = self._count.done
        if self._factor(steps) != first:
            warn_user(
                f"PenaltyScheduler starts at step {steps} of its "
                "schedule, because the optimizer has already taken that many "
                "steps. To start at step 0, compile the model again with a "
                "new optimizer, or shift the schedule: "
                "`PenaltyScheduler(lambda t: schedule(max(0, t - "
                f"{steps})))`."
            )

    def _warn_of_zeros(self) -> None:
        zeros = [ref.key for ref in self._refs if ref.attached == 0]
        if zeros:
            warn_user(
                f"PenaltyScheduler leaves the coefficients of {zeros} at 0: "
                "it multiplies the coefficients that they were attached with, "
                "which are 0. Attach them with the coefficients that they "
                "should have where the schedule is 1."
            )

    def _move(self, t: int, step: int) -> None:
        """Set the coefficients for a time of the schedule.

        Args:
            t: The step or epoch.
            step: The step, from which on some may be a controller's.
        """
        factor = self._factor(t)
        move_coefficients(
            self._fitted,
            {
                ref: factor * ref.attached
                for ref in self._refs
                if owns(ref, self, step)
            },
        )

    def _factor(self, t: int) -> float:
        """Value of the schedule, a finite number >= 0."""
        try:
            value = self._on_the_host(t)
        except (TypeError, ValueError) as error:
            raise self._invalid(t, f"{type(error).__name__}: {error}") from (
                error
            )
        if not math.isfinite(value) or value < 0:
            raise self._invalid(t, value)
        return value

    def _on_the_host(self, t: int) -> float:
        if not isinstance(self.schedule, LearningRateSchedule):
            return float(self._value(t))
        # On an accelerator it would wait for the steps queued before it.
        with keras.device("cpu:0"):
            return float(self._value(np.int32(t)))

    def _invalid(self, t: int, received: Any) -> ValueError:
        return ValueError(
            "Invalid value received for argument `schedule`. Expected a "
            f"function of the {self.unit} that returns one finite number "
            f">= 0. Received: {received} for {self.unit} {t}"
        )
