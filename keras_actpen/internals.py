"""Everything that needs one of Keras's private attributes.

Each function says why the public API is not enough. All were checked on Keras
3.14 and 3.15; `tests/test_internals.py` fails when Keras changes one of them.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src import backend as keras_backend
from keras.src.backend.common import global_state
from keras.src.backend.common.name_scope import current_path
from keras.src.models.functional import Functional

from keras_actpen import backend


class TransparentLayer(keras.layers.Layer):
    """A layer around another one that Keras's bookkeeping does not notice."""

    def __init__(self, layer: keras.layers.Layer):
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        # Arguments are converted just as the wrapped layer converts them.
        # Without a conversion Keras writes masks and `training` into the
        # recorded call, and so into the config of the model (Keras 3.15).
        self.autocast = layer.autocast
        self._convert_input_args = layer._convert_input_args
        self._allow_non_tensor_positional_args = True
        self._call_context_args = set(layer._call_context_args)
        self._call_has_context_arg = {
            name: name in self.call_signature_parameters
            for name in self._call_context_args
        }

    def _open_name_scope(self):
        # Variables that the wrapped layer has still to create keep the path
        # they have without the wrapper; weight files and dtype policy maps
        # go by it.
        if self._parent_path is None:
            self._parent_path = current_path()
        return contextlib.nullcontext()

    def _obj_type(self):
        # A wrapped model saves its layers as a model does.
        return self.wrapped_layer._obj_type()

    def _get_own_losses(self):
        # Not `add_loss` within `call`: what nobody asks for, as in `predict`
        # and in exported models, is not computed. Nor does a layer called
        # twice lose the first one, as it does under the JAX trainer, where
        # every call clears the losses of the layer (7.5 becomes 6.0; Keras
        # 3.15).
        return [*super()._get_own_losses(), *self.losses_of_calls()]

    def _clear_losses(self):
        # A new stateless scope starts without calls by itself.
        if stateless_scope() is None:
            self.forget_calls()
        super()._clear_losses()


def stateless_scope() -> Any:
    """The running `keras.StatelessScope`, or None. No public equivalent."""
    return keras_backend.get_stateless_scope()


