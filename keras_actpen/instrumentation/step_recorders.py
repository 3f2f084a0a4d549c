"""What a step of a model records of each call of a penalized layer."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_actpen import backend, internals
from keras_actpen.attach.capture import Watched
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import MaskedTensors, Tensor
from keras_actpen.instrumentation.run_state import RunState, SpecKey
from keras_actpen.instrumentation.term_totals import TermKey
from keras_actpen.penalties.reductions import expand_mask
from keras_actpen.statistics.since_fired import fired_in


@dataclasses.dataclass
class _Waiting:
    """What calls have shown that is added to the state later, all at once.

    Attributes:
        trace: The trace in which it can be used.
        terms: Not values: torch runs the gradients in the order in which
            values are computed, and a step in another order takes longer.
        fired: What `fired_in` has returned, by rows.
        batches: What `ActivationStatistics.seen` returned, by rows.
    """

    trace: tuple[object, object]
    terms: list[tuple[str, Callable[[], dict[str, Tensor]]]] = (
        dataclasses.field(default_factory=list)
    )
    fired: dict[int, list[Any]] = dataclasses.field(default_factory=dict)
    batches: dict[int, Any] = dataclasses.field(default_factory=dict)


class TermRecorder:
    """Adds the terms of one step to the model's state, as part of the step.

    In training it also notes which units fire, if that is asked for.

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
        self.model_called: bool = False
        # Paths of layers whose weights were taken.
        self._weighed: set[str] = set()
        # Of the step, then of the model's running call.
        self._waiting: list[_Waiting] = [_Waiting(_running_trace())]
        self._since_fired = state.since_fired if phase == "train" else None
        # By layers, the outermost layer of a call that may be repeated.
        self._repeatable: dict[int, keras.layers.Layer] = {}

    def record(
        self,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take one call of one layer."""
        self.called_layers.add(id(layer))
        path = self.state.paths.get(id(layer))
        if path is None or self._is_repeated(layer):
            return
        self._add(path, layer, watched, terms)

    def record_weights(
        self,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take the weights of one layer, once per step."""
        path = self.state.paths.get(id(layer))
        if path is not None and path not in self._weighed:
            self._weighed.add(path)
            self._add(path, layer, watched, terms)

    def asked(self, layer: PenalizedLayer) -> None:
        """Take note that somebody asks for the losses of a layer."""
        self.asked_layers.add(id(layer))

    def _is_repeated(self, layer: PenalizedLayer) -> bool:
        """Whether the gradients repeat a call, by `tf.recompute_grad`.

        It then starts below the model, or wherever the first one started.
        """
        if self.phase != "train":
            return False
        is_hidden = backend.is_hidden_from_tapes()
        if not (is_hidden or id(layer) in self._repeatable):
            return False
        entry = internals.entry_layer(layer)
        first = self._repeatable.setdefault(id(layer), entry)
        return not is_hidden and first is not entry

    @contextlib.contextmanager
    def calling_model(self) -> Iterator[None]:
        """The model's `call` runs in this block.

        On JAX it is a functional call, which nothing leaves but its state.
        """
        self.model_called = True
        if self._waiting_here() is not None:
            yield
            return
        self._waiting.append(_Waiting(_running_trace()))
        try:
            yield
            self._add_waiting(0.0)
        finally:
            self._waiting.pop()

    def _waiting_here(self) -> _Waiting | None:
        """What waits and can be used together with what is computed here."""
        trace = _running_trace()
        return next((one for one in self._waiting if one.trace == trace), None)

    def _add(
        self,
        path: str,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Add what one call of one layer has shown."""
        # If nothing waits here, these tensors are soon out of scope.
        waiting = self._waiting_here()
        if layer.actpen.terms and waiting is not None:
            waiting.terms.append((path, terms))
        elif layer.actpen.terms:
            values = {(path, name): value for name, value in terms().items()}
            self.state.totals[self.phase].add(values, self.samples, 0.0)
        if self._since_fired is None:
            return
        fired = self._fired_units(path, watched)
        if waiting is None:
            self._since_fired.update(fired)
            return
        for row, new in fired.items():
            waiting.fired.setdefault(row, []).extend(new)

    def _fired_units(self, path: str, watched: Watched) -> dict[int, list[Any]]:
        """Which units have fired in a call, by rows."""
        fired = {}
        for spec, tensors in watched.items():
            row = self.state.rows[path, spec]
            units = self._since_fired.units(row)
            new = fired_in(tensors, units) if units else None
            if new:
                fired[row] = new
        return fired

    def finish(self) -> None:
        """End the step: count its samples, add all that could wait."""
        self._add_waiting(1.0)

    def _add_waiting(self, steps: float) -> None:
        """Add what waits for the end of the running block, all at once.

        Args:
            steps: 1 at the end of the step, whose samples are counted then.
        """
        waiting = self._waiting[-1]
        if waiting.fired:
            self._since_fired.update(waiting.fired)
        if self.phase not in self.state.totals:
            return
        values: dict[TermKey, Tensor] = {}
        for path, terms in waiting.terms:
            for name, value in terms().items():
                before = values.get((path, name))
                values[path, name] = value if before is None else before + value
        if values or steps:
            self.state.totals[self.phase].add(values, self.samples, steps)


class StatisticsRecorder(TermRecorder):
    """Also takes the statistics of the activations."""

    def __init__(self, state: RunState, phase: str, samples: Tensor | float):
        super().__init__(state, phase, samples)
        # Of the calls that can be used together.
        self._seen: dict[SpecKey, MaskedTensors] = {}
        self._seen_in = _running_trace()
        # Those called more than once, whose histogram can wait.
        self._unjoined: dict[SpecKey, None] = {}

    def _add(
        self,
        path: str,
        layer: PenalizedLayer,
        watched: Watched,
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Add what one call of one layer has shown."""
        super()._add(path, layer, watched, terms)
        if _running_trace() != self._seen_in:
            self._seen_in = _running_trace()
            self._seen.clear()
            self._unjoined.clear()
        for spec, tensors in watched.items():
            for activations, mask in tensors:
                self._take((path, spec), activations, mask)

    def _take(
        self, key: SpecKey, activations: Tensor, mask: Tensor | None
    ) -> None:
        statistics = self.state.statistics_of(self.phase)
        row = self.state.rows[key]
        new = statistics.seen(row, activations, mask)
        waiting = self._waiting_here()
        if waiting is None:
            statistics.update({row: new})
        else:
            if row in waiting.batches:
                self._update(waiting)
            waiting.batches[row] = new
        if statistics is self.state.statistics:
            for optional in self.state.optional[key].values():
                optional.update(activations, mask)
        # The histogram is that of all calls of the layer in the step, or in
        # its last part that is differentiated or traced by itself.
        seen = self._seen.setdefault(key, [])
        seen.append((activations, mask))
        if len(seen) == 1:
            return
        if waiting is None:
            statistics.update_histogram(row, *_joined(seen))
        else:
            self._unjoined[key] = None

    def _update(self, waiting: _Waiting) -> None:
        """Take the statistics that wait, all at once."""
        if waiting.batches:
            self.state.statistics_of(self.phase).update(waiting.batches)
            waiting.batches = {}

    def _add_waiting(self, steps: float) -> None:
        """Add what waits, the statistics too."""
        super()._add_waiting(steps)
        self._update(self._waiting[-1])
        for key in self._unjoined:
            self.state.statistics_of(self.phase).update_histogram(
                self.state.rows[key], *_joined(self._seen[key])
            )
        self._unjoined.clear()


def _running_trace() -> tuple[object, object]:
    """What the running call is traced into.

    Tensors that are made while it is the same can be used together. On JAX
    nothing leaves a function that is being differentiated but what it
    returns, and each functional call of a model has a scope of its own.
    """
    return internals.stateless_scope(), backend.running_graph()


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
