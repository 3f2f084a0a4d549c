"""Registering classes with Keras, which finds them in files by their names."""

from typing import TypeVar

import keras

Class = TypeVar("Class", bound=type)


def serializable(cls: Class) -> Class:
    """Register a class of this package with Keras, as a decorator.

    Keras's own decorator has no type hints (Keras 3.15), so that type checkers
    would know nothing of a class behind it.

    Args:
        cls: The class; `keras_actpen>` and its name stand for it in files.

    Returns:
        The class itself.
    """
    register = keras.saving.register_keras_serializable("keras_actpen")
    return register(cls)
