"""Which layers of a model suit a penalty."""

from typing import Any

import keras

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.call_arguments import received
from keras_actpen.attach.capture import tensors_at
from keras_actpen.attach.held_layers import unwrapped
from keras_actpen.attach.inner_specs import known_arguments
from keras_actpen.attach.layer_refs import LayerRef, layer_refs
from keras_actpen.attach.select_errors import listed
from keras_actpen.attach.weights import trained_weight_of
from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import Penalty


def check_suits(
    penalty: Penalty, spec: ActivationSpec, ref: LayerRef, model: keras.Model
) -> None:
    """Refuse a layer whose output cannot suit a penalty.

    Layers that were never called on symbolic tensors, as those of subclassed
    models, are checked when their wrapper is traced.

    Raises:
        ValueError: If it cannot; the message names the layers that suit.
    """
    tensors = _tensors(spec, ref)
    try:
        _check(penalty, spec, ref, tensors)
    except ValueError as error:
        suited = [
            other.path
            for other in layer_refs(model)
            if _suits(penalty, spec, other)
        ]
        advice = (
            f"Layers of model {model.name!r} that suit: {listed(suited)}."
            if suited
            else f"No layer of model {model.name!r} suits."
        )
        raise ValueError(f"{error} (layer {ref.path!r}). {advice}") from None


def _tensors(spec: ActivationSpec, ref: LayerRef) -> list[Tensor]:
    """Symbolic tensors at a place, none if the layer has no symbolic call."""
    layer = unwrapped(ref.layer)
    if spec.is_weight:
        weight = trained_weight_of(layer, spec.on)
        return [keras.KerasTensor((1, *weight.shape), weight.dtype)]
    output = _symbolic_output(ref.layer)
    if output is None or spec.output not in (0, "all"):
        # `Layer.output` is flat: which output is meant shows in a call only.
        return []
    # An activation keeps the shape: the output stands for what it receives.
    preactivation = keras.tree.flatten(output)[0]
    if spec.on == "input":
        output = received(layer, *known_arguments(ref.layer))
    return [
        tensor for tensor, _ in tensors_at(spec, layer, output, preactivation)
    ]


def _check(
    penalty: Penalty,
    spec: ActivationSpec,
    ref: LayerRef,
    tensors: list[Tensor],
) -> None:
    activation = getattr(unwrapped(ref.layer), "activation", None)
    for tensor in tensors:
        penalty.check_target(tensor, activation, spec.on)


def _suits(penalty: Penalty, spec: ActivationSpec, ref: LayerRef) -> bool:
    if spec.on == "preactivation" and not hasattr(
        unwrapped(ref.layer), "activation"
    ):
        return False
    try:
        tensors = _tensors(spec, ref)
        _check(penalty, spec, ref, tensors)
    except ValueError:
        return False
    return bool(tensors)


def _symbolic_output(layer: keras.layers.Layer) -> Any:
    """Output of a layer's first symbolic call, None if there was none."""
    try:
        return layer.output
    except (AttributeError, ValueError):
        return None
