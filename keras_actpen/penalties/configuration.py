"""The configuration of an object, read from the signature of its class."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


def arguments_to_save(cls: type, root: type) -> list[str]:
    """Names of the arguments that `root.get_config` is responsible for.

    A class that overrides `get_config` adds those of its own `__init__` to
    those of the class that it derives from.
    """
    mro = cls.__mro__
    below = mro[: mro.index(root)]
    own = [i for i, one in enumerate(below, 1) if "get_config" in vars(one)]
    return [*arguments_of(mro[max(own, default=0)])]


def arguments_of(cls: type) -> Iterator[str]:
    """Names of all that can be passed by keyword, through `**options` too."""
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        _, *parameters = inspect.signature(base.__init__).parameters.values()
        for one in parameters:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                yield one.name
        if all(one.kind != one.VAR_KEYWORD for one in parameters):
            return


def serialized(value: Any) -> Any:
    """An array as a list, a function as its description, else the value."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if callable(value):
        return keras.saving.serialize_keras_object(value)
    return value
