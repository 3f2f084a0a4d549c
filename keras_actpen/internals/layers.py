"""Names, losses and sub-layers of single layers."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common.keras_tensor import any_symbolic_tensors
from keras.src.backend.common.name_scope import current_path

from keras_actpen import backend
from keras_actpen.internals.tracing import stateless_scope
from keras_actpen.tensors import Tensor

# What `torch.nn.Module.__call__` does beside the call: hooks of this module
# and `compile`. (Hooks of all modules see the wrapped layer.)
_ON_TORCH = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_compiled_call_impl",
)


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

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, at little more than the wrapped layer costs.

        In a call on values Keras converts and checks the arguments, looks for
        masks, opens scopes and adds activity regularizers. The wrapped layer
        does all of it; once more took as long as a small layer on torch.
        """
        if any_symbolic_tensors(args, kwargs):
            return super().__call__(*args, **kwargs)
        self._get_call_context()
        try:
            if any(vars(self).get(name) for name in _ON_TORCH):
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
        super()._clear_losses()


@contextlib.contextmanager
def own_losses(entry: keras.layers.Layer | None) -> Iterator[None]:
    """Keep the replica's losses while a block reduces over replicas.

    Keras keeps the losses of all replicas in the same lists, which is right
    while one replica's thread runs after the other. A reduction over replicas
    lets the others run in between (Keras 3.15: the losses of other layers come
    out wrong).

    Args:
        entry: The outermost layer of the call whose losses are reduced, None
            if it is gone.
    """
    if backend.replica_count() == 1 or entry is None:
        yield
        return
    kept = [
        (one, list(one._losses), set(one._loss_ids))
        for one in entry._flatten_layers()
    ]
    yield
    for one, losses, ids in kept:
        one._losses[:] = losses
        one._loss_ids.clear()
        one._loss_ids.update(ids)


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