def entry_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The outermost layer of the running call of `layer`."""
    return layer._get_call_context().entry_layer


@contextlib.contextmanager
def own_losses(entry: keras.layers.Layer) -> Iterator[None]:
    """Keep the replica's losses while a block reduces over replicas.

    Keras keeps the losses of all replicas in the same lists, which is right
    while one replica's thread runs after the other. A reduction over replicas
    lets the others run in between (Keras 3.15: the losses of other layers come
    out wrong).

    Args:
        entry: The outermost layer of the call whose losses are reduced.
    """
    if backend.replica_count() == 1:
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


def mask_of(tensor: Any) -> Any:
    """Mask that Keras has put on `tensor`, or None. No public equivalent."""
    return keras_backend.get_keras_mask(tensor)


def output_spec(function: Callable, args: tuple, kwargs: dict) -> Any:
    """Trace `function` on symbolic tensors, errors left as they are.

    `keras.Operation.compute_output_spec` wraps every error into one about
    shape inference, which hides what the user has to change.
    """
    return keras_backend.compute_output_spec(function, *args, **kwargs)


def is_writing_keras_file() -> bool:
    """Whether the config of a `.keras` file is being made.

    A config is also asked for by copies, by JSON and by users; only the one
    for the file tells whether the file will have a layer's penalties. Keras
    makes it in a scope in which objects are shared.
    """
    shared = global_state.get_global_attribute("shared_objects/id_to_obj_map")
    return shared is not None


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


def wrap_reported_logs(model: keras.Model, wrap: Callable) -> None:
    """Take part in what `fit` and `evaluate` report after their last step.

    Keras computes it anew from the metrics if these are all that the logs of
    the last step hold. `get_metrics_result`, which is public, is called
    within steps too, where it cannot be told which step it is.

    Args:
        model: The model; if it is wrapped already nothing changes.
        wrap: Called as `wrap(report, logs)` with Keras's own function and
            the logs of the last step; returns the logs to report.
    """
    if "_get_metrics_result_or_logs" not in vars(model):
        report = model._get_metrics_result_or_logs
        wrapped = functools.partial(wrap, report)
        vars(model)["_get_metrics_result_or_logs"] = wrapped


def unwrap_reported_logs(model: keras.Model) -> None:
    """Undo `wrap_reported_logs`."""
    vars(model).pop("_get_metrics_result_or_logs", None)


def functional_like(
    model: Functional, inputs: Any, outputs: Any
) -> keras.Model:
    """A Functional model of `model`'s own class on other tensors.

    The class's `__init__` is not run: it would build other layers.
    `keras.Model.__init__` cannot be run on such a class by itself.
    """
    new = type(model).__new__(type(model))
    Functional.__init__(new, inputs, outputs, name=model.name)
    return new


def sequential_like(
    model: keras.Sequential, layers: list[Any]
) -> keras.Sequential:
    """A Sequential model of `model`'s own class with other layers.

    The class's `__init__` is not run: it would build other layers.
    """
    new = type(model).__new__(type(model))
    keras.Sequential.__init__(new, layers, name=model.name)
    return new


# What a rebuilt model gets from its own construction, and must keep.
_OWN_ATTRIBUTES = frozenset(
    (
        "_layers",
        "_functional",
        "_tracker",
        "_torch_params",
        # Left behind by `wrap_reported_logs` where `fit` was interrupted.
        "_get_metrics_result_or_logs",
    )
)
# What construction sets to a default and the original may have changed.
_CHANGEABLE_ATTRIBUTES = (
    "_trainable",
    "_auto_config",
    "_dtype_policy",
    "_supports_masking",
    "supports_jit",
    "_path",
    "_parent_path",
    "_build_shapes_dict",
    "_call_context_args",
    "_call_has_context_arg",
)


def carry_over(old: keras.Model, new: keras.Model, visit: Callable) -> None:
    """Give a rebuilt model the attributes its class or its user has set.

    Args:
        old: The model that was rebuilt.
        new: The rebuilt model.
        visit: Maps a layer of `old` to the one in its place in `new`.
    """

    def mapped(value):
        if isinstance(value, keras.layers.Layer):
            return visit(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(mapped, value))
        if isinstance(value, list | tuple):
            return (tuple if isinstance(value, tuple) else list)(
                map(mapped, value)
            )
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        return value

    attributes = {**vars(old), **vars(old).get("_modules", {})}
    present = {**vars(new), **vars(new).get("_modules", {})}
    for name, value in attributes.items():
        if name not in present and name not in _OWN_ATTRIBUTES:
            setattr(new, name, mapped(value))
    # Nothing but its outputs may leave a rematerialised call, on JAX, so no
    # penalty either. The layers inside keep their own modes.
    new._remat_mode = None
    for name in _CHANGEABLE_ATTRIBUTES:
        if name in vars(old):
            # Not setattr: the setter of `trainable` rewrites every layer.
            vars(new)[name] = vars(old)[name]


def share_compile_state(old: keras.Model, new: keras.Model) -> None:
    """Compile `new` with the very objects that `old` is compiled with.

    `get_compile_config` goes through serialisation: lambda losses raise, and
    the optimizer starts again at iteration 0.
    """
    config = old._compile_config.config
    keras.Model.compile(
        new,
        optimizer=old.optimizer,
        loss=config["loss"],
        loss_weights=config["loss_weights"],
        metrics=config["metrics"],
        weighted_metrics=config["weighted_metrics"],
        run_eagerly=old.run_eagerly,
        steps_per_execution=old.steps_per_execution,
        jit_compile=config["jit_compile"],
        # The optimizer is already wrapped if it had to be.
        auto_scale_loss=False,
    )
    # Metric objects are shared: a second set of containers around them would
    # reset or count them twice.
    new._compile_loss = old._compile_loss
    # Not setattr, which would track the metrics a second time.
    vars(new)["_compile_metrics"] = old._compile_metrics


def replace_sublayer(
    owner: keras.layers.Layer,
    old: keras.layers.Layer,
    new: keras.layers.Layer,
) -> None:
    """Put `new` everywhere that `owner` holds `old`, order kept.

    Setting the attribute anew would append to the list of sub-layers, which
    changes the order of the weights, and is refused on a built layer.
    """

    def replaced(value):
        if value is old:
            return new
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(replaced, value))
        if isinstance(value, tuple):
            return tuple(map(replaced, value))
        if isinstance(value, list):
            for index, item in enumerate(value):
                if (changed := replaced(item)) is not item:
                    value[index] = changed
        elif isinstance(value, dict):
            for key, item in value.items():
                if (changed := replaced(item)) is not item:
                    value[key] = changed
        return value

    with unlocked(owner):
        owner._tracker.replace_tracked_value("layers", old, new)
        attributes = {
            name: value
            for name, value in {
                **vars(owner),
                **vars(owner).get("_modules", {}),
            }.items()
            if name not in _OWN_ATTRIBUTES
        }
        for name, value in attributes.items():
            if (changed := replaced(value)) is not value:
                setattr(owner, name, changed)
    if hasattr(owner, "_torch_params"):
        owner._track_variables()
