"""Gradients with respect to the activations inside a model."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.attach.capture import (
    only_tapped,
    received,
    tapped_activation,
    tensors_at,
    watched_at,
)
from keras_actpen.attach.inner_calls import padding_of, step_mask
from keras_actpen.attach.inner_layers import InnerLayer
from keras_actpen.attach.padding import mask_for
from keras_actpen.attach.weights import weight_of
from keras_actpen.backend.tensors import MaskedTensors, Tensor
from keras_actpen.internals import root_of
from keras_actpen.internals.attributes import attribute_in_front
from keras_actpen.penalties.base import Penalty
from keras_actpen.penalties.reductions import at_least_float32
from keras_actpen.reports.data import Batch

Layer = keras.layers.Layer


class Probe:
    """Sees what a layer puts out at a place, and shifts it.

    Args:
        path: Path of the layer.
        layer: A layer of the model, plain or penalized.
        spec: The place.
        within: Where the layer is, if it is inside another one.
    """

    def __init__(
        self,
        path: str,
        layer: Layer,
        spec: ActivationSpec,
        within: InnerLayer | None = None,
    ):
        self.path = path
        # A layer behind a penalized one is a twin of it.
        self.layer: Layer = root_of(layer)
        self.spec = spec
        self.within = within
        # Activations of all calls, each with its mask or None.
        self.watched: MaskedTensors = []

    def norm(self, penalty: Penalty) -> float:
        """Norm of the gradient of a penalty, without its coefficient."""
        masks = [mask for _, mask in self.watched]

        def value(tensors: list[Tensor]) -> Tensor:
            if self.spec.is_weight:
                return penalty.weight_value(tensors[0])
            return sum(map(penalty.value, tensors, masks))

        tensors = [at_least_float32(tensor) for tensor, _ in self.watched]
        return norm_of(backend.value_and_gradients(value, tensors)[1])

    @contextlib.contextmanager
    def installed(
        self, scope: keras.StatelessScope, shifts: list[Tensor] | None = None
    ) -> Iterator[None]:
        """Look at the calls in this block.

        Args:
            scope: The running scope, in which weights are shifted.
            shifts: What to add to the activations, a tensor each, or None.
        """
        if self.spec.is_weight:
            weight = weight_of(self.layer, self.spec.on)
            if shifts is not None:
                scope.add_update((weight, weight.value + shifts[0]))
            self.watched = [(ops.stop_gradient(weight.value), None)]
            yield
            return
        layer, hosts, calls = self.layer, [], []
        call = self._shifting(layer.call, calls, shifts)
        with contextlib.ExitStack() as stack:
            stack.enter_context(attribute_in_front(layer, "call", call))
            if self.within is not None:
                host = root_of(self.within.parents[0])
                noting = _noting(host.call, hosts)
                stack.enter_context(attribute_in_front(host, "call", noting))
            yield
        if not calls:
            raise ValueError(
                "Invalid value received for argument `model`. Expected a "
                f"model that calls layer {self.path!r}. Received: model that "
                "does not call it on `x`"
            )
        # Not earlier: Keras puts a mask on a tensor after the layer's call.
        self.watched = []
        for step, one in enumerate(calls):
            seen = watched_at([self.spec], layer, *one)[self.spec]
            if self.within is not None:
                seen = self._with_masks_of(hosts[-1], one, seen, step)
            self.watched += [(ops.stop_gradient(x), mask) for x, mask in seen]

    def _shifting(
        self,
        plain: Callable[..., Any],
        calls: list[tuple[Any, ...]],
        shifts: list[Tensor] | None,
    ) -> Callable[..., Any]:
        """`call` of the layer, which shifts tensors and notes all calls."""
        layer, spec = self.layer, self.spec
        remaining = iter(shifts or ())

        def shifted(tensor: Tensor) -> Tensor:
            return tensor if shifts is None else tensor + next(remaining)

        def all_shifted(tensors: Any, within: Any) -> Any:
            seen = tensors_at(spec, layer, tensors, None)
            new = {id(tensor): shifted(tensor) for tensor, _ in seen}
            return tree.map_structure(lambda x: new.get(id(x), x), within)

        def call(*args: Any, **kwargs: Any) -> Any:
            preactivation = None
            if spec.on == "preactivation":
                with _shifted_activation(self, shifted) as seen:
                    outputs = plain(*args, **kwargs)
                preactivation = only_tapped(layer, seen)
            elif spec.on == "input":
                given = received(layer, args, kwargs)
                args, kwargs = all_shifted(given, (args, kwargs))
                outputs = plain(*args, **kwargs)
            else:
                outputs = plain(*args, **kwargs)
                outputs = all_shifted(outputs, outputs)
            calls.append((outputs, args, kwargs, preactivation))
            return outputs

        return call

    def _with_masks_of(
        self,
        host: tuple[Any, ...],
        call: tuple[Any, ...],
        seen: MaskedTensors,
        step: int,
    ) -> MaskedTensors:
        """What one call shows, with the mask of the layer around where it fits.

        Args:
            host: That layer and the arguments of its call.
            call: The call, as `watched_at` takes it.
            seen: What it shows.
            step: The number of the call.
        """
        padding, rank = padding_of(root_of(self.within.parents[0]), *host)
        stepped_by = self.within.stepped_by
        if stepped_by is not None:
            mask = step_mask(padding, stepped_by, step)
            return [(x, mask) for x, _ in seen]
        given = tree.flatten(call[1:3])[0]
        return [
            (x, mask_for(x, mask, padding))
            if rank in (len(x.shape), len(given.shape))
            else (x, mask)
            for x, mask in seen
        ]


def _noting(plain: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return plain(*args, **kwargs)

    return call


@contextlib.contextmanager
def _shifted_activation(
    probe: Probe, shifted: Callable[[Tensor], Tensor]
) -> Iterator[list[Tensor]]:
    """Shift every tensor that the layer's own activation receives."""
    with tapped_activation(probe.layer) as seen:
        tapped = vars(probe.layer)["activation"]

        def activation(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return tapped(shifted(x), *args, **kwargs)

        with attribute_in_front(probe.layer, "activation", activation):
            yield seen


def task_gradients(
    model: keras.Model, batch: Batch, training: bool, probes: list[Probe]
) -> list[list[np.ndarray]]:
    """Gradient of the loss without penalties at each probe, in float64."""
    # On float16 the gradients would vanish without the optimizer's scale.
    scale = model.optimizer.scale_loss(1.0)
    off = [
        (layer.actpen.coefficients.variable, ops.zeros(len(layer.actpen.terms)))
        for layer in penalized_layers(model).values()
        if layer.actpen.terms
    ]
    arguments = loss_arguments(model, batch, training)

    def loss(shifts: list[Tensor]) -> Tensor:
        remaining = iter(shifts)
        with contextlib.ExitStack() as stack:
            # Nothing that the layers and the loss assign is kept, and the
            # same random numbers are drawn every time.
            stack.enter_context(backend.random_state_kept())
            scope = keras.StatelessScope(off, collect_losses=True)
            stack.enter_context(scope)
            for probe in probes:
                of_probe = None
                if shifts:
                    of_probe = [next(remaining) for _ in probe.watched]
                stack.enter_context(probe.installed(scope, of_probe))
            y_pred = model(batch.x, training=training)
            return scale * model.compute_loss(y_pred=y_pred, **arguments)

    loss([])
    # Not those of the function that is differentiated, which are symbolic.
    watched = [probe.watched for probe in probes]
    zeros = [ops.zeros_like(tensor) for one in watched for tensor, _ in one]
    gradients = iter(backend.value_and_gradients(loss, zeros)[1])
    for probe, seen in zip(probes, watched, strict=True):
        probe.watched = seen
    scale = float(ops.convert_to_numpy(scale))
    return [[_array(next(gradients)) / scale for _ in one] for one in watched]


def gradient_norms(
    model: keras.Model,
    batches: Iterable[Batch],
    training: bool,
    probes: list[Probe],
    penalties: Sequence[tuple[Probe, Penalty]],
) -> tuple[list[float], list[float]]:
    """Norms of the gradients of the mean over all samples.

    Returns:
        That of the task loss at each probe, and that of each penalty at its
        probe, without its coefficient.
    """
    samples = 0
    # The activations of all batches are one vector; a weight is the same in
    # all, and what they pull at it adds up.
    squares = np.zeros(len(probes))
    sums: dict[int, np.ndarray] = {}
    own = np.zeros(len(penalties))
    for batch in batches:
        samples += batch.samples
        found = task_gradients(model, batch, training, probes)
        for index, (probe, arrays) in enumerate(
            zip(probes, found, strict=True)
        ):
            if probe.spec.is_weight:
                (array,) = arrays
                sums[index] = sums.get(index, 0.0) + batch.samples * array
            else:
                squares[index] += (batch.samples * norm_of(arrays)) ** 2
        for index, (probe, penalty) in enumerate(penalties):
            norm = batch.samples * probe.norm(penalty)
            if probe.spec.is_weight:
                own[index] += norm
            else:
                own[index] = math.hypot(own[index], norm)
    task = np.sqrt(squares)
    for index, array in sums.items():
        task[index] = norm_of([array])
    return (task / samples).tolist(), (own / samples).tolist()


def loss_arguments(
    model: keras.Model, batch: Batch, training: bool
) -> dict[str, Any]:
    """Arguments of `model.compute_loss` for one batch, without `y_pred`."""
    arguments = {"x": batch.x} | tree.map_structure(
        lambda part: None if part is None else ops.convert_to_tensor(part),
        {"y": batch.y, "sample_weight": batch.sample_weight},
    )
    if "training" in inspect.signature(model.compute_loss).parameters:
        arguments["training"] = training
    return arguments


def _array(tensor: Tensor) -> np.ndarray:
    array = ops.convert_to_numpy(ops.cast(tensor, "float32"))
    return array.astype("float64")


def norm_of(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm of several tensors as one vector, in float64."""
    arrays = [
        one if isinstance(one, np.ndarray) else _array(one) for one in tensors
    ]
    return math.sqrt(sum(np.sum(np.square(one)) for one in arrays))
