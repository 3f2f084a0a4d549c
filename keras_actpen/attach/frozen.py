"""Penalized layers whose penalty can change no weight."""

from collections.abc import Mapping

import keras

from keras_actpen import internals
from keras_actpen.attach.layer_refs import is_graph_model
from keras_actpen.attach.penalized_layer import PenalizedLayer


def frozen_layers(
    model: keras.Model, layers: Mapping[str, PenalizedLayer]
) -> list[str]:
    """Paths of layers with penalties in front of which nothing is trainable.

    Where the graph does not tell what lies in front of a layer (in models
    whose `call` is the user's own), any trainable weight of the model counts.

    Args:
        model: The model.
        layers: Its penalized and watched layers by path.
    """
    in_front = {}
    if is_graph_model(model):
        in_front = internals.trainable_in_front(model)
    anything = bool(model.trainable_variables)
    return [
        path
        for path, layer in layers.items()
        if layer.terms and not any(in_front.get(id(layer), (anything,)))
    ]
