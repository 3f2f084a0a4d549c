"""The layers that a layer holds itself."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import keras

from keras_actpen import internals

Layer = keras.layers.Layer
# What a layer is called in the one around it: by attribute, by name.
Keys: TypeAlias = tuple[str, ...]


def is_graph_model(model: Any) -> bool:
    """Tell whether `model` has a graph of layers, so that it can be rebuilt.

    True for Sequential and Functional models, also of the user's own class;
    False for a Sequential model on several tensors, for which Keras makes no
    graph.
    """
    if not isinstance(model, keras.Sequential | keras.Function):
        return False
    return not model.built or internals.graph_of(model) is not None


def runs_its_graph(model: Any) -> bool:
    """Tell whether `model` runs its graph and nothing else.

    False for any class that brings its own `call`.
    """
    cls = type(internals.root_of(model))
    definer = next(c for c in cls.__mro__ if "call" in vars(c))
    is_keras = definer.__module__.partition(".")[0] == "keras"
    return is_keras and is_graph_model(model)


def unwrapped(layer: Layer) -> Layer:
    """What a twin is a twin of, or `layer`."""
    return internals.root_of(layer)


def users_layer(layer: Layer) -> Layer:
    """The object that the user made: also of a nested model rebuilt since."""
    return internals.original_of(unwrapped(layer))


def children(layer: Layer) -> Iterator[tuple[Keys, Layer]]:
    """The layers that a layer holds itself, with what they are called there."""
    layer = unwrapped(layer)
    if runs_its_graph(layer):
        for one in layer.layers:
            if not isinstance(one, keras.layers.InputLayer):
                yield (one.name,), one
        return
    plain = _plain_attributes()
    held = internals.attributes_of(layer)
    found: dict[int, tuple[Keys, Layer]] = {}
    for name, value in held.items():
        if name in plain:
            continue
        shown = name.lstrip("_")
        if not shown or (shown != name and shown in held):
            shown = name
        for path, one in _layers_in((), value):
            of = ("/".join((start, *path)) for start in (shown, name))
            keys = tuple(dict.fromkeys((*of, one.name)))
            before = found.get(id(one), ((), one))[0]
            found[id(one)] = (tuple(dict.fromkeys((*before, *keys))), one)
    # In the order in which they were made: torch keeps lists of layers apart
    # from layers.
    tracked = {id(one): one for one in internals.sublayers(layer)}
    for key, one in tracked.items():
        if not isinstance(one, keras.layers.InputLayer):
            yield found.pop(key, ((one.name,), one))
    yield from found.values()


def attribute_layers(layer: Layer) -> Iterator[Layer]:
    """The layers in the attributes of a layer, Keras's own too."""
    for value in internals.attributes_of(layer).values():
        for _, one in _layers_in((), value):
            yield one


@functools.cache
def _plain_attributes() -> frozenset[str]:
    """Attributes of any built layer, which are Keras's."""
    layer = keras.layers.Layer()
    layer.build(())
    return frozenset(internals.attributes_of(layer))


def _layers_in(
    path: tuple[str, ...], value: Any
) -> Iterator[tuple[tuple[str, ...], Layer]]:
    """Layers in a value, in lists and dictionaries of them too."""
    if isinstance(value, Layer):
        if not isinstance(value, keras.layers.InputLayer):
            yield path, value
        return
    if len(path) > 4:  # deeper than anything but a list that holds itself
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        yield from _layers_in((*path, str(key)), item)
