"""Gradients with respect to the activations inside a model."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.call_arguments import received
from keras_actpen.attach.capture import (
    only_tapped,
    tapped_activation,
    tensors_at,
    watched_at,
)
from keras_actpen.attach.inner_calls import step_mask
from keras_actpen.attach.inner_layers import InnerLayer
from keras_actpen.attach.padding import MasksAround
from keras_actpen.attach.weights import weight_of
from keras_actpen.backend.tensors import MaskedTensors, Tensor
from keras_actpen.internals import root_of
from keras_actpen.internals.attributes import attribute_in_front
from keras_actpen.penalties.base import Penalty
from keras_actpen.penalties.reductions import at_least_float32

Layer = keras.layers.Layer


class Probe:
    """Sees the outputs of a layer at a place, and shifts them.

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
        # A layer behind a penalized one is a twin.
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
                f"model that calls layer {self.path!r}. Received: a model that "
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
        around = MasksAround(root_of(self.within.parents[0]), *host)
        stepped_by = self.within.stepped_by
        if stepped_by is not None:
            mask = step_mask(around.steps, stepped_by, step)
            return [(x, mask) for x, _ in seen]
        return around.masked(seen, self.layer, *call[1:3])


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


def array_of(tensor: Tensor) -> np.ndarray:
    """A tensor in float64."""
    array = ops.convert_to_numpy(ops.cast(tensor, "float32"))
    return array.astype("float64")


def norm_of(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm of several tensors as one vector, in float64."""
    arrays = [
        one if isinstance(one, np.ndarray) else array_of(one) for one in tensors
    ]
    return math.sqrt(sum(np.sum(np.square(one)) for one in arrays))
