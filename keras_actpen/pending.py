"""Calls of penalised layers, kept until somebody asks for the losses.

`predict`, exported models and plain calls never ask: they compute no penalty.
"""

import threading
import weakref
from dataclasses import dataclass
from typing import Any

from keras_actpen import internals
from keras_actpen.tensors import MaskedTensors, Tensor


@dataclass
class Call:
    """One call of a penalised layer.

    Attributes:
        watched: For each watched place the list of its `(tensor, mask)`.
        entry: The outermost layer of the call.
        values: Coefficient times value of every term, once computed.
    """

    watched: dict[Any, MaskedTensors]
    entry: Any
    values: dict[str, Tensor] | None = None


# Replicas of a tf.distribute strategy run in threads of their own, in turns.
_local = threading.local()


def calls_of(layer: Any) -> list[Call]:
    """Calls of `layer` in the running stateless scope, or outside of any.

    What is kept for a scope goes with it, or JAX's tracers would leak.
    """
    if not hasattr(_local, "calls"):
        _local.calls = weakref.WeakKeyDictionary()
    owner = internals.stateless_scope() or layer
    of_owner = _local.calls.setdefault(owner, weakref.WeakKeyDictionary())
    return of_owner.setdefault(layer, [])
