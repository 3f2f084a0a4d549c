"""Calls of penalized layers, kept until somebody asks for the losses.

`predict`, exported models and plain calls never ask: they compute no penalty.
Only torch computes it at once where a call is recorded for its gradient.
"""

import threading
import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from keras_actpen import internals
from keras_actpen.backend.tensors import MaskedTensors, Tensor


@dataclass(slots=True)
class Call:
    """One call of a penalized layer.

    Attributes:
        watched: For each watched place the list of its `(tensor, mask)`.
        entry: Finds the outermost layer of the call, which holds the layer
            that this is a call of, and would keep it alive.
        trace: What the call is traced into.
        values: Coefficient times value of every term, once computed.
    """

    watched: dict[Any, MaskedTensors]
    entry: internals.Entry | None
    trace: object
    values: dict[str, Tensor] | None = None


class DeferredLosses(threading.local):
    """Calls of one layer; copies of it have none.

    Kept with the layer, not in a table of all layers, which torch.compile
    would guard entry by entry. Replicas of a tf.distribute strategy run in
    threads, in turns.

    Attributes:
        outside: Those outside of any stateless scope.
        inside: Whether the layer is being called.
    """

    def __init__(self):
        self.outside: list[Call] = []
        self.inside: bool = False
        self._of_scopes: MutableMapping[Any, list[Call]] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> list[Call]:
        """Those in the running stateless scope, or outside of any.

        What is kept for a scope goes with it, or JAX's tracers would leak.
        """
        scope = internals.stateless_scope()
        if scope is None:
            return self.outside
        return self._of_scopes.setdefault(scope, [])

    def __reduce__(self) -> tuple[type["DeferredLosses"], tuple[()]]:
        """Copy as empty."""
        return DeferredLosses, ()
