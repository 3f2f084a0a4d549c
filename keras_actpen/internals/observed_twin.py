"""A twin of a layer whose observer sees each of its calls."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import keras
from keras.src.backend.common.keras_tensor import any_symbolic_tensors

from keras_actpen import backend
from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.tracing import is_in_train_step
from keras_actpen.internals.twins import LayerTwin

# Arguments of a call that are never symbolic.
_FLAGS = frozenset(("training",))


def _is_symbolic(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    # Nearly always one tensor and a flag, which need no search.
    if (
        len(args) == 1
        and keras.ops.is_tensor(args[0])
        and _FLAGS.issuperset(kwargs)
    ):
        return False
    return any_symbolic_tensors(args, kwargs)


class RunningCalls(Protocol):
    """What the running thread knows of a layer's calls."""

    inside: bool
    has_come: bool

    def passed_by(self, layer: Any) -> None:
        """Take note that the root was called, and the twin was not."""


class Observer(Protocol):
    """What an `ObservedTwin` tells of its calls."""

    calls: RunningCalls
    variables: dict[str, keras.Variable]

    def observe(
        self,
        layer: Any,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call, and return the outputs."""

    def losses(self, layer: Any) -> list[Tensor]:
        """What the calls of a layer add to the loss."""

    def enter(self) -> None:
        """Take note that a call of the outermost layer begins."""


class ObservedTwin(LayerTwin):
    """Mixin for the twin of a layer with an observer, in a slot `actpen`."""

    __slots__ = ()

    actpen: Observer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; the observer sees masks of the outputs too."""
        if self.actpen.calls.inside or _is_symbolic(args, kwargs):
            return super().__call__(*args, **kwargs)
        return self._observed(super().__call__, args, kwargs)

    def _computed(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self.actpen.calls.inside:
            return super()._computed(method, args, kwargs)

        # A bare `call`, as of TimeDistributed and `stateless_call`.
        def compute(*args: Any, **kwargs: Any) -> Any:
            return super(ObservedTwin, self)._computed(method, args, kwargs)

        return self._observed(compute, args, kwargs)

    def _observed(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        calls = self.actpen.calls
        calls.inside = calls.has_come = True
        try:
            return self.actpen.observe(self, call, args, kwargs)
        finally:
            calls.inside = False

    def rematerialized_call(
        self, layer_call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """What Keras (3.15) calls for `call` in a remat scope.

        TensorFlow computes it a second time, for the gradients, when the call
        that is observed is over.
        """

        @functools.wraps(layer_call)
        def unobserved(*args: Any, **kwargs: Any) -> Any:
            calls = self.actpen.calls
            inside, calls.inside = calls.inside, True
            try:
                return layer_call(*args, **kwargs)
            finally:
                calls.inside = inside

        return super().rematerialized_call(unobserved, *args, **kwargs)

    @backend.uncompiled
    def _get_own_losses(self) -> list[Tensor]:
        # Not `add_loss` within `call`: what nobody asks for, as in `predict`
        # and in exported models, is not computed. Nor does a layer called
        # twice lose the first one, as it does under the JAX trainer, where
        # every call clears the losses of the layer (7.5 becomes 6.0; Keras
        # 3.15).
        calls = self.actpen.calls
        if self._called and not calls.has_come and is_in_train_step():
            calls.passed_by(self)
        return [*super()._get_own_losses(), *self.actpen.losses(self)]

    @backend.uncompiled
    def _clear_losses(self) -> None:
        self.actpen.enter()
        # Any call sets it, of the root too.
        vars(self)["_called"] = False
        super()._clear_losses()

    def _trackable_children(
        self, save_type: str = "checkpoint", **kwargs: Any
    ) -> dict[str, Any]:
        # What `tf.train.Checkpoint` saves; a SavedModel has no penalties.
        children = super()._trackable_children(save_type, **kwargs)
        if save_type != "checkpoint":
            return children
        return {**children, **self.actpen.variables}
