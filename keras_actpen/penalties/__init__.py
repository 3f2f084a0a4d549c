"""What is penalised: scalar functions of a layer's activations."""

from collections.abc import Callable
from typing import Any

import keras

from keras_actpen.penalties.base import FunctionPenalty, Penalty, snake_case
from keras_actpen.penalties.norms import L1, L1L2, L2

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "FunctionPenalty",
    "Penalty",
    "deserialize",
    "get",
    "serialize",
]

_CLASSES = (L1, L2, L1L2)
_BY_IDENTIFIER = {
    identifier: cls
    for cls in _CLASSES
    for identifier in (cls.__name__, snake_case(cls.__name__))
}


def serialize(penalty: Penalty) -> dict[str, Any]:
    """Return a JSON-ready description of `penalty`."""
    return keras.saving.serialize_keras_object(penalty)


def deserialize(
    config: dict[str, Any], custom_objects: dict[str, Any] | None = None
) -> Penalty:
    """Re-create a penalty from `serialize(penalty)`.

    Raises:
        ValueError: If the description holds a lambda and Keras's safe mode is
            on, or names a class that is not registered.
    """
    return keras.saving.deserialize_keras_object(
        config, custom_objects=custom_objects
    )


def get(identifier: "Penalty | str | dict[str, Any] | Callable") -> Penalty:
    """Return the penalty that `identifier` stands for.

    Args:
        identifier: A `Penalty` (returned as it is), the name of a penalty
            class (`"l2"` or `"L2"`, with its default coefficient), a
            description made by `serialize`, a `keras.regularizers.Regularizer`
            or a function `f(activations) -> scalar`.

    Raises:
        ValueError: If a string names no penalty.
        TypeError: If `identifier` is none of these.
    """
    if isinstance(identifier, Penalty):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        if identifier not in _BY_IDENTIFIER:
            known = sorted(snake_case(cls.__name__) for cls in _CLASSES)
            raise ValueError(
                "Invalid value received for argument `penalty`. Expected one "
                f"of {known}, a Penalty, a keras Regularizer or a function. "
                f"Received: penalty={identifier!r}"
            )
        return _BY_IDENTIFIER[identifier]()
    if isinstance(identifier, type):
        raise TypeError(
            "Invalid type received for argument `penalty`. Expected an "
            f"instance, for example {identifier.__name__}(0.01). Received: "
            f"the class {identifier.__name__}"
        )
    if callable(identifier):
        return FunctionPenalty(identifier)
    raise TypeError(
        "Invalid type received for argument `penalty`. Expected a Penalty, "
        "its name, a keras Regularizer or a function f(activations) -> "
        f"scalar. Received: penalty={identifier!r} (of type "
        f"{type(identifier).__name__})"
    )
