"""Gradients with respect to the activations inside a model."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_actpen import backend
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.attach.capture import (
    ActivationSpec,
    mask_for,
    only_tapped,
    padding_mask,
    tapped_activation,
    tensors_at,
)
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
    """

    def __init__(self, path: str, layer: Layer, spec: ActivationSpec):
        self.path = path
        # A layer behind a penalized one is a twin of it.
        self.layer: Layer = root_of(layer)
        self.spec = spec
        # Activations of all calls, each with its mask or None.
        self.watched: MaskedTensors = []

    def norm(self, penalty: Penalty) -> float:
        """Norm of the gradient of a penalty, without its coefficient."""
        masks = [mask for _, mask in self.watched]

        def value(tensors: list[Tensor]) -> Tensor:
            return sum(map(penalty.value, tensors, masks))

        tensors = [at_least_float32(tensor) for tensor, _ in self.watched]
        return _norm(backend.value_and_gradients(value, tensors)[1])

    @contextlib.contextmanager
    def installed(self, shifts: list[Tensor] | None = None) -> Iterator[None]:
        """Look at the calls in this block.

        Args:
            shifts: What to add to the activations, a tensor each, or None.
        """
        layer, spec = self.layer, self.spec
        plain, calls = layer.call, []
        remaining = iter(shifts or ())

        def shifted(tensor: Tensor) -> Tensor:
            return tensor if shifts is None else tensor + next(remaining)

        def call(*args: Any, **kwargs: Any) -> Any:
            preactivation = None
            if spec.on == "preactivation":
                with _shifted_activation(self, shifted) as seen:
                    outputs = plain(*args, **kwargs)
                preactivation = only_tapped(layer, seen)
            else:
                outputs = plain(*args, **kwargs)
                new = {
                    id(tensor): shifted(tensor)
                    for tensor, _ in tensors_at(spec, layer, outputs, None)
                }
                outputs = tree.map_structure(
                    lambda tensor: new.get(id(tensor), tensor), outputs
                )
            calls.append((args, kwargs, outputs, preactivation))
            return outputs

        with attribute_in_front(layer, "call", call):
            yield
        if not calls:
            raise ValueError(
                "Invalid value received for argument `model`. Expected a "
                f"model that calls layer {self.path!r}. Received: model that "
                "does not call it on `x`"
            )
        # Not earlier: Keras puts a mask on a tensor after the layer's call.
        self.watched = []
        for args, kwargs, outputs, preactivation in calls:
            padding = padding_mask(layer, args, kwargs)
            for tensor, mask in tensors_at(spec, layer, outputs, preactivation):
                self.watched.append(
                    (
                        ops.stop_gradient(tensor),
                        mask_for(tensor, mask, padding),
                    )
                )


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


def task_norms(
    model: keras.Model, batch: Batch, training: bool, probes: list[Probe]
) -> list[float]:
    """Norm of the gradient of the loss without penalties at each probe."""
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
            stack.enter_context(keras.StatelessScope(off, collect_losses=True))
            for probe in probes:
                of_probe = None
                if shifts:
                    of_probe = [next(remaining) for _ in probe.watched]
                stack.enter_context(probe.installed(of_probe))
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
    return [_norm([next(gradients) for _ in one]) / scale for one in watched]


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
    # The activations of all batches are one vector.
    task, own = np.zeros(len(probes)), np.zeros(len(penalties))
    for batch in batches:
        samples += batch.samples
        norms = task_norms(model, batch, training, probes)
        task += np.square(batch.samples * np.array(norms))
        norms = [probe.norm(penalty) for probe, penalty in penalties]
        own += np.square(batch.samples * np.array(norms))
    return tuple((np.sqrt(one) / samples).tolist() for one in (task, own))


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


def _norm(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm of several tensors as one vector, in float64."""
    arrays = [
        ops.convert_to_numpy(ops.cast(tensor, "float32")).astype("float64")
        for tensor in tensors
    ]
    return float(np.sqrt(sum(np.sum(array**2) for array in arrays)))
