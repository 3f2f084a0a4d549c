"""What a penalized layer has beside the layer: terms and what they see."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_actpen import backend, internals, penalties
from keras_actpen.attach import recording
from keras_actpen.attach.capture import ActivationSpec, Watched, observed_call
from keras_actpen.attach.coefficients import Coefficients, Term
from keras_actpen.attach.deferred_losses import Call, DeferredLosses
from keras_actpen.backend.tensors import MaskedTensors, Tensor


class Attachment:
    """The terms of one layer, and its calls since the last outermost one.

    It observes the calls of an `internals.ObservedTwin`. None of it is an
    attribute of the layer, where it could hide one of the user's.

    Attributes:
        terms: The terms by their names.
        specs: Where the layer is looked at.
        spec_units: Size of the last axis at each place, as far as it is
            known, or None where calls differ.
        coefficients: The coefficients by the names of the terms.
        calls: The calls that the loss may still be asked for.
        session: What records the model of which the layer is the first
            penalized one, kept for the next `fit` to compile nothing anew.
        states: What hands its variables through the model's steps.
        is_saved: Whether the `.keras` file that is being written has the
            terms.
        is_made_again: Whether the class that holds the layer attaches them
            whenever one of its objects is made.
    """

    def __init__(
        self,
        terms: dict[str, Term],
        spec: ActivationSpec,
        is_made_again: bool,
    ):
        self.terms = terms
        self.specs: tuple[ActivationSpec, ...] = tuple(
            dict.fromkeys(term.spec for term in terms.values())
        ) or (spec,)
        self.spec_units: dict[ActivationSpec, int | None] = {}
        self.coefficients: Coefficients | dict[str, float] = (
            Coefficients(terms) if terms else {}
        )
        self.calls: DeferredLosses = DeferredLosses()
        self.session: Any = None
        self.states: list[Any] = []
        self.is_saved = False
        self.is_made_again: bool = is_made_again

    @property
    def variables(self) -> list[keras.Variable]:
        """The coefficients."""
        return [self.coefficients.variable] if self.terms else []

    @property
    def state_variables(self) -> list[keras.Variable]:
        """What is there for as long as the model is recorded."""
        return [variable for one in self.states for variable in one.variables]

    def observe(
        self,
        layer: Any,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call a layer and note the call.

        Args:
            layer: The `PenalizedLayer`.
            call: What computes its outputs.
            args: Arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        entry = internals.entry_of_replica(layer)
        outputs, watched = observed_call(
            layer.wrapped_layer, self.specs, args, kwargs, call
        )
        self._note_units(watched)
        recorder = recording.current()
        if not self.terms and recorder is None:
            return outputs
        noted = Call(watched, entry, backend.running_trace())
        if self.terms:
            self.calls.here().append(noted)
            if backend.differentiates_latest_first(watched.values()):
                self._values_of(layer, noted)
        if recorder is not None:
            values = functools.partial(self._values_of, layer, noted)
            with internals.own_losses(entry):
                recorder.record(layer, watched, values)
        return outputs

    def losses(self, layer: Any) -> list[Tensor]:
        """What each call since the last outermost one adds to the loss.

        Args:
            layer: The `PenalizedLayer`.
        """
        recording.note_asked(layer)
        return [
            _loss(*self._values_of(layer, call).values())
            for call in list(self.calls.here())
            if call.values is not None
            or backend.is_in_reach(list(call.watched.values()))
        ]

    def forget_calls(self) -> None:
        """Forget the calls outside of stateless scopes."""
        self.calls.outside.clear()

    def check(self, layer: keras.layers.Layer, watched: Watched) -> None:
        """Refuse tensors that do not suit the terms.

        Args:
            layer: The plain layer.
            watched: Symbolic tensors.

        Raises:
            ValueError: If one does not, or a function returns no scalar.
        """
        self._note_units(watched)
        if not self.terms:
            return
        activation = getattr(layer, "activation", None)
        for term in self.terms.values():
            for tensor, _ in watched[term.spec]:
                term.penalty.check_target(tensor, activation, term.spec.on)

        def values(*tensors: MaskedTensors) -> list[Tensor]:
            by_spec = dict(zip(watched, tensors, strict=True))
            return list(self._term_values(by_spec).values())

        internals.try_out(values, *watched.values())

    def _values_of(self, layer: Any, call: Call) -> dict[str, Tensor]:
        tensors = [call.values, list(call.watched.values())]
        if backend.have_escaped(tensors, call.trace):
            raise recording.out_of_reach(layer)
        if call.values is None:
            with internals.own_losses(call.entry):
                call.values = self._term_values(call.watched)
            # Not to keep the activations until the next step.
            call.watched = {}
        return call.values

    def _term_values(self, watched: Watched) -> dict[str, Tensor]:
        if not self.terms:  # only watched, without coefficients
            return {}
        coefficients = backend.scalars(self.coefficients.variable)
        return {
            name: _term_value(term.penalty, watched[term.spec], coefficient)
            for (name, term), coefficient in zip(
                self.terms.items(), coefficients, strict=True
            )
        }

    def _note_units(self, watched: Watched) -> None:
        for spec, tensors in watched.items():
            for tensor, _ in tensors:
                shape = tensor.shape
                units = shape[-1] if len(shape) > 1 else 1
                # Written only if it is new: torch.compile guards what it is.
                if spec not in self.spec_units:
                    self.spec_units[spec] = units
                elif self.spec_units[spec] not in (units, None):
                    self.spec_units[spec] = None


def _term_value(
    penalty: penalties.Penalty, tensors: MaskedTensors, coefficient: Tensor
) -> Tensor:
    # Not from 0: that would be one more operation.
    first, *others = (penalty.value(*one) for one in tensors)
    value = sum(others, first)
    return backend.scaled(value, coefficient)


def _loss(first: Tensor, *others: Tensor) -> Tensor:
    """Sum, of the dtype of Keras's own losses: TensorFlow adds no others."""
    total = sum(others, first)
    floatx = keras.config.floatx()
    if keras.backend.standardize_dtype(total.dtype) == floatx:
        return total
    return ops.cast(total, floatx)
