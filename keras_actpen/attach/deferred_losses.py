"""Calls of penalized layers, kept until somebody asks for the losses.

`predict`, exported models and plain calls never ask: they compute no penalty.
Only torch computes it at once where a call is recorded for its gradient.
"""

import threading
import weakref
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from keras_actpen import backend, internals
from keras_actpen.attach.recording import out_of_reach
from keras_actpen.attach.user_warning import warn_user
from keras_actpen.backend.tensors import MaskedTensors, Tensor


@dataclass(slots=True)
class Call:
    """One call of a penalized layer.

    Attributes:
        watched: For each watched place the list of its `(tensor, mask)`.
        entry: Finds the outermost layer of the call, which holds the layer
            that this is a call of, and would keep it alive.
        trace: What the call is traced into.
        is_hidden: Whether no gradient of it reaches what is computed outside.
        is_recorded: Whether a tape may be asked for gradients by it.
        values: Coefficient times value of every term, once computed.
        has_escaped: Whether the call of the outermost layer was traced into
            something else.
    """

    watched: dict[Any, MaskedTensors]
    entry: internals.Entry | None
    trace: object
    is_hidden: bool
    is_recorded: bool
    values: dict[str, Tensor] | None = None
    has_escaped: bool = False

    @property
    def tensors(self) -> Any:
        """All that the penalty is made of."""
        return [self.values, list(self.watched.values())]


class DeferredLosses(threading.local):
    """Calls of one layer; copies of it have none.

    Kept with the layer, not in a table of all layers, which torch.compile
    would guard entry by entry. Replicas of a tf.distribute strategy run in
    threads, in turns.

    Attributes:
        outside: Those outside of any stateless scope.
        inside: Whether the layer is being called.
        has_come: Whether a call has begun since the last one of the outermost
            layer.
        has_escaped: Whether the last call was traced into something else
            than the call of the outermost layer, which may not be traced, and
            the call not be seen, again.
    """

    def __init__(self):
        self.outside: list[Call] = []
        self.inside: bool = False
        self.has_come: bool = True
        self._is_told: bool = False
        self.has_escaped: bool = False
        # What the last call of the outermost layer was traced into, and the
        # stateless scope that it began in.
        self._entered_in: object = None
        self._entered_scope: Any = None
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

    def enter(self, trace: object, scope: Any) -> None:
        """Forget the calls: one of the outermost layer begins.

        Args:
            trace: What it is traced into.
            scope: The stateless scope that it begins in, or None.
        """
        self._entered_in = trace
        self.has_come = False
        if scope is None:
            # A new stateless scope starts without calls by itself.
            self.outside.clear()
        self._entered_scope = None if scope is None else weakref.ref(scope)

    def passed_by(self, layer: Any) -> None:
        """Warn, once, that only the plain layer was called.

        Args:
            layer: The `PenalizedLayer`.
        """
        if self._is_told or not layer.actpen.terms:
            return
        self._is_told = True
        warn_user(
            f"The penalty of layer {layer.name!r} is not in the loss: since "
            "the model's call began only the plain layer has been called, not "
            "the penalized one in its place. If the model's code calls it by "
            "another object, such as a function that was made in `__init__`, "
            "or another layer that holds it too, make that in `call`, of the "
            "attribute, or name the layer by the path of the one that calls "
            "it."
        )

    def add(self, call: Call) -> None:
        """Keep a call."""
        self.here().append(call)
        scope = internals.stateless_scope()
        entered = self._entered_scope and self._entered_scope()
        if scope is entered:
            # Else Keras traces a layer around for the shape of its outputs.
            call.has_escaped = call.trace != self._entered_in
            self.has_escaped = call.has_escaped and backend.is_traced_once()

    def in_reach(self, layer: Any) -> list[Call]:
        """The calls that the loss may be asked for here.

        Args:
            layer: The `PenalizedLayer`.

        Raises:
            ValueError: If there are some that it cannot be asked for, outside
                of the function that they are made in.
        """
        calls = list(self.here())
        if not calls and self.has_escaped:
            raise out_of_reach(layer)
        found = []
        for call in calls:
            if backend.is_in_reach(call.tensors):
                found.append(call)
            elif call.has_escaped:
                raise out_of_reach(layer)
            elif call.values is not None:
                # Of a compiled step: symbolic, as Keras's own losses are.
                found.append(call)
            else:
                warn_user(
                    f"The penalty of layer {layer.name!r} is not among these "
                    "`losses`: the layer was called in a `tf.function`, and "
                    "they are asked for outside of it. Ask for them where the "
                    "model is called."
                )
        return found

    def __reduce__(self) -> tuple[type["DeferredLosses"], tuple[()]]:
        """Copy as empty."""
        return DeferredLosses, ()
