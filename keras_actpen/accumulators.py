"""Device state that one training or evaluation accumulates for each layer."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_actpen import backend, internals
from keras_actpen.penalties.reductions import expand_mask
from keras_actpen.places import Place
from keras_actpen.statistics import ActivationStatistics
from keras_actpen.wrapper import PenalizedLayer


class TermTotals(keras.layers.Layer):
    """Sums of a layer's terms over the samples of a period, on the device.

    Each term is weighted by the batch size, as Keras weighs the loss that it
    reports. The sums are compensated (Kahan 1965, "Further remarks on
    reducing truncation errors"): they stay exact to float32 however many
    batches there are.

    A layer only so that its variables pass through the compiled step of the
    layer that tracks it; it is never called.

    Args:
        terms: Names of the terms.
    """

    def __init__(self, terms: list[str]):
        super().__init__()
        self.terms = terms
        # Sums of the terms and of the samples, and what they lack.
        self.sums = keras.Variable(
            "zeros",
            shape=(2, len(terms) + 1),
            dtype="float32",
            trainable=False,
            autocast=False,
            synchronization="on_read",
            aggregation="sum",
            name="term_totals",
        )
        self.built = True

    @property
    def weights(self) -> list[keras.Variable]:
        """Empty: the state is not part of the model."""
        return []

    def add(self, values: dict[str, Any], samples, new_samples) -> None:
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

    def means(self, state=None) -> list[Any]:
        """Mean of every term over the samples so far, as tensors.

        Args:
            state: Value of `sums` where it is not in the variable, inside
                JAX's functional steps.
        """
        if state is None:
            state = ops.convert_to_tensor(self.sums)
        means = ops.divide_no_nan(state[0, :-1], state[0, -1])
        return [means[index] for index in range(len(self.terms))]

    def read(self) -> tuple[dict[str, float], float]:
        """Sum of every term over the samples, and their number, on the host.

        Right over all replicas of this process.
        """
        sums = np.zeros(len(self.terms) + 1)
        for local in backend.local_values(self.sums):
            sums += local[0].astype("float64") - local[1]
        *totals, samples = sums.tolist()
        return dict(zip(self.terms, totals, strict=True)), samples

    def reset(self) -> None:
        """Start a new period."""
        self.sums.assign(ops.zeros(self.sums.shape))


class LayerState:
    """What is accumulated for one penalised layer in one training.

    Args:
        layer: The layer; it must have been called, symbolically or not.
    """

    def __init__(self, layer: PenalizedLayer):
        self.layer = layer
        self.totals = {
            "train": TermTotals(list(layer.terms)),
            "test": TermTotals(list(layer.terms)),
        }
        self.statistics = {
            place: ActivationStatistics(layer.place_units.get(place))
            for place in layer.places
        }

    def sublayers(self) -> list[keras.layers.Layer]:
        """The layers that hold the variables."""
        return [*self.totals.values(), *self.statistics.values()]

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

    def __init__(self, states: dict[int, LayerState], phase: str, samples):
        self.states = states
        self.phase = phase
        self.samples = samples
        self._called: set[int] = set()

    def record(self, layer, watched, terms) -> None:
        """Take one call of one layer."""
        state = self.states.get(id(layer))
        if state is None:
            return
        first = id(layer) not in self._called
        self._called.add(id(layer))
        new_samples = self.samples if first else ops.zeros_like(self.samples)
        state.totals[self.phase].add(terms, self.samples, new_samples)


class StatisticsRecorder(TermRecorder):
    """Also takes the statistics of the activations."""

    def __init__(self, states: dict[int, LayerState], phase: str, samples):
        super().__init__(states, phase, samples)
        self._seen: dict[tuple[int, Place], list[tuple[Any, Any]]] = {}

    def record(self, layer, watched, terms) -> None:
        """Take one call of one layer."""
        super().record(layer, watched, terms)
        state = self.states.get(id(layer))
        if state is None:
            return
        for place, tensors in watched.items():
            statistics = state.statistics[place]
            for activations, mask in tensors:
                statistics.update(activations, mask)
            # The histogram is that of all calls of the layer in the step.
            seen = self._seen.setdefault((id(layer), place), [])
            seen.extend(tensors)
            statistics.update_histogram(*_joined(seen))


def _joined(tensors: list[tuple[Any, Any]]) -> tuple[Any, Any]:
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
