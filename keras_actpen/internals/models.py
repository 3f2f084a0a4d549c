"""Models made of the layers of others, and what they are compiled with."""

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import keras
import keras.src.models.functional

from keras_actpen.internals.layers import unlocked
from keras_actpen.internals.twins import (
    RebuiltModel,
    original_of,
    own,
    root_of,
)

Layer = keras.layers.Layer
Functional = keras.src.models.functional.Functional


def functional_like(
    model: Functional, cls: type, inputs: Any, outputs: Any
) -> keras.Model:
    """A Functional model with the name of `model` on other tensors.

    The class's `__init__` is not run: it would build other layers.
    `keras.Model.__init__` cannot be run on such a class by itself.

    Args:
        model: The model, left as it is.
        cls: Its class, or `rebuilt_model_class` of it.
        inputs: Symbolic inputs.
        outputs: Symbolic outputs.
    """
    new = _new_model(model, cls)
    Functional.__init__(new, inputs, outputs, name=model.name)
    return new


def sequential_like(
    model: keras.Sequential,
    cls: type,
    place: Callable[[Layer], Layer],
    inputs: Any,
    outputs: Any,
) -> keras.Sequential:
    """A Sequential model with the name of `model` on other tensors.

    Neither the class's `__init__` is run, which would build other layers, nor
    `build`, which would call them again.

    Args:
        model: The model, left as it is.
        cls: Its class, or `rebuilt_model_class` of it.
        place: Maps a layer of `model` to the one in its place.
        inputs: Symbolic inputs.
        outputs: Symbolic outputs.
    """
    new = _new_model(model, cls)
    keras.Sequential.__init__(new, name=model.name)
    # The input layer too, which `model.layers` leaves out.
    new._layers.extend(map(place, model._layers))
    new._functional = Functional(inputs, outputs)
    new.built = True
    new._post_build()
    return new


def _new_model(model: keras.Model, cls: type) -> Any:
    plain = type(original_of(root_of(model)))
    new = plain.__new__(cls)
    if cls is not plain:
        own(new, _rebuilt_from=new)
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
        # By `pickle_with_import`.
        "__reduce__",
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


def carry_over(
    old: keras.Model, new: keras.Model, visit: Callable[[Layer], Layer]
) -> None:
    """Give a rebuilt model the attributes its class or its user has set.

    Args:
        old: The model that was rebuilt.
        new: The rebuilt model.
        visit: Maps a layer of `old` to the one in its place in `new`.
    """

    def mapped(value: Any) -> Any:
        if isinstance(value, Layer):
            return visit(value)
        if isinstance(value, tuple):
            return _like(value, map(mapped, value))
        if isinstance(value, list):
            return list(map(mapped, value))
        if isinstance(value, dict):
            kind = OrderedDict if isinstance(value, OrderedDict) else dict
            return kind((key, mapped(item)) for key, item in value.items())
        return value

    # First, so that they stay in the order that weight files have them in.
    for variable in (*old._trainable_variables, *old._non_trainable_variables):
        new._track_variable(variable)

    attributes = {**vars(old), **vars(old).get("_modules", {})}
    present = {**vars(new), **vars(new).get("_modules", {})}
    for name, value in attributes.items():
        if name in present or name in _OWN_ATTRIBUTES:
            continue
        if _holds_itself(value):
            # Keras (3.15) tracks it as it grows, and never again.
            vars(new)[name] = value
        else:
            setattr(new, name, mapped(value))
    # Nothing but its outputs may leave a rematerialized call, on JAX, so no
    # penalty either. The layers inside keep their own modes.
    new._remat_mode = None
    for name in _CHANGEABLE_ATTRIBUTES:
        if name in vars(old):
            # Not setattr: the setter of `trainable` rewrites every layer.
            vars(new)[name] = vars(old)[name]
    if isinstance(new, RebuiltModel):
        own(new, _rebuilt_from=original_of(old))


def _like(value: tuple[Any, ...], items: Iterable[Any]) -> tuple[Any, ...]:
    """A tuple of other items, with the names of the first one's."""
    if not hasattr(value, "_fields"):
        return tuple(items)
    # TensorFlow keeps a tuple in a proxy.
    return type(getattr(value, "__wrapped__", value))(*items)


def _holds_itself(value: Any, *outer: Any) -> bool:
    """Whether a container is among all that it holds."""
    if not isinstance(value, list | tuple | dict):
        return False
    if any(value is one for one in outer):
        return True
    items = value.values() if isinstance(value, dict) else value
    return any(_holds_itself(item, value, *outer) for item in items)


def share_compile_state(old: keras.Model, new: keras.Model) -> None:
    """Compile `new` with the very objects that `old` is compiled with.

    `get_compile_config` goes through serialization: lambda losses raise, and
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


def replace_sublayer(owner: Layer, old: Layer, new: Layer) -> None:
    """Put `new` everywhere that `owner` holds `old`, order kept.

    Setting the attribute anew would append to the list of sub-layers, which
    changes the order of the weights, and is refused on a built layer.
    """
    seen: dict[int, Any] = {}

    def replaced(value: Any) -> Any:
        if value is old:
            return new
        if isinstance(value, list | dict):
            if id(value) in seen:
                return value  # a list may hold itself
            seen[id(value)] = value
        if isinstance(value, tuple):
            items = list(map(replaced, value))
            if any(map(operator.is_not, items, value)):
                return _like(value, items)
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
        # Not in it where a change is undone that had only begun.
        if owner._tracker.is_in_store("layers", old):
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
