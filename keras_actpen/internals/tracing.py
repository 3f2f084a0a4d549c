"""What Keras knows of the running call."""

import sys
from collections.abc import Callable
from typing import Any

import keras
from keras.src import backend as keras_backend
from keras.src.backend.common import global_state

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor

# Properties by which a model asks its layers for their variables.
_VARIABLES = frozenset(
    ("variables", "trainable_variables", "non_trainable_variables")
)


def stateless_scope() -> Any:
    """The running `keras.StatelessScope`, or None. No public equivalent."""
    return keras_backend.get_stateless_scope()


def mask_of(tensor: Tensor) -> Tensor | None:
    """Mask that Keras has put on `tensor`, or None. No public equivalent."""
    return keras_backend.get_keras_mask(tensor)


def output_spec(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Trace `function` on symbolic tensors, errors left as they are.

    `keras.Operation.compute_output_spec` wraps every error into one about
    shape inference, which hides what the user has to change.
    """

    def below_root(*args: Any, **kwargs: Any) -> Any:
        with backend.below_root():
            return function(*args, **kwargs)

    return keras_backend.compute_output_spec(below_root, *args, **kwargs)


def traced_spec(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """`output_spec`, with sizes in the place of unknown ones where it must.

    Not every layer can be traced on JAX without the size of the batch.
    """
    try:
        return output_spec(function, args, kwargs)
    except Exception:
        return output_spec(function, *_with_known_sizes((args, kwargs)))


def try_out(function: Callable[..., Any], *args: Any) -> None:
    """Trace `function` on symbolic tensors for its errors alone."""
    if backend.traces_twice():  # a seventh of attaching to ResNet50
        args = _with_known_sizes(args)
    output_spec(function, args, {})


def _with_known_sizes(arguments: Any) -> Any:
    return keras.tree.map_structure(_with_known_size, arguments)


def _with_known_size(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, keras.KerasTensor):
        return tensor
    shape = tuple(83 if size is None else size for size in tensor.shape)
    return keras.KerasTensor(shape, tensor.dtype)


def is_writing_keras_file() -> bool:
    """Whether the config of a `.keras` file is being made.

    A config is also asked for by copies, by JSON and by users; only the one
    for the file tells whether the file will have a layer's penalties. Keras
    makes it in a scope in which objects are shared.
    """
    shared = global_state.get_global_attribute("shared_objects/id_to_obj_map")
    return shared is not None


def serialized_for_sharing(layer: keras.layers.Layer) -> dict[str, Any]:
    """Serialize a layer that may be in a `.keras` file once more.

    Keras (3.15) marks the first description of a shared object when it meets
    the object again; it is too late for a description that was copied into
    another one by then, and the weights would be untied when they are loaded.
    """
    config = keras.saving.serialize_keras_object(layer)
    if is_writing_keras_file():
        config["shared_object_id"] = id(layer)
    return config


def in_file() -> set[int]:
    """Ids of the objects that the caller's caller has saved or loaded so far.

    Keras (3.15) goes by them: a weight file has an object that is held twice
    in one place.
    """
    visited = sys._getframe(2).f_locals.get("visited_saveables")
    return visited if isinstance(visited, set) else set()


def is_exporting() -> bool:
    """Whether the caller's caller collects variables for an export.

    `model.export` and an `ExportArchive` take all variables of a model, needed
    or not. On torch it is the module's parameters, which Keras collects when
    the model is made. Nothing in Keras (3.15) tells a layer about it.
    """
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in _VARIABLES:
        frame = frame.f_back
    if frame is None:
        return False
    if frame.f_code.co_name == "_track_variables":
        return True
    name = frame.f_globals.get("__name__", "")
    return name.startswith("keras.src.") and name.endswith(".export")


def is_in_train_step() -> bool:
    """Whether this is part of a `train_step`.

    There only the model's own code has called layers since the model's call.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "train_step":
        frame = frame.f_back
    return frame is not None


def is_in_constructor() -> bool:
    """Whether the caller, itself a constructor, serves that of a layer.

    What the `__init__` or the `build` of a layer makes is made again when the
    layer is loaded from a file, whether its config tells of it or not.
    """
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("__init__", "build") and code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            if isinstance(first, keras.layers.Layer):
                return True
        frame = frame.f_back
    return False
