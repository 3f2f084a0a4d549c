"""Recording of one model: its state, and how it reaches the model's steps."""

from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_actpen import backend, internals
from keras_actpen.accumulators import LayerState
from keras_actpen.optional_statistics import Values
from keras_actpen.places import Place
from keras_actpen.recording import log_key
from keras_actpen.snapshots import StatisticsSnapshot
from keras_actpen.stepping import SteppedFunction, Stopwatch
from keras_actpen.wrapper import PenalizedLayer


class Session:
    """Recording of one model, shared by all monitors of that model.

    Args:
        model: The model.
        layers: Its penalised layers by path.
    """

    def __init__(self, model: keras.Model, layers: dict[str, PenalizedLayer]):
        self.model = model
        self.layers = layers
        with backend.strategy_scope(model):
            self.states: dict[str, LayerState] = {
                path: LayerState(layer) for path, layer in layers.items()
            }
        self.states_by_id: dict[int, LayerState] = {
            id(state.layer): state for state in self.states.values()
        }
        # Names of the optional statistics that are taken.
        self.optional: set[str] = set()
        self.functions: dict[str, SteppedFunction] = {}
        # Phase of the last step that was recorded.
        self.last_recorded = "train"
        self._users: list[keras.callbacks.Callback] = []
        self._coefficients: dict[int, list[float]] = {}

    @classmethod
    def of(
        cls, model: keras.Model, layers: dict[str, PenalizedLayer]
    ) -> "Session":
        """The model's session; a new one if its layers have changed.

        Args:
            model: The model.
            layers: Its penalised layers by path, at least one.
        """
        # Kept with the model, for a later `fit` to compile nothing anew, and
        # not on it, because surgery hands a model's attributes on.
        attributes = vars(next(iter(layers.values())))
        session = attributes.get("_recording_session")
        if (
            session is None
            or session.model is not model
            or session.layers != layers
        ):
            session = cls(model, layers)
            attributes["_recording_session"] = session
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
            for state in self.states.values():
                state.add_optional(names)
        # They are made for the variables that there were.
        self.restore_functions()
        self.functions.clear()

    def install(self, user: keras.callbacks.Callback) -> None:
        """Start to hand the state through the model's steps.

        Args:
            user: The callback that records.
        """
        if user not in self._users:
            self._users.append(user)
        for state in self.states.values():
            state.install()
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
        terms = {
            log_key(path, name)
            for path, layer in self.layers.items()
            for name in layer.terms
        }
        if not isinstance(logs, dict) or not terms & set(logs):
            return report(logs)  # of a step that was not recorded
        logs = {k: v for k, v in logs.items() if k not in terms}
        return {**report(logs), **self.means(self.last_recorded)}

    def stand_in(self, phase: str) -> None:
        """Take the place of `model.train_function` or `test_function`."""
        plain = getattr(self.model, f"{phase}_function")
        if plain is self.functions.get(phase):
            return
        if phase not in self.functions or (
            self.functions[phase].plain is not plain
        ):
            self.functions[phase] = SteppedFunction(self, phase, plain)
        setattr(self.model, f"{phase}_function", self.functions[phase])

    def uninstall(self, user: keras.callbacks.Callback) -> None:
        """Put the plain functions back once the last user has left."""
        if user in self._users:
            self._users.remove(user)
        if self._users:
            return
        self.restore_functions()
        for state in self.states.values():
            state.uninstall()
        internals.unwrap_reported_logs(self.model)

    def restore_functions(self) -> None:
        """Leave the model its plain functions."""
        for function in self.functions.values():
            function.restore()

    def arm(
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
        if function.armed != "statistics":
            function.armed = what

    def reset(self, phase: str) -> None:
        """Start a new period."""
        for state in self.states.values():
            state.reset(phase)

    def snapshots(self) -> dict[tuple[str, Place], StatisticsSnapshot]:
        """Statistics of every watched place, by path and place."""
        return {
            (path, place): statistics.read()
            for path, state in self.states.items()
            for place, statistics in state.statistics.items()
        }

    def optional_values(
        self, names: Iterable[str]
    ) -> dict[tuple[str, Place], Values]:
        """Values of optional statistics, by path and place."""
        return {
            (path, place): state.optional_values(place, names)
            for path, state in self.states.items()
            for place in state.optional
        }

    def means(self, phase: str) -> dict[str, float]:
        """Mean of every term so far, by its key in `logs`, on the host."""
        means = {}
        for path, state in self.states.items():
            if not self.layers[path].terms:
                continue
            totals, samples = state.totals[phase].read()
            for name, total in totals.items():
                means[log_key(path, name)] = total / max(samples, 1.0)
        return means

    def with_coefficients(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments of a step in which changed coefficients are seen.

        Only on JAX is there something to do: its trainer keeps the values of
        variables apart while an epoch runs, and loses what a batch hook
        assigns without `model.jax_state_sync()`.
        """
        if keras.backend.backend() != "jax":
            return args
        current = {
            id(layer.coefficients.variable): list(layer.coefficients.values())
            for layer in self.layers.values()
            if layer.terms
        }
        if current == self._coefficients:
            return args
        self._coefficients = current
        (trainable, non_trainable, *others), *data = args
        non_trainable = list(non_trainable)
        variables = self.model.non_trainable_variables
        for index, variable in enumerate(variables):
            if id(variable) in current:
                # Again: a sync may have undone it since.
                variable.assign(current[id(variable)])
                non_trainable[index] = variable.value
        return (trainable, non_trainable, *others), *data

    def with_means(self, logs: Any, phase: str, state: Any) -> Any:
        """Logs of a step with the mean of every term so far, on the device.

        Args:
            logs: What the model's own step returned.
            phase: `"train"` or `"test"`.
            state: On JAX the values of `model.non_trainable_variables`.
        """
        if not isinstance(logs, dict):
            return logs
        values = {}
        if state is not None:
            variables = self.model.non_trainable_variables
            values = {
                id(v): value for v, value in zip(variables, state, strict=True)
            }
        logs = dict(logs)
        for path, layer_state in self.states.items():
            if not self.layers[path].terms:
                continue
            totals = layer_state.totals[phase]
            means = totals.means(values.get(id(totals.sums)))
            for name, mean in zip(totals.terms, means, strict=True):
                logs[log_key(path, name)] = mean
        return logs
