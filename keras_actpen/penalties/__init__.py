"""What is penalised: scalar functions of a layer's activations."""

import difflib
import numbers
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.deserialization import described
from keras_actpen.penalties.base import Penalty, snake_case
from keras_actpen.penalties.bounds import Range, Saturation
from keras_actpen.penalties.decorrelation import (
    Covariance,
    Decorrelation,
    DeCov,
    VarianceFloor,
)
from keras_actpen.penalties.functions import FunctionPenalty
from keras_actpen.penalties.logits import (
    VIB,
    ConfidencePenalty,
    LoadBalance,
    ZLoss,
)
from keras_actpen.penalties.moments import (
    FeatureNorm,
    Kurtosis,
    MomentMatching,
)
from keras_actpen.penalties.norms import L1, L1L2, L2, Huber, LInf
from keras_actpen.penalties.sequence import (
    ActivationRegularization,
    NormStabilizer,
    TemporalActivationRegularization,
    TotalVariation,
)
from keras_actpen.penalties.sparsity import Hoyer, KLSparsity, LogSparsity
from keras_actpen.penalties.units import DeadUnitRevival, GroupLasso

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "VIB",
    "ActivationRegularization",
    "ConfidencePenalty",
    "Covariance",
    "DeCov",
    "DeadUnitRevival",
    "Decorrelation",
    "FeatureNorm",
    "FunctionPenalty",
    "GroupLasso",
    "Hoyer",
    "Huber",
    "KLSparsity",
    "Kurtosis",
    "LInf",
    "LoadBalance",
    "LogSparsity",
    "MomentMatching",
    "NormStabilizer",
    "Penalty",
    "Range",
    "Saturation",
    "TemporalActivationRegularization",
    "TotalVariation",
    "VarianceFloor",
    "ZLoss",
    "deserialize",
    "get",
    "serialize",
]

_CLASSES = (
    L1,
    L2,
    L1L2,
    Huber,
    LInf,
    ActivationRegularization,
    TemporalActivationRegularization,
    NormStabilizer,
    TotalVariation,
    KLSparsity,
    Hoyer,
    LogSparsity,
    GroupLasso,
    DeadUnitRevival,
    ConfidencePenalty,
    ZLoss,
    LoadBalance,
    VIB,
    DeCov,
    VarianceFloor,
    Covariance,
    Decorrelation,
    Range,
    Saturation,
    MomentMatching,
    FeatureNorm,
    Kurtosis,
)
_BY_IDENTIFIER = {
    identifier: cls
    for cls in _CLASSES
    for identifier in (cls.__name__, snake_case(cls.__name__))
}

# What stands for a penalty wherever one is asked for, see `get`.
Identifier: TypeAlias = (
    Penalty | str | dict[str, Any] | Callable[[Tensor], Tensor]
)
Identifiers: TypeAlias = Identifier | Sequence[Identifier]


def serialize(penalty: Penalty) -> dict[str, Any]:
    """Return a JSON-ready description of `penalty`."""
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
        safe_mode: `False` to let lambdas through, which run code of whoever
            wrote the description.

    Raises:
        TypeError: If the description names a class that is not registered.
        ValueError: If the description holds a lambda and Keras's safe mode is
            on, or describes no penalty.
    """
    return described(
        "config",
        config,
        Penalty,
        custom_objects=custom_objects,
        safe_mode=safe_mode,
    )


def get(identifier: Identifier) -> Penalty:
    """Return the penalty that `identifier` stands for.

    Args:
        identifier: A `Penalty` (returned as it is), the name of a penalty
            class (`"l2"` or `"L2"`, with its default coefficient), a
            description made by `serialize`, a `keras.regularizers.Regularizer`
            or a function `f(activations) -> scalar`.

    Raises:
        ValueError: If a string names or a dictionary describes no penalty.
        TypeError: If `identifier` is none of these.
    """
    if isinstance(identifier, Penalty):
        return identifier
    if isinstance(identifier, dict):
        # Not a Penalty alone: Keras serialises regularizers and functions.
        return get(described("penalty", identifier, Callable))
    if isinstance(identifier, str):
        if identifier not in _BY_IDENTIFIER:
            known = sorted(snake_case(cls.__name__) for cls in _CLASSES)
            near = difflib.get_close_matches(
                snake_case(identifier), known, n=3, cutoff=0.5
            )
            hint = f" Did you mean {' or '.join(map(repr, near))}?"
            raise ValueError(
                "Invalid value received for argument `penalty`. Expected one "
                f"of {known}, a Penalty, a keras Regularizer or a function. "
                f"Received: penalty={identifier!r}.{hint if near else ''}"
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
    is_number = isinstance(identifier, numbers.Real) and not isinstance(
        identifier, bool
    )
    hint = f". Write l2={identifier!r}, or penalty=L2({identifier!r})."
    raise TypeError(
        "Invalid type received for argument `penalty`. Expected a Penalty, "
        "its name, a keras Regularizer or a function f(activations) -> "
        f"scalar. Received: penalty={identifier!r} (of type "
        f"{type(identifier).__name__}){hint if is_number else ''}"
    )
