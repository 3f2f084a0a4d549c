"""What is compiled, what is not, and what runs only if it must."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import keras

from keras_actpen.backend.tensors import Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax
elif keras.backend.backend() == "torch":
    import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` of tensors, compiled where the backend compiles.

    Op by op a cosine schedule takes thousands of times as long on JAX, which
    compiles its branches at every call (JAX 0.10).
    """
    if keras.backend.backend() == "tensorflow":
        return tf.function(function)
    if keras.backend.backend() == "jax":
        return jax.jit(function)
    return function


def uncompiled(function: _Function) -> _Function:
    """`function`, run as it is where torch compiles the code around it."""
    if keras.backend.backend() != "torch":
        return function
    apart = torch.compiler.disable(function)

    @functools.wraps(function)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        # Entering and leaving `apart` takes as long as a small function.
        if torch.compiler.is_compiling():
            return apart(*args, **kwargs)
        return function(*args, **kwargs)

    return chosen


def unless_all(found: Tensor, otherwise: Callable[[], Tensor]) -> Tensor:
    """Booleans that are all true, otherwise what a function returns.

    On JAX always that: a condition took longer than what it saves, 2 % of the
    step of a CNN.
    """
    if keras.backend.backend() == "tensorflow":
        return tf.cond(tf.reduce_all(found), lambda: found, otherwise)
    if keras.backend.backend() == "jax":
        return otherwise()
    # Not on a GPU, whose answer takes longer than the function.
    return found if _is_all(found) else otherwise()


@uncompiled
def _is_all(found: Tensor) -> bool:
    return found.device.type == "cpu" and bool(found.all())
