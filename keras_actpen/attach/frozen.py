"""Layers on which a penalty can change no weight."""

import functools
from collections.abc import Mapping

import keras

from keras_actpen import internals
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.held_layers import runs_its_graph, unwrapped
from keras_actpen.attach.layer_refs import all_refs
from keras_actpen.attach.weights import weight_of


def frozen_layers(
    model: keras.Model,
    layers: Mapping[str, keras.layers.Layer],
    spec: ActivationSpec | None = None,
) -> list[str]:
    """Paths of layers where what is penalized depends on nothing trainable.

    Where the graph does not tell what lies in front of a layer (in models
    whose `call` is the user's own), any trainable weight of the model counts.

    Args:
        model: The model.
        layers: Layers of it by path.
        spec: Where they are looked at; default: where their terms are.
    """
    in_front: dict[int, tuple[bool, bool]] = {}
    if runs_its_graph(model):
        in_front = internals.trainable_in_front(model)

    @functools.cache
    def hosts() -> dict[int, keras.layers.Layer]:
        """Layers of the graph that hold others, by these."""
        return {
            id(ref.layer): ref.host.layer
            for ref in all_refs(model)
            if ref.host is not None
        }

    def learns(layer: keras.layers.Layer, one: ActivationSpec) -> bool:
        if one.is_weight:
            return weight_of(unwrapped(layer), one.on).trainable
        before, own = in_front.get(id(layer), (False, False))
        if before or (own and one.on != "input"):
            return True
        known = in_front.get(id(hosts().get(id(layer), layer)))
        if known is None:
            return bool(model.trainable_variables)
        # Of a layer inside another one its weights may be in front of it.
        before, own = known
        return before or (own and (one.on != "input" or id(layer) in hosts()))

    return [
        path
        for path, layer in layers.items()
        if not any(
            learns(layer, one)
            for one in (layer.actpen.specs if spec is None else (spec,))
        )
    ]
