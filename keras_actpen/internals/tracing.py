"""What Keras knows of the running call."""

from collections.abc import Callable
from typing import Any

import keras
from keras import tree
from keras.src import backend as keras_backend
from keras.src.backend.common import global_state

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor


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


def try_out(function: Callable[..., Any], *args: Any) -> None:
    """Trace `function` on symbolic tensors for its errors alone."""
    if keras.backend.backend() == "torch":
        # For the spec of outputs Keras traces twice there, with 83 and with
        # 89 for every unknown size: a seventh of attaching to ResNet50.
        args = tree.map_structure(_with_known_sizes, args)
    output_spec(function, args, {})


def _with_known_sizes(tensor: Tensor) -> Tensor:
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
