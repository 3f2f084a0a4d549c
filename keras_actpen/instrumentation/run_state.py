"""What one training or evaluation of a model accumulates."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import keras

from keras_actpen import backend, internals
from keras_actpen.attach.capture import ActivationSpec, Watched
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import MaskedTensors, Tensor
from keras_actpen.instrumentation.host_state import HostStatistics, HostTotals
from keras_actpen.instrumentation.term_totals import TermKey, TermTotals
from keras_actpen.penalties.reductions import expand_mask
from keras_actpen.statistics.activation_statistics import ActivationStatistics
from keras_actpen.statistics.device_state import DeviceState
from keras_actpen.statistics.optional import (
    CURVES,
    STATES,
    OptionalStatistic,
    Values,
)
from keras_actpen.statistics.snapshot import StatisticsSnapshot

# A watched place: the path of its layer and where it is.
PlaceKey: TypeAlias = tuple[str, ActivationSpec]


class RunState:
    """What is accumulated for the layers of one model in one training.

    Args:
        layers: The penalised layers by path; they must have been called,
            symbolically or not.
    """

    def __init__(self, layers: Mapping[str, PenalizedLayer]):
        self.layers: Mapping[str, PenalizedLayer] = layers
        self.paths: dict[int, str] = {
            id(layer): path for path, layer in layers.items()
        }
        terms = [
            (path, term)
            for path, layer in layers.items()
            for term in layer.terms
        ]
        self.is_on_host: bool = backend.is_on_host()
        # None where all layers are only watched.
        self.totals: dict[str, TermTotals | HostTotals] = {
            phase: HostTotals(terms) if self.is_on_host else TermTotals(terms)
            for phase in ("train", "test")
            if terms
        }
        self.places: list[PlaceKey] = [
            (path, place)
            for path, layer in layers.items()
            for place in layer.places
        ]
        self.rows: dict[PlaceKey, int] = {
            key: row for row, key in enumerate(self.places)
        }
        units = [
            layers[path].place_units.get(place) for path, place in self.places
        ]
        self.statistics: ActivationStatistics | HostStatistics = (
            HostStatistics(units)
            if self.is_on_host
            else ActivationStatistics(units)
        )
        # Those that were asked for, by their class.
        self.optional: dict[
            PlaceKey, dict[type[OptionalStatistic], OptionalStatistic]
        ] = {key: {} for key in self.places}

    def add_optional(self, names: Iterable[str]) -> None:
        """Take the statistics of these names too, where they have a sense."""
        for (path, place), states in self.optional.items():
            layer = self.layers[path]
            units = layer.place_units.get(place)
            for kind in {STATES[name]: None for name in names}:
                if kind not in states and kind.applies_to(layer, place, units):
                    states[kind] = kind.of(layer, units)

    def optional_values(self, names: Iterable[str]) -> dict[PlaceKey, Values]:
        """Values of these statistics at each place, where they are taken."""
        curves = [curve for name in names for curve in CURVES[name]]
        kinds = {STATES[name] for name in names}
        found = {}
        for key, states in self.optional.items():
            values = {}
            for kind in kinds & states.keys():
                values |= states[kind].read()
            found[key] = {c: values[c] for c in curves if c in values}
        return found

    def snapshots(self) -> dict[PlaceKey, StatisticsSnapshot]:
        """Statistics of every watched place."""
        return dict(zip(self.places, self.statistics.read(), strict=True))

    def parts(self) -> list[DeviceState]:
        """The layers that hold the variables."""
        parts = [*self.totals.values(), *self._of_activations()]
        return [part for part in parts if isinstance(part, DeviceState)]

    def _of_activations(self) -> list[DeviceState | HostStatistics]:
        optional = (states.values() for states in self.optional.values())
        return [self.statistics, *itertools.chain(*optional)]

    def reset(self, phase: str) -> None:
        """Start a new period."""
        parts = self._of_activations() if phase == "train" else []
        if phase in self.totals:
            parts.append(self.totals[phase])
        for part in parts:
            part.reset()

    def install(self) -> None:
        """Hand the state through the steps of the model."""
        for part in self.parts():
            internals.track(self._holder(), part)

    def uninstall(self) -> None:
        """Undo `install`."""
        for part in self.parts():
            internals.untrack(self._holder(), part)

    def _holder(self) -> PenalizedLayer:
        return next(iter(self.layers.values()))


class TermRecorder:
    """Adds the terms of one step to the model's state, as part of the step.

    Args:
        state: The state.
        phase: `"train"` or `"test"`.
        samples: Batch size of the step, a float or a float32 scalar.
    """

    def __init__(self, state: RunState, phase: str, samples: Tensor | float):
        self.state = state
        self.phase = phase
        self.samples = samples
        # Ids of the layers called, and of those asked for their losses.
        self.called_layers: set[int] = set()
        self.asked_layers: set[int] = set()
        self.model_called = False
        self._trace = _running_trace()
        # Not their values: torch runs the gradients in the order in which
        # values are computed, and a step in another order takes longer.
        self._unadded: list[tuple[str, Callable[[], dict[str, Tensor]]]] = []

    def record(
        self,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take one call of one layer."""
        self.called_layers.add(id(layer))
        path = self.state.paths.get(id(layer))
        if path is None or not layer.terms:
            return
        if _running_trace() is self._trace:
            self._unadded.append((path, terms))
            return
        # Nobody can at the end of the step.
        values = {(path, name): value for name, value in terms().items()}
        self.state.totals[self.phase].add(values, self.samples, 0.0)

    def asked(self, layer: PenalizedLayer) -> None:
        """Take note that somebody asks for the losses of a layer."""
        self.asked_layers.add(id(layer))

    def finish(self) -> None:
        """End the step: count its samples, add all that could wait at once."""
        if self.phase in self.state.totals:
            totals = self.state.totals[self.phase]
            totals.add(self._unadded_values(), self.samples, 1.0)

    def finish_functional(self, sums: Tensor) -> Tensor:
        """End a step of JAX, whose variables' values are handed on.

        Args:
            sums: Value of `TermTotals.sums` after the step.

        Returns:
            The value to hand on.
        """
        totals = self.state.totals[self.phase]
        values = self._unadded_values()
        return totals.sums_after(sums, values, self.samples, 1.0)

    def _unadded_values(self) -> dict[TermKey, Tensor]:
        values: dict[TermKey, Tensor] = {}
        for path, terms in self._unadded:
            for name, value in terms().items():
                before = values.get((path, name))
                values[path, name] = value if before is None else before + value
        return values


