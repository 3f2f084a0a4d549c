"""Recording of one model: its state, and how it reaches the model's steps."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_actpen import backend, internals
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key
from keras_actpen.instrumentation import step_logs
from keras_actpen.instrumentation.handed_coefficients import (
    HandedCoefficients,
)
from keras_actpen.instrumentation.run_state import RunState
from keras_actpen.instrumentation.step_checks import StepChecks
from keras_actpen.instrumentation.step_function import (
    StepFunction,
    Stopwatch,
)
from keras_actpen.instrumentation.step_recorders import TermRecorder


class Session:
    """Recording of one model, shared by all monitors of that model.

    Args:
        model: The model.
        layers: Its penalized layers by path.
    """

    def __init__(self, model: keras.Model, layers: dict[str, PenalizedLayer]):
        self.model = model
        self.layers = layers
        with backend.strategy_scope(model):
            self.state: RunState = RunState(layers)
        self.checks: StepChecks = StepChecks(model, layers)
        # Names of the optional statistics that are taken.
        self.optional: set[str] = set()
        self.functions: dict[str, StepFunction] = {}
        # Phase of the last step that was recorded.
        self.last_recorded = "train"
        # Keys that the steps of each phase have reported last.
        self.reported: dict[str, set[str]] = {"train": set(), "test": set()}
        # What the steps of each phase can record.
        self.recordable: dict[str, tuple[str, ...]] = {
            "train": ("terms", "statistics"),
            "test": ("terms",),
        }
        self._users: list[keras.callbacks.Callback] = []
        self.coefficients: HandedCoefficients = HandedCoefficients(
            model, layers.values()
        )
        # Of the terms in the logs.
        self.keys: list[str] = [
            log_key(path, name)
            for path, layer in layers.items()
            for name in layer.actpen.terms
        ]

    @classmethod
    def of(
        cls, model: keras.Model, layers: dict[str, PenalizedLayer]
    ) -> "Session":
        """The model's session; a new one for other layers or another device.

        Args:
            model: The model.
            layers: Its penalized layers by path, at least one.

        Raises:
            ValueError: If Keras runs in its NNX mode, on JAX.
        """
        if backend.hands_state_through() and keras.config.is_nnx_enabled():
            raise ValueError(
                "Invalid value received for argument `callbacks`. Expected "
                "callbacks of keras_actpen only without Keras's NNX mode, "
                "which compiles the `train_step` of the model's class and "
                "bypasses theirs: start Python with "
                "KERAS_NNX_ENABLED=false. Received: a callback that records "
                f"model {model.name!r}, with KERAS_NNX_ENABLED=true"
            )
        # Not on the model, because a rebuilt one gets its attributes.
        attached = next(iter(layers.values())).actpen
        session = attached.session
        if (
            session is None
            or session.model is not model
            or session.layers != layers
            or session.state.is_on_host != backend.is_on_host()
        ):
            session = attached.session = cls(model, layers)
        return session

    def record_also(self, names: Iterable[str]) -> None:
        """Take optional statistics too, on the instrumented steps.

        Args:
            names: Their names; what has been asked for once stays.
        """
        if self.optional >= {*names}:
            return
        self.optional.update(names)
        with backend.strategy_scope(self.model):
            self.state.add_optional(names)
        self._forget_functions()

    def record_validation(self) -> None:
        """Let evaluations take the statistics too."""
        if self.recordable["test"] == self.recordable["train"]:
            return
        self.recordable["test"] = self.recordable["train"]
        with backend.strategy_scope(self.model):
            self.state.add_validation()
        self._forget_functions()

    def _forget_functions(self) -> None:
        """Make the functions anew: they are made for variables as they were."""
        self.restore_functions()
        self.functions.clear()

    def follow_units(self) -> None:
        """Keep at every step which units have fired, from now on."""
        if self.state.since_fired is None:
            with backend.strategy_scope(self.model):
                self.state.follow_units()
            self._forget_functions()
        self.state.since_fired.reset()

    def install(self, user: keras.callbacks.Callback) -> None:
        """Start to hand the state through the model's steps.

        Args:
            user: The callback that records.
        """
        if user not in self._users:
            self._users.append(user)
        self.state.install()
        internals.wrap_reported_logs(self.model, self._reported_logs)

    def forget_others(self, user: keras.callbacks.Callback) -> None:
        """Forget the callbacks of trainings that were interrupted.

        Args:
            user: A callback of the training that begins.
        """
        # Keras gives all callbacks of one `fit` the same dictionary.
        self._users = [u for u in self._users if u.params is user.params]

    def _reported_logs(self, report: Callable[[Any], Any], logs: Any) -> Any:
        """Logs of a period from those of its last step."""
        self.coefficients.end_epoch()
        if not isinstance(logs, dict) or logs.keys().isdisjoint(self.keys):
            reported = report(logs)  # of a step that was not recorded
        else:
            logs = {k: v for k, v in logs.items() if k not in self.keys}
            reported = {**report(logs), **self.means(self.last_recorded)}
        if isinstance(reported, dict):
            self.reported[self.last_recorded] = {*reported}
        return reported

    def stand_in(self, phase: str) -> None:
        """Take the place of `model.train_function` or `test_function`."""
        name = f"{phase}_function"
        if getattr(self.model, name) is None:
            # Callbacks that are driven by hand, around `train_on_batch`.
            getattr(self.model, f"make_{name}")()
        plain = getattr(self.model, name)
        if plain is self.functions.get(phase):
            return
        if phase not in self.functions or (
            self.functions[phase].plain is not plain
        ):
            self.functions[phase] = StepFunction(self, phase, plain)
        setattr(self.model, name, self.functions[phase])

    def uninstall(self, user: keras.callbacks.Callback) -> None:
        """Put the plain functions back once the last user has left."""
        if user in self._users:
            self._users.remove(user)
        if self._users:
            return
        self.restore_functions()
        self.state.uninstall()
        internals.unwrap_reported_logs(self.model)

    def restore_functions(self) -> None:
        """Leave the model its plain functions."""
        for function in self.functions.values():
            function.restore()

    def begin_period(self, phase: str) -> None:
        """Forget what was recorded, and what no step has recorded."""
        self.state.reset(phase)
        if phase in self.functions:
            self.functions[phase].disarm()

    def request(
        self, phase: str, what: str, stopwatch: Stopwatch | None = None
    ) -> None:
        """Record the next step.

        Args:
            phase: `"train"` or `"test"`.
            what: `"terms"`, or `"statistics"` for both; several monitors get
                what any of them asks for.
            stopwatch: What times the step, if it is to be timed.
        """
        function = self.functions[phase]
        if stopwatch is not None:
            function.stopwatches.append(stopwatch)
        if function.requested != "statistics":
            function.requested = what

    def has_steps(self, phase: str) -> bool:
        """Whether there were steps in the period, recorded or not.

        An epoch has none after a generator has run out.
        """
        function = self.functions.get(phase)
        is_armed = function is not None and function.requested is not None
        return self.state.runs[phase] > 0 or is_armed

    def means(self, phase: str) -> dict[str, float]:
        """Mean of every term so far, by its key in `logs`, on the host."""
        if phase not in self.state.totals or not self.has_steps(phase):
            return {}
        totals, samples = self.state.totals[phase].read()
        if not samples:
            step = f"{phase}_step"
            warnings.warn(
                f"No step of model {self.model.name!r} was recorded: its "
                f"penalty terms read 0. Its `{phase}_function` did not call "
                f"`model.{step}`, which a `make_{phase}_function` of your own "
                "has to do.",
                stacklevel=2,
            )
        return {
            log_key(*term): total / max(samples, 1.0)
            for term, total in totals.items()
        }

    def end_step(self, phase: str) -> None:
        """A step has run; data of unknown length may end before it does."""
        self.state.runs[phase] += 1
        self.coefficients.end_step()

    def with_totals(self, logs: Any, phase: str) -> Any:
        """Logs of a step with the sums of the terms so far, on the device.

        Args:
            logs: What the model's own step returned.
            phase: `"train"` or `"test"`.
        """
        if phase not in self.state.totals:
            return logs
        sums = self.state.totals[phase].current()
        return step_logs.with_totals(logs, self.keys, sums)

    def end_functional_step(
        self, logs: Any, state: tuple[Any, ...], recorder: TermRecorder
    ) -> tuple[Any, tuple[Any, ...]]:
        """End a step that hands the values of the model's variables through.

        Args:
            logs: What the model's own step returned.
            state: Values of the model's variables, likewise.
            recorder: What has recorded the step.

        Returns:
            The logs and the values to hand on.
        """
        trainable, non_trainable, *others = state
        variables = self.model.non_trainable_variables
        values = zip(variables, non_trainable, strict=True)
        with keras.StatelessScope(state_mapping=list(values)) as scope:
            recorder.finish()
            logs = self.with_totals(logs, recorder.phase)
        non_trainable = [scope.get_current_value(v) for v in variables]
        return logs, (trainable, non_trainable, *others)
