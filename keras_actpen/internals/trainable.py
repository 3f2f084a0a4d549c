"""What in a model's graph can learn from what comes out of a layer."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_actpen.internals.graphs import calls_of


def trainable_in_front(model: keras.Model) -> dict[int, tuple[bool, bool]]:
    """Whether anything trainable lies in front of the layers of a graph.

    `keras.Model(inputs, layer.output)` shows it for the layers of the model
    itself only, and not for those of nested models, which are called on other
    tensors. The calls that make up a graph have no public list.

    Args:
        model: A Functional or Sequential model.

    Returns:
        For each layer that is called, by its id: whether any weight that its
        inputs depend on is trainable, and whether one of its own is.
    """
    found: dict[int, tuple[bool, bool]] = {}
    _walk(model, False, found)
    return found


def _walk(
    model: keras.Model, inputs: bool, found: dict[int, tuple[bool, bool]]
) -> None:
    learns: dict[int, bool] = {}

    def any_learns(tensors: Iterable[Any]) -> bool:
        return any(learns.get(id(tensor), inputs) for tensor in tensors)

    for call in calls_of(model):
        operation = call.operation
        if isinstance(operation, keras.layers.InputLayer):
            continue
        in_front = any_learns(call.input_tensors)
        own = bool(getattr(operation, "trainable_variables", ()))
        before = found.get(id(operation), (False, False))[0]
        found[id(operation)] = (before or in_front, own)
        inner = getattr(operation, "wrapped_layer", operation)
        if hasattr(inner, "_nodes_by_depth") or hasattr(inner, "_functional"):
            _walk(inner, in_front, found)
        for tensor in call.output_tensors:
            learns[id(tensor)] = in_front or own