class StatisticsRecorder(TermRecorder):
    """Also takes the statistics of the activations."""

    def __init__(self, state: RunState, phase: str, samples: Tensor | float):
        super().__init__(state, phase, samples)
        # Of the calls that can be used together.
        self._seen: dict[PlaceKey, MaskedTensors] = {}
        self._seen_in = self._trace
        # Those called more than once, whose histogram can wait.
        self._unjoined: dict[PlaceKey, None] = {}

    def record(
        self,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take one call of one layer."""
        super().record(layer, watched, terms)
        path = self.state.paths.get(id(layer))
        if path is None:
            return
        if _running_trace() is not self._seen_in:
            self._seen_in = _running_trace()
            self._seen.clear()
            self._unjoined.clear()
        for place, tensors in watched.items():
            for activations, mask in tensors:
                self._take((path, place), activations, mask)

    def _take(
        self, key: PlaceKey, activations: Tensor, mask: Tensor | None
    ) -> None:
        statistics, row = self.state.statistics, self.state.rows[key]
        statistics.update(row, activations, mask)
        for optional in self.state.optional[key].values():
            optional.update(activations, mask)
        # The histogram is that of all calls of the layer in the step, or in
        # its last part that is differentiated or traced by itself.
        seen = self._seen.setdefault(key, [])
        seen.append((activations, mask))
        if len(seen) == 1:
            return
        if self._seen_in is self._trace:
            self._unjoined[key] = None
        else:
            statistics.update_histogram(row, *_joined(seen))

    def finish(self) -> None:
        """End the step: also take the histograms that could wait."""
        super().finish()
        for key in self._unjoined:
            self.state.statistics.update_histogram(
                self.state.rows[key], *_joined(self._seen[key])
            )


def _running_trace() -> object:
    """What the running call is traced into.

    Tensors that are made while it is the same object can be used together.
    On JAX nothing leaves a function that is being differentiated but what it
    returns, and each functional call of a model has a scope of its own.
    """
    if keras.backend.backend() == "jax":
        return internals.stateless_scope()
    return backend.running_graph()


def _joined(tensors: MaskedTensors) -> tuple[Tensor, Tensor | None]:
    """One tensor and one mask that hold the elements of several."""
    values, masks = [], []
    for activations, mask in tensors:
        if mask is None:
            mask = ops.ones_like(activations, dtype="bool")
        mask = ops.broadcast_to(
            expand_mask(mask, len(activations.shape)), ops.shape(activations)
        )
        values.append(ops.cast(ops.reshape(activations, (-1,)), "float32"))
        masks.append(ops.reshape(mask, (-1,)))
    return ops.concatenate(values), ops.concatenate(masks)
