"""Device state that one training or evaluation accumulates for each layer."""

import itertools
from collections.abc import Iterable

import keras
import numpy as np
from keras import ops

from keras_actpen import backend, internals
from keras_actpen.device_state import DeviceState, state_variable
from keras_actpen.optional_statistics import (
    CURVES,
    STATES,
    OptionalStatistic,
    Values,
)
from keras_actpen.penalties.reductions import expand_mask
from keras_actpen.places import Place, Watched
from keras_actpen.statistics import ActivationStatistics
from keras_actpen.tensors import MaskedTensors, Tensor
from keras_actpen.wrapper import PenalizedLayer


class TermTotals(DeviceState):
    """Sums of a layer's terms over the samples of a period, on the device.

    Each term is weighted by the batch size, as Keras weighs the loss that it
    reports. The sums are compensated (Kahan 1965, "Further remarks on
    reducing truncation errors"): they stay exact to float32 however many
    batches there are.

    Args:
        terms: Names of the terms.
    """

    def __init__(self, terms: list[str]):
        super().__init__()
        self.terms = terms
        # Sums of the terms and of the samples, and what they lack.
        self.sums: keras.Variable = state_variable(
            (2, len(terms) + 1), "term_totals"
        )

    def add(
        self, values: dict[str, Tensor], samples: Tensor, new_samples: Tensor
    ) -> None:
        """Add one call of the layer, as part of a compiled step.

        Args:
            values: Coefficient times value of every term.
            samples: Batch size of the step.
            new_samples: `samples` in the first call of the layer in a step,
                0 in its further calls.
        """
        weighted = [
            ops.cast(values[name], "float32") * samples for name in self.terms
        ]
        addend = ops.stack([*weighted, new_samples])
        sums, lacking = ops.unstack(ops.convert_to_tensor(self.sums), 2)
        addend = addend - lacking
        new = sums + addend
        self.sums.assign(ops.stack([new, (new - sums) - addend]))

    def means(self, state: Tensor | None = None) -> list[Tensor]:
        """Mean of every term over the samples so far, as tensors.

        Args:
            state: Value of `sums` where it is not in the variable, inside
                JAX's functional steps.
        """
        if state is None:
            state = ops.convert_to_tensor(self.sums)
        # Fewer operations than slices are.
        sums, _ = ops.unstack(state, 2)
        *totals, samples = ops.unstack(sums, len(self.terms) + 1)
        return [ops.divide_no_nan(total, samples) for total in totals]

    def read(self) -> tuple[dict[str, float], float]:
        """Sum of every term over the samples, and their number, on the host.

        Right over all replicas of this process.
        """
        sums = np.zeros(len(self.terms) + 1)
        for local in backend.local_values(self.sums):
            sums += local[0].astype("float64") - local[1]
        *totals, samples = sums.tolist()
        return dict(zip(self.terms, totals, strict=True)), samples


class LayerState:
    """What is accumulated for one penalised layer in one training.

    Args:
        layer: The layer; it must have been called, symbolically or not.
    """

    def __init__(self, layer: PenalizedLayer):
        self.layer = layer
        # None where the layer is only watched.
        self.totals: dict[str, TermTotals] = {
            phase: TermTotals(list(layer.terms))
            for phase in ("train", "test")
            if layer.terms
        }
        self.statistics: dict[Place, ActivationStatistics] = {
            place: ActivationStatistics(layer.place_units.get(place))
            for place in layer.places
        }
        # Those that were asked for, by their class.
        self.optional: dict[
            Place, dict[type[OptionalStatistic], OptionalStatistic]
        ] = {place: {} for place in layer.places}

    def add_optional(self, names: Iterable[str]) -> None:
        """Take the statistics of these names too, where they have a sense."""
        for place, states in self.optional.items():
            units = self.layer.place_units.get(place)
            for kind in {STATES[name]: None for name in names}:
                if kind not in states and kind.applies_to(
                    self.layer, place, units
                ):
                    states[kind] = kind.of(self.layer, units)

    def optional_values(self, place: Place, names: Iterable[str]) -> Values:
        """Values of these statistics, where they are taken."""
        values = {}
        for name in names:
            state = self.optional[place].get(STATES[name])
            if state is not None and not values.keys() >= {*CURVES[name]}:
                values |= state.read()
        curves = [curve for name in names for curve in CURVES[name]]
        return {c: values[c] for c in curves if c in values}

    def statistics_at(self, place: Place) -> list[DeviceState]:
        """All states that take in the activations at a place."""
        return [self.statistics[place], *self.optional[place].values()]

    def sublayers(self) -> list[DeviceState]:
        """The layers that hold the variables."""
        statistics = map(self.statistics_at, self.statistics)
        return [*self.totals.values(), *itertools.chain(*statistics)]

    def reset(self, phase: str) -> None:
        """Start a new period."""
        if phase in self.totals:
            self.totals[phase].reset()
        if phase == "train":
            for place in self.statistics:
                for statistics in self.statistics_at(place):
                    statistics.reset()

    def install(self) -> None:
        """Hand the state through the steps of models that hold the layer."""
        for sublayer in self.sublayers():
            internals.track(self.layer, sublayer)

    def uninstall(self) -> None:
        """Undo `install`."""
        for sublayer in self.sublayers():
            internals.untrack(self.layer, sublayer)


class TermRecorder:
    """Adds the terms of one step to the layers' states, as part of the step.

    Args:
        states: The states by the id of their layer.
        phase: `"train"` or `"test"`.
        samples: Batch size of the step, a float32 scalar.
    """

    def __init__(
        self, states: dict[int, LayerState], phase: str, samples: Tensor
    ):
        self.states = states
        self.phase = phase
        self.samples = samples
        self._called: set[int] = set()

    def record(
        self, layer: PenalizedLayer, watched: Watched, terms: dict[str, Tensor]
    ) -> None:
        """Take one call of one layer."""
        state = self.states.get(id(layer))
        if state is None or not terms:
            return
        first = id(layer) not in self._called
        self._called.add(id(layer))
        new_samples = self.samples if first else ops.zeros_like(self.samples)
        state.totals[self.phase].add(terms, self.samples, new_samples)


class StatisticsRecorder(TermRecorder):
    """Also takes the statistics of the activations."""

    def __init__(
        self, states: dict[int, LayerState], phase: str, samples: Tensor
    ):
        super().__init__(states, phase, samples)
        self._seen: dict[tuple[int, Place], MaskedTensors] = {}

    def record(
        self, layer: PenalizedLayer, watched: Watched, terms: dict[str, Tensor]
    ) -> None:
        """Take one call of one layer."""
        super().record(layer, watched, terms)
        state = self.states.get(id(layer))
        if state is None:
            return
        for place, tensors in watched.items():
            for statistics in state.statistics_at(place):
                for activations, mask in tensors:
                    statistics.update(activations, mask)
            # The histogram is that of all calls of the layer in the step.
            seen = self._seen.setdefault((id(layer), place), [])
            seen.extend(tensors)
            state.statistics[place].update_histogram(*_joined(seen))


def _joined(tensors: MaskedTensors) -> tuple[Tensor, Tensor | None]:
    """One tensor and one mask that hold the elements of several."""
    if len(tensors) == 1:
        return tensors[0]
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
