"""Which layers of a model suit a penalty."""

from typing import Any

import keras

from keras_actpen.attach.capture import ActivationSpec, tensors_at
from keras_actpen.attach.layer_refs import LayerRef, sites, unwrapped
from keras_actpen.attach.select_errors import listed
from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import Penalty


def check_suits(
    penalty: Penalty, place: ActivationSpec, site: LayerRef, model: keras.Model
) -> None:
    """Refuse a layer whose output cannot suit a penalty.

    Layers that were never called on symbolic tensors, as those of subclassed
    models, are checked when their wrapper is traced.

    Raises:
        ValueError: If it cannot; the message names the layers that suit.
    """
    tensors = _tensors(place, site)
    try:
        _check(penalty, place, site, tensors)
    except ValueError as error:
        suited = [
            other.path
            for other in sites(model)
            if _suits(penalty, place, other)
        ]
        advice = (
            f"Layers of model {model.name!r} that suit: {listed(suited)}."
            if suited
            else f"No layer of model {model.name!r} suits."
        )
        raise ValueError(f"{error} (layer {site.path!r}). {advice}") from None


def _tensors(place: ActivationSpec, site: LayerRef) -> list[Tensor]:
    """Symbolic tensors at a place, none if the layer has no symbolic call."""
    output = _symbolic_output(site.layer)
    if output is None or place.output not in (0, "all"):
        # `Layer.output` is flat: which output is meant shows in a call only.
        return []
    # An activation keeps the shape: the output stands for what it receives.
    preactivation = keras.tree.flatten(output)[0]
    layer = unwrapped(site.layer)
    return [
        tensor for tensor, _ in tensors_at(place, layer, output, preactivation)
    ]


def _check(
    penalty: Penalty,
    place: ActivationSpec,
    site: LayerRef,
    tensors: list[Tensor],
) -> None:
    activation = getattr(unwrapped(site.layer), "activation", None)
    for tensor in tensors:
        penalty.check_target(tensor, activation, place.on)


def _suits(penalty: Penalty, place: ActivationSpec, site: LayerRef) -> bool:
    if place.on == "preactivation" and not hasattr(
        unwrapped(site.layer), "activation"
    ):
        return False
    try:
        tensors = _tensors(place, site)
        _check(penalty, place, site, tensors)
    except ValueError:
        return False
    return bool(tensors)


def _symbolic_output(layer: keras.layers.Layer) -> Any:
    """Output of a layer's first symbolic call, None if there was none."""
    try:
        return layer.output
    except (AttributeError, ValueError):
        return None
