"""The places in a model where a penalty can be attached."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_actpen.attach.held_layers import (
    children,
    is_graph_model,
    unwrapped,
)
from keras_actpen.attach.inner_layers import InnerLayer, inner_layers

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
        host: Of a layer inside another one the place of that one.
        inner: Of a layer inside another one where it is in it.
    """

    path: str
    layer: Layer
    owner: keras.Model
    aliases: tuple[str, ...] = ()
    host: "LayerRef | None" = None
    inner: InnerLayer | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that lead to the layer."""
        return (self.path, *self.aliases)

    @property
    def key(self) -> tuple[int, str]:
        """The layer of the model's own that it is or is in, and where in it."""
        inner = "" if self.inner is None else self.inner.path
        return id((self.host or self).layer), inner

    @property
    def names(self) -> tuple[str, ...]:
        """What the layer itself is called: its name, its attribute."""
        if self.inner is None:
            return (self.layer.name,)
        return (self.layer.name, self.inner.path.rpartition("/")[2])


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
        TypeError: If `model` is not a `keras.Model`.
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


def inner_refs(available: Sequence[LayerRef]) -> list[LayerRef]:
    """The layers inside those of a model.

    Args:
        available: The `layer_refs` of the model.
    """
    owners = {id(unwrapped(ref.owner)) for ref in available}
    found = []
    for host in available:
        if id(unwrapped(host.layer)) in owners:
            continue  # its layers are available themselves
        attached = getattr(host.layer, "actpen", None)
        penalized = attached.inner if attached is not None else {}
        for one in inner_layers(host.layer):
            paths = [
                f"{start}/{path}"
                for start in host.paths
                for path in (one.path, *one.aliases)
            ]
            found.append(
                LayerRef(
                    paths[0],
                    penalized.get(one.path, one.layer),
                    host.owner,
                    tuple(paths[1:]),
                    host,
                    one,
                )
            )
    return found


def all_refs(model: keras.Model) -> list[LayerRef]:
    """The layers of a model, each followed by those inside it."""
    available = layer_refs(model)
    inside: dict[int, list[LayerRef]] = {}
    for ref in inner_refs(available):
        inside.setdefault(id(ref.host), []).append(ref)
    return [one for ref in available for one in (ref, *inside.get(id(ref), ()))]


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
    steps = _steps(model)
    for layer in model.layers:
        if isinstance(layer, InputLayer):
            continue
        step = steps[id(layer)]
        yield prefix + step, layer, model
        inner = unwrapped(layer)
        if any(inner is unwrapped(ancestor) for ancestor in ancestors):
            continue  # a sub-model that holds its parent as an attribute
        if is_graph_model(inner) or (
            in_place
            and isinstance(inner, keras.Model)
            and not isinstance(inner, keras.Sequential)
        ):
            yield from _walk(inner, f"{prefix}{step}/", ancestors, in_place)


def _steps(model: keras.Model) -> dict[int, str]:
    """What the layers of a model are called in paths, by their ids.

    By their names; where two have one name, which only a subclassed model
    lets them have, the attribute stands in front of it.
    """
    named = {id(layer): layer.name for layer in model.layers}
    repeated = {
        name for name, count in Counter(named.values()).items() if count > 1
    }
    if not repeated:
        return named
    attributes = {id(one): keys[0] for keys, one in children(model)}
    return {
        key: f"{attributes.get(key, key)}/{name}" if name in repeated else name
        for key, name in named.items()
    }


def output_shape(layer: Layer) -> str:
    """Output shape of a layer as text, `?` where it has no single one."""
    try:
        shapes = keras.tree.map_structure(
            lambda tensor: str(tuple(tensor.shape)), layer.output
        )
    except (AttributeError, ValueError):  # never called on a symbolic tensor
        attached = getattr(layer, "actpen", None)
        known = {} if attached is None else attached.spec_shapes
        return next(iter(known.values()), "?")
    flat: list[Any] = keras.tree.flatten(shapes)
    return ", ".join(flat)
