"""Names, losses and sub-layers of single layers."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

from keras_actpen import backend

# Returns the outermost layer of a call, or None once it is gone.
Entry = Callable[[], keras.layers.Layer | None]


def entry_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The outermost layer of the running call. No public equivalent.

    Args:
        layer: The layer that is called, in which nothing is changed.
    """
    context = global_state.get_global_attribute("current_call_ctx")
    return layer if context is None else context.entry_layer


def is_rematerialized(layer: keras.layers.Layer) -> bool:
    """Whether a layer was made in a `keras.RematScope` (Keras 3.15)."""
    return layer._remat_mode is not None


def entry_of_replica(layer: keras.layers.Layer) -> Entry | None:
    """What finds the outermost layer of the running call, for `own_losses`.

    Returns:
        A weak reference, None where there is one replica alone.
    """
    if backend.replica_count() == 1:
        return None
    return weakref.ref(entry_layer(layer))


@contextlib.contextmanager
def _kept_losses(entry: keras.layers.Layer) -> Iterator[None]:
    kept = [
        (one, list(one._losses), set(one._loss_ids))
        for one in entry._flatten_layers()
    ]
    yield
    for one, losses, ids in kept:
        one._losses[:] = losses
        one._loss_ids.clear()
        one._loss_ids.update(ids)


def own_losses(
    entry: Entry | None,
) -> contextlib.AbstractContextManager[None]:
    """Keep the replica's losses while a block reduces over replicas.

    Keras keeps the losses of all replicas in the same lists, which is right
    while one replica's thread runs after the other. A reduction over replicas
    lets the others run in between (Keras 3.15: the losses of other layers come
    out wrong).

    Args:
        entry: `entry_of_replica` in the call whose losses are reduced.
    """
    layer = None if entry is None else entry()
    return contextlib.nullcontext() if layer is None else _kept_losses(layer)


def inner_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """All layers inside of a layer, those of any attribute."""
    return layer._flatten_layers(include_self=False)


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer tracks itself. No public equivalent."""
    return list(layer._layers)


# What TensorFlow notes of an object's attributes.
_NOTED = ("_self_unconditional_", "_self_tracked_", "_self_name_based_")


def attributes_of(layer: keras.layers.Layer) -> dict[str, Any]:
    """Attributes of a layer; torch keeps some of them in `_modules`."""
    attributes = vars(layer)
    found = {**attributes, **attributes.get("_modules", {})}
    return {k: v for k, v in found.items() if not k.startswith(_NOTED)}


@contextlib.contextmanager
def unlocked(layer: keras.layers.Layer) -> Iterator[None]:
    """Let a built layer gain or lose sub-layers.

    Keras locks a layer's state when it is built.
    """
    locked = layer._tracker.locked
    layer._tracker.unlock()
    try:
        yield
    finally:
        if locked:
            layer._tracker.lock()
