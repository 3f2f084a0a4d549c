"""Compiled step functions that also record, next to the model's plain ones.

Keras looks up `model.train_function` at every step. While a monitor runs, a
`StepFunction` stands there: it runs the plain function unless it has been
armed for the next step, so that a training that was interrupted goes on as if
nothing had been there.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import keras
from keras import ops, tree

from keras_actpen import backend, internals
from keras_actpen.attach import recording
from keras_actpen.attach.user_warning import warn_user
from keras_actpen.backend.tensors import Tensor
from keras_actpen.instrumentation import step_logs, step_recorders
from keras_actpen.internals.attributes import attribute_in_front

_RECORDERS = {
    "terms": step_recorders.TermRecorder,
    "statistics": step_recorders.StatisticsRecorder,
}


# By how many seconds the first step with statistics may take longer.
LONG_TO_COMPILE = 10.0


class Stopwatch(Protocol):
    """Learns when a step begins, and when the device has finished it."""

    def start(self) -> None:
        """The step begins; nothing else is running."""

    def stop(self, what: str | None) -> None:
        """The step is done.

        Args:
            what: `"terms"` or `"statistics"`, what it recorded, or None.
        """


class StepFunction:
    """Stands in for `model.train_function` or `model.test_function`.

    Args:
        session: The session it belongs to.
        phase: `"train"` or `"test"`.
        plain: The function whose place it takes.
    """

    def __init__(self, session: Any, phase: str, plain: Callable[..., Any]):
        self.session = session
        self.phase = phase
        self.plain = plain
        self.requested: str | None = None
        # Those that time the next step; no other step is waited for.
        self.stopwatches: list[Stopwatch] = []
        # Of the first call of each function, which compiles it.
        self._first_seconds: dict[str | None, float] = {}
        # Made now, because on JAX the variables are gone between two steps.
        self._functions = {
            what: self._make(what) for what in session.recordable[phase]
        }
        # JAX's distributed functions are made for a number of variables.
        self._unrequested = (
            self._make(None) if backend.state_is_sharded() else (plain, None)
        )

    def __call__(self, *args: Any) -> Any:
        """Run one step, recording what has been armed."""
        session = self.session
        requested, self.requested = self.requested, None
        args = session.coefficients.in_arguments(args)
        if not self.stopwatches:
            result = self._run(requested, args)
        else:
            stopwatches, self.stopwatches = self.stopwatches, []
            backend.wait_for(args)
            for stopwatch in stopwatches:
                stopwatch.start()
            result = self._run(requested, args)
            backend.wait_for(result)
            for stopwatch in stopwatches:
                stopwatch.stop(requested)
        session.end_step(self.phase)
        if requested is None:
            return result
        session.last_recorded = self.phase
        if backend.hands_state_through():
            logs, state = result
            return step_logs.expanded(logs, session.keys), state
        return step_logs.expanded(result, session.keys)

    def _run(self, requested: str | None, args: tuple[Any, ...]) -> Any:
        if requested in self._first_seconds:
            return self._call(requested, args)
        if self.phase == "train" and not self._first_seconds:
            with backend.strategy_scope(self.session.model):
                internals.build_optimizer(self.session.model)
        began, used = time.perf_counter(), time.process_time()
        result = self._call(requested, args)
        # The clock counts what other processes do, and the processor's time
        # counts each thread: the smaller one is what this step took at most.
        self._first_seconds[requested] = min(
            time.perf_counter() - began, time.process_time() - used
        )
        if backend.compiles_steps(self.session.model):
            self._notice_compiling()
        return result

    def _notice_compiling(self) -> None:
        """Say so if the statistics take long to compile."""
        others = dict(self._first_seconds)
        seconds = others.pop("statistics", 0.0)
        # When the second of them has run: both compile what the model is.
        if len(others) != 1 or not seconds:
            return
        (without,) = others.values()
        if seconds - without > LONG_TO_COMPILE:
            warn_user(
                f"The first {self.phase} step that takes statistics, which "
                f"compiles it, took {seconds:.0f} seconds, the first one that "
                f"takes none {without:.0f} (watched layers: "
                f"{len(self.session.layers)}). Each training pays for it "
                "once. To make it shorter, watch fewer layers, or take no "
                "statistics with `PenaltyMonitor(statistics_freq=0)`."
            )

    def _call(self, requested: str | None, args: tuple[Any, ...]) -> Any:
        function, step = self._functions.get(requested, self._unrequested)
        try:
            if step is None:
                return function(*args)
            name = f"{self.phase}_step"
            with attribute_in_front(self.session.model, name, step):
                return function(*args)
        except KeyboardInterrupt:
            # Keras tells no callback of it.
            if backend.hands_state_through():
                internals.give_back_jax_state(self.session.model, args[0])
            self.session.restore_functions()
            raise

    def disarm(self) -> None:
        """Let the next step record nothing."""
        self.requested = None
        self.stopwatches = []

    def restore(self) -> None:
        """Leave the model its plain function."""
        self.disarm()
        model, name = self.session.model, f"{self.phase}_function"
        if getattr(model, name) is self:
            # One of an evaluation may have been made for our variables too.
            made_anew = backend.state_is_sharded() and self.phase == "test"
            setattr(model, name, None if made_anew else self.plain)

    def _make(
        self, requested: str | None
    ) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
        """Compile a step that records what is armed.

        Returns:
            The function, and the step if it looks that up whenever it runs.
        """
        model = self.session.model
        step = self._step(getattr(model, f"{self.phase}_step"), requested)
        name = f"{self.phase}_function"
        before = getattr(model, name)
        with attribute_in_front(model, f"{self.phase}_step", step):
            # A step function of its own: jax.jit caches by equality, and
            # bound methods of the same model are equal.
            getattr(model, f"make_{name}")(force=True)
        function = getattr(model, name)
        setattr(model, name, before)
        return function, step if backend.looks_up_step(model, name) else None

    def _step(
        self, inner: Callable[..., Any], requested: str | None
    ) -> Callable[..., Any]:
        session, phase = self.session, self.phase

        def step(*args: Any) -> Any:
            if requested is None:
                return inner(*args)
            recorder = _RECORDERS[requested](
                session.state, phase, _samples(args[-1])
            )
            with (
                recording.recording(recorder),
                session.checks.watching(recorder),
            ):
                result = inner(*args)
            if backend.hands_state_through():
                return session.end_functional_step(*result, recorder)
            recorder.finish()
            return session.with_totals(result, phase)

        return step


def _samples(data: Any) -> Tensor | float:
    """Batch size of a step as Keras counts it, a float32 scalar if unknown."""
    try:
        x = keras.utils.unpack_x_y_sample_weight(data)[0]
    except ValueError:  # data that only the model's own step can read
        x = data
    first = next(part for part in tree.flatten(x) if part is not None)
    size = first.shape[0]
    if size is not None:
        return float(size)
    return ops.cast(ops.shape(first)[0], "float32")
