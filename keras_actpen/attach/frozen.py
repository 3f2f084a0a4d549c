"""Layers on which a penalty can change no weight."""

from collections.abc import Mapping

import keras

from keras_actpen import internals
from keras_actpen.attach.held_layers import is_graph_model


def frozen_layers(
    model: keras.Model, layers: Mapping[str, keras.layers.Layer]
) -> list[str]:
    """Paths of layers whose activations depend on nothing trainable.

    Where the graph does not tell what lies in front of a layer (in models
    whose `call` is the user's own), any trainable weight of the model counts.

    Args:
        model: The model.
        layers: Layers of it by path.
    """
    in_front = {}
    if is_graph_model(model):
        in_front = internals.trainable_in_front(model)
    anything = bool(model.trainable_variables)
    return [
        path
        for path, layer in layers.items()
        if not any(in_front.get(id(layer), (anything,)))
    ]
