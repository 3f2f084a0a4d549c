"""Calls of penalised layers, kept until somebody asks for the losses.

`predict`, exported models and plain calls never ask: they compute no penalty.
Only torch computes it at once where a call is recorded for its gradient.
"""

import threading
import weakref
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from keras_actpen import internals
from keras_actpen.tensors import MaskedTensors, Tensor


@dataclass
class Call:
    """One call of a penalised layer.

    Attributes:
        watched: For each watched place the list of its `(tensor, mask)`.
        entry: Returns the outermost layer of the call, or None. It holds the
            layer that this is a call of, and would keep it alive.
        values: Coefficient times value of every term, once computed.
    """

    watched: dict[Any, MaskedTensors]
    entry: Callable[[], Any]
    values: dict[str, Tensor] | None = None


class _Calls(threading.local):
    """Replicas of a tf.distribute strategy run in threads, in turns."""

    def __init__(self):
        self.of_layers: MutableMapping[Any, list[Call]] = (
            weakref.WeakKeyDictionary()
        )
        self.of_scopes: MutableMapping[Any, MutableMapping[Any, list[Call]]] = (
            weakref.WeakKeyDictionary()
        )


_calls = _Calls()


def calls_of(layer: Any) -> list[Call]:
    """Calls of `layer` in the running stateless scope, or outside of any.

    What is kept for a scope goes with it, or JAX's tracers would leak.
    """
    scope = internals.stateless_scope()
    if scope is None:
        return _calls.of_layers.setdefault(layer, [])
    if scope not in _calls.of_scopes:
        _calls.of_scopes[scope] = weakref.WeakKeyDictionary()
    return _calls.of_scopes[scope].setdefault(layer, [])
