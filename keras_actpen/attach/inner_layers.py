"""The layers inside a layer, by their paths."""

import functools
import itertools
from dataclasses import dataclass

import keras

from keras_actpen.attach.held_layers import Keys, children, unwrapped

Layer = keras.layers.Layer
# Number of alternative paths that are kept; few layers have more.
MAX_ALIASES = 64


@dataclass(frozen=True, eq=False)
class InnerLayer:
    """A layer inside another one, its host.

    Attributes:
        path: The attributes that lead to it, joined by `/`, without leading
            underscores; in a Sequential or Functional model the names of its
            layers. Unlike Keras's names (`dense_17`) it is the same in every
            process.
        layer: The layer.
        aliases: Further paths, among them that of the layers' names.
        parents: The layers on the way, the host first.
    """

    path: str
    layer: Layer
    aliases: tuple[str, ...]
    parents: tuple[Layer, ...]

    @functools.cached_property
    def stepped_by(self) -> Layer | None:
        """The layer on the way that calls what is in it step by step."""
        for parent in self.parents:
            if isinstance(
                parent, keras.layers.TimeDistributed | keras.layers.RNN
            ):
                return parent
        return None


def inner_layers(host: Layer) -> list[InnerLayer]:
    """All layers inside a layer at any depth, the upper ones first."""
    host = unwrapped(host)
    found: dict[int, tuple[list[tuple[Keys, ...]], InnerLayer]] = {}
    queue: list[tuple[tuple[Keys, ...], tuple[Layer, ...]]] = [((), (host,))]
    for keys, parents in queue:
        for names, layer in children(parents[-1]):
            if any(layer is parent for parent in parents):
                continue  # a layer that holds its parent as an attribute
            way = (*keys, names)
            if id(layer) not in found:
                found[id(layer)] = ([], InnerLayer("", layer, (), parents))
                queue.append((way, (*parents, layer)))
            found[id(layer)][0].append(way)
    return [
        InnerLayer(paths[0], one.layer, tuple(paths[1:]), one.parents)
        for paths, one in ((_paths(ways), one) for ways, one in found.values())
    ]


def _paths(ways: list[tuple[Keys, ...]]) -> list[str]:
    every = ("/".join(one) for keys in ways for one in itertools.product(*keys))
    return list(dict.fromkeys(itertools.islice(every, MAX_ALIASES)))
