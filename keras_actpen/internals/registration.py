"""Registering classes with Keras, which finds them in files by their names."""

import weakref
from typing import TypeVar

import keras
from keras.src.saving.object_registration import GLOBAL_CUSTOM_NAMES

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


class _Unkept(weakref.ref[type]):
    """Stands for a class among the keys of a dict that does not keep it."""

    __slots__ = ()
    __hash__ = weakref.ref.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other or self() is other


def name_in_files(cls: type, like: type) -> None:
    """Give a class the name in files that another one is registered by.

    Keras's registry (3.15) would keep the class for good.

    Args:
        cls: The class.
        like: A registered class, which files are loaded by.
    """
    if cls not in GLOBAL_CUSTOM_NAMES:
        key = _Unkept(cls, lambda key: GLOBAL_CUSTOM_NAMES.pop(key, None))
        GLOBAL_CUSTOM_NAMES[key] = GLOBAL_CUSTOM_NAMES[like]
