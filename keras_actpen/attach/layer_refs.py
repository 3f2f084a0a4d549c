"""The places in a model where a penalty can be attached."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_actpen import internals

Layer = keras.layers.Layer
InputLayer = keras.layers.InputLayer


@dataclass(frozen=True, eq=False)
class LayerRef:
    """A place in a model where a penalty can be attached.

    Attributes:
        path: Names of the parents and of the layer, joined by `/`. The model
            that was searched is not part of it.
        layer: The layer, or the wrapper that stands in its place.
        owner: The model whose `layers` hold it.
        aliases: Further paths to the same layer, where models share it.
    """

    path: str
    layer: Layer
    owner: keras.Model
    aliases: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that lead to the layer."""
        return (self.path, *self.aliases)


def is_graph_model(model: Any) -> bool:
    """Tell whether `model` runs its graph of layers, so that it can be cloned.

    True for Sequential and Functional models, also of the user's own class;
    False for any class that brings its own `call`, graph or not, and for a
    Sequential model on several tensors, for which Keras makes no graph.
    """
    if not isinstance(model, keras.Sequential | keras.Function):
        return False
    if model.built and internals.graph_of(model) is None:
        return False
    cls = type(internals.root_of(model))
    definer = next(c for c in cls.__mro__ if "call" in vars(c))
    return definer.__module__.partition(".")[0] == "keras"


def layer_refs(model: keras.Model) -> list[LayerRef]:
    """List the places of `model` where a penalty can be attached.

    Layers of nested Functional and Sequential models count, inputs and the
    inner layers of composite layers do not. Neither do the layers of a
    subclassed model inside a Functional or Sequential one: no clone replaces
    them without changing the model that was cloned.

    Args:
        model: Any Keras model.

    Returns:
        One per layer, in the order of `model.layers`, a nested model
        before its own layers.

    Raises:
        TypeError: If `model` is no `keras.Model`.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Invalid type received for argument `model`. Expected a "
            f"keras.Model. Received: model={model!r} (of type "
            f"{type(model).__name__})"
        )
    found: dict[int, tuple[Layer, keras.Model, list[str]]] = {}
    for path, layer, owner in _walk(model):
        paths = found.setdefault(id(layer), (layer, owner, []))[2]
        if path not in paths:
            paths.append(path)
    return [
        LayerRef(paths[0], layer, owner, tuple(paths[1:]))
        for layer, owner, paths in found.values()
    ]


def _walk(
    model: keras.Model,
    prefix: str = "",
    ancestors: tuple[keras.Model, ...] = (),
    in_place: bool = True,
) -> Iterator[tuple[str, Layer, keras.Model]]:
    """Yield path, layer and owner, once for every path.

    `in_place` is False below the first graph model: from there on only
    models that can be cloned are entered.
    """
    ancestors = (*ancestors, model)
    in_place = in_place and not is_graph_model(model)
    for layer in model.layers:
        if isinstance(layer, InputLayer):
            continue
        yield prefix + layer.name, layer, model
        inner = unwrapped(layer)
        if any(inner is unwrapped(ancestor) for ancestor in ancestors):
            continue  # a sub-model that holds its parent as an attribute
        if is_graph_model(inner) or (
            in_place
            and isinstance(inner, keras.Model)
            and not isinstance(inner, keras.Sequential)
        ):
            yield from _walk(
                inner, f"{prefix}{layer.name}/", ancestors, in_place
            )


def unwrapped(layer: Layer) -> Layer:
    """What a twin is a twin of, or `layer`."""
    return internals.root_of(layer)


def users_layer(layer: Layer) -> Layer:
    """The object that the user made: also of a nested model rebuilt since."""
    return internals.original_of(unwrapped(layer))


def output_shape(layer: keras.layers.Layer) -> str:
    """Output shape of a layer as text, `?` where it has no single one."""
    try:
        shapes = keras.tree.map_structure(
            lambda tensor: str(tuple(tensor.shape)), layer.output
        )
    except (AttributeError, ValueError):  # never called on a symbolic tensor
        return "?"
    flat: list[Any] = keras.tree.flatten(shapes)
    return ", ".join(flat)
