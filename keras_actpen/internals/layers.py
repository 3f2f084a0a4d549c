"""Names, losses and sub-layers of single layers."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.backend.common.name_scope import current_path

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.tracing import stateless_scope

_ON_TORCH = keras.backend.backend() == "torch"


def _has_torch_hooks(layer: Any) -> bool:
    """Whether torch's module has to do something beside the call.

    (Hooks of all modules see the wrapped layer.)
    """
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or layer._compiled_call_impl
    )


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


class TransparentLayer(keras.layers.Layer):
    """A layer around another one that Keras's bookkeeping does not notice."""

    def __init__(self, layer: keras.layers.Layer):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        # Rematerialising the wrapper would compute its terms twice and, on
        # JAX, leak the tracers of the added loss.
        self._remat_mode = None
        # Not None: the wrapped layer's, which the wrapped layer adds.
        del self.activity_regularizer
        # Arguments are converted just as the wrapped layer converts them.
        # Without a conversion Keras writes masks and `training` into the
        # recorded call, and so into the config of the model (Keras 3.15).
        self.autocast: bool = layer.autocast
        self._convert_input_args = layer._convert_input_args
        self._allow_non_tensor_positional_args = True
        self._call_context_args = set(layer._call_context_args)
        self._call_has_context_arg = {
            name: name in self.call_signature_parameters
            for name in self._call_context_args
        }

    if _ON_TORCH:

        @property
        def wrapped_layer(self) -> keras.layers.Layer:
            """The layer that it is around."""
            # Else found by `__getattr__` alone, at 20 times the cost.
            try:
                return self._modules["wrapped_layer"]
            except KeyError:
                raise AttributeError("wrapped_layer") from None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, at little more than the wrapped layer costs.

        In a call on values Keras converts and checks the arguments, looks for
        masks, opens scopes and adds activity regularizers. The wrapped layer
        does all of it; once more took as long as a small layer on torch.
        """
        if _is_symbolic(args, kwargs):
            return super().__call__(*args, **kwargs)
        self._get_call_context()
        try:
            if _ON_TORCH and _has_torch_hooks(self):
                # Past Keras's layer, to torch's module.
                return super(keras.layers.Layer, self).__call__(*args, **kwargs)
            return self.call(*args, **kwargs)
        finally:
            self._maybe_reset_call_context()

    def _register_call_context_args(self, *names: str) -> None:
        super()._register_call_context_args(*names)
        # It is the wrapped layer that takes them out of the arguments.
        self.wrapped_layer._register_call_context_args(*names)

    def _open_name_scope(self) -> contextlib.AbstractContextManager[None]:
        # Variables that the wrapped layer has still to create keep the path
        # they have without the wrapper; weight files and dtype policy maps
        # go by it.
        if self._parent_path is None:
            self._parent_path = current_path()
        return contextlib.nullcontext()

    def _obj_type(self) -> str:
        # A wrapped model saves its layers as a model does.
        return self.wrapped_layer._obj_type()

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
            if not self._losses:
                # Nothing of its own: Keras's part takes as long again.
                self.wrapped_layer._clear_losses()
                return
        super()._clear_losses()


# Returns the outermost layer of a call, or None once it is gone.
Entry = Callable[[], keras.layers.Layer | None]


def entry_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The outermost layer of the running call. No public equivalent."""
    return layer._get_call_context().entry_layer


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
