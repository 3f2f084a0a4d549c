"""Names, losses and sub-layers of single layers."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend.common.keras_tensor import any_symbolic_tensors

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.tracing import stateless_scope
from keras_actpen.internals.twins import LayerTwin

# Arguments of a call that are never symbolic.
_FLAGS = frozenset(("training",))


def _is_symbolic(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # Nearly always one tensor and a flag, which need no search.
    if (
        len(args) == 1
        and keras.ops.is_tensor(args[0])
        and _FLAGS.issuperset(kwargs)
    ):
        return False
    return any_symbolic_tensors(args, kwargs)


class PenalizedTwin(LayerTwin):
    """Mixin for a twin that adds to the loss what its calls say."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, and look at what it puts out."""
        if _is_symbolic(args, kwargs):
            return super().__call__(*args, **kwargs)
        return self._look_at(super().__call__, args, kwargs)

    def _look_at(
        self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call, or a bare `call` as TimeDistributed and `stateless_call` do."""
        calls = self._calls
        if calls.inside:
            return call(*args, **kwargs)
        entry = entry_of_replica(self._get_call_context())
        calls.inside = True
        try:
            return self.observed(call, entry, args, kwargs)
        finally:
            calls.inside = False
            self._maybe_reset_call_context()

    def _get_own_losses(self) -> list[Tensor]:
        # Not `add_loss` within `call`: what nobody asks for, as in `predict`
        # and in exported models, is not computed. Nor does a layer called
        # twice lose the first one, as it does under the JAX trainer, where
        # every call clears the losses of the layer (7.5 becomes 6.0; Keras
        # 3.15).
        return [*super()._get_own_losses(), *self.losses_of_calls()]

    def _clear_losses(self) -> None:
        # A new stateless scope starts without calls by itself.
        if stateless_scope() is None:
            self.forget_calls()
        super()._clear_losses()


# Returns the outermost layer of a call, or None once it is gone.
Entry = Callable[[], keras.layers.Layer | None]


def entry_of_replica(context: Any) -> Entry | None:
    """What finds the outermost layer of the running call, for `own_losses`.

    Returns:
        A weak reference, None where there is one replica alone.
    """
    if backend.replica_count() == 1:
        return None
    return weakref.ref(context.entry_layer)


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
    layer = None
    if entry is not None and backend.replica_count() > 1:
        layer = entry()
    return contextlib.nullcontext() if layer is None else _kept_losses(layer)


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


def track(layer: keras.layers.Layer, child: keras.layers.Layer) -> None:
    """Make `child` a sub-layer of the built `layer`, under no attribute."""
    with unlocked(layer):
        layer._tracker.track(child)


def untrack(layer: keras.layers.Layer, child: keras.layers.Layer) -> None:
    """Undo `track`."""
    with unlocked(layer):
        layer._tracker.untrack(child)
