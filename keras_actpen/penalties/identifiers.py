"""Names, classes, descriptions and functions that stand for penalties."""

# Annotations stay as written, so that `help()` shows short names of types.
from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, overload

import keras

from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.deserialization import described
from keras_actpen.penalties import (
    bounds,
    decorrelation,
    l0,
    logits,
    moments,
    norms,
    sequence,
    sparsity,
    units,
)
from keras_actpen.penalties.base import REGISTRY, Penalty, snake_case
from keras_actpen.penalties.functions import FunctionPenalty
from keras_actpen.penalties.validation import (
    invalid_type,
    invalid_value,
    is_number,
)

PenaltyName: TypeAlias = (
    bounds.Names
    | decorrelation.Names
    | l0.Names
    | logits.Names
    | moments.Names
    | norms.Names
    | sequence.Names
    | sparsity.Names
    | units.Names
)
# An editor completes `PenaltyName`; `str` lets Keras's and class names pass.
Identifier: TypeAlias = (
    Penalty
    | type[Penalty]
    | PenaltyName
    | str
    | dict[str, Any]
    | Callable[[Tensor], Tensor]
)
Identifiers: TypeAlias = Identifier | Sequence[Identifier]

# Keras's classes by all of their names: `L1L2`, `l1_l2`, and `l1l2` in `get`.
REGULARIZERS: dict[str, type[Any]] = {
    key: cls
    for name, cls in vars(keras.regularizers).items()
    if isinstance(cls, type)
    for key in (name, name.lower())
}


def serialize(penalty: Penalty) -> dict[str, Any]:
    """Return a description of a penalty that can be written as JSON.

    Args:
        penalty: A `Penalty`.

    Returns:
        A dictionary, from which `deserialize` makes an equal penalty.

    Raises:
        TypeError: If the penalty holds a value that Keras cannot serialize.
    """
    return keras.saving.serialize_keras_object(penalty)


def deserialize(
    config: dict[str, Any],
    custom_objects: dict[str, Any] | None = None,
    safe_mode: bool = True,
) -> Penalty:
    """Re-create a penalty from `serialize(penalty)`.

    Args:
        config: Description made by `serialize`.
        custom_objects: Classes and functions by name, where they are not
            registered with Keras.
        safe_mode: `False` to let lambdas pass, which run the code of whoever
            wrote the description.

    Raises:
        TypeError: If the description names a class that is not registered.
        ValueError: If the description holds a lambda and Keras's safe mode is
            on, or does not describe a penalty.
    """
    return described(
        "config",
        config,
        Penalty,
        custom_objects=custom_objects,
        safe_mode=safe_mode,
    )


@overload
def get(identifier: None) -> None: ...


@overload
def get(identifier: Identifier) -> Penalty: ...


def get(identifier: Identifier | None) -> Penalty | None:
    """Return the penalty that `identifier` stands for.

    Takes what `keras.regularizers.get` takes, and penalties.

    Args:
        identifier: A `Penalty` (returned as it is), the name of a class
            (`"l2"` or `"L2"`, with its default coefficient; `"ar"`, `"tar"`
            and `"decov"` are short for the longest), a class, a description
            made by `serialize`, a `keras.regularizers.Regularizer`, its name,
            class or description, a function `f(activations) -> scalar`, or
            `None`, for which `None` is returned.

    Raises:
        ValueError: If a string names or a dictionary describes no penalty.
        TypeError: If `identifier` is none of these.
    """
    return None if identifier is None else _penalty_of(identifier)


def to_penalty(identifier: Identifier) -> Penalty:
    """`get` where there must be a penalty: `None` is a TypeError.

    Raises:
        ValueError: If the defaults of a name or a class are always 0, whatever
            the coefficient.
        TypeError: If `identifier` is not a penalty.
    """
    penalty = _penalty_of(identifier)
    found = getattr(penalty, "function", penalty)
    if (
        isinstance(identifier, str | type)
        and isinstance(found, norms.L1L2 | keras.regularizers.L1L2)
        and not (found.l1 or found.l2)
    ):
        raise invalid_value(
            "penalty",
            "a penalty that is not always 0",
            f"penalty={identifier!r}, whose factors l1 and l2 are 0 unless "
            "they are given",
            "Write penalty=L1L2(l1=0.01, l2=0.01)",
        )
    return penalty


def _penalty_of(identifier: Identifier) -> Penalty:
    if isinstance(identifier, Penalty):
        return identifier
    if isinstance(identifier, dict):
        # Keras's own configurations may lack the module.
        bare = "class_name" in identifier and "module" not in identifier
        options = {"module_objects": REGULARIZERS} if bare else {}
        # Not a Penalty alone: Keras serializes regularizers and functions.
        return _penalty_of(
            described("penalty", identifier, Callable, **options)
        )
    if isinstance(identifier, str):
        return _penalty_of(_named(identifier))
    if isinstance(identifier, type):
        if issubclass(identifier, Penalty | keras.regularizers.Regularizer):
            return _penalty_of(identifier())
        raise invalid_type(
            "penalty", "a Penalty or a keras Regularizer", identifier
        )
    if callable(identifier):
        return FunctionPenalty(identifier)
    raise invalid_type(
        "penalty",
        "a Penalty, its name, a keras Regularizer or a function "
        "f(activations) -> scalar",
        identifier,
        f"Write l2={identifier!r}, or penalty=L2({identifier!r})."
        if is_number(identifier)
        else "",
    )


def _named(name: str) -> type[Any]:
    """The class of a name, Keras's where there is none of ours."""
    classes = {**REGULARIZERS, **REGISTRY}
    if name in classes:
        return classes[name]
    known = sorted({snake_case(cls.__name__) for cls in REGISTRY.values()})
    near = difflib.get_close_matches(snake_case(name), known, 3, 0.5)
    raise invalid_value(
        "penalty",
        f"one of {known}, a Penalty, a keras Regularizer or a function",
        f"penalty={name!r}",
        f"Did you mean {' or '.join(map(repr, near))}?" if near else "",
    )
