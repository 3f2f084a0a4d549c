"""What a penalized layer adds to the layer: its terms and its calls."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from keras_actpen import backend, internals
from keras_actpen.attach import recording
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.capture import Watched, observed_call
from keras_actpen.attach.coefficients import Coefficients, Term
from keras_actpen.attach.deferred_losses import Call, DeferredLosses
from keras_actpen.attach.inner_calls import Penalized, observed_inside
from keras_actpen.attach.inner_layers import InnerLayer
from keras_actpen.attach.plan import Plan
from keras_actpen.attach.term_values import loss_of, term_values
from keras_actpen.attach.weights import trained_weight_of, weight_of
from keras_actpen.backend.tensors import MaskedTensors, Tensor


class Attachment:
    """The terms of one layer, and its calls since the last outermost one.

    It observes the calls of an `internals.ObservedTwin`. None of it is an
    attribute of the layer, where it could hide one of the user's.

    Attributes:
        terms: The terms by their names.
        specs: Where the layer is looked at; nowhere if only what is inside it
            is.
        spec_units: Size of the last axis at each place, as far as it is
            known, or None where calls differ.
        spec_shapes: Shapes of the tensors at each place, as texts.
        coefficients: The coefficients by the names of the terms.
        calls: The calls that the loss may still be asked for.
        of_calls: The places that each call shows.
        of_weights: The places that are weights.
        inner: The penalized layers inside the layer, by path.
        unfound: What layers inside are to have that do not exist yet.
        within: Where the layer is, if it is inside another one.
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
        specs: Iterable[ActivationSpec],
        is_made_again: bool,
        within: InnerLayer | None = None,
    ):
        self.terms = terms
        self.specs: tuple[ActivationSpec, ...] = tuple(dict.fromkeys(specs))
        self.of_calls: tuple[ActivationSpec, ...] = tuple(
            one for one in self.specs if not one.is_weight
        )
        self.of_weights: tuple[ActivationSpec, ...] = tuple(
            one for one in self.specs if one.is_weight
        )
        self.spec_units: dict[ActivationSpec, int | None] = {}
        self.spec_shapes: dict[ActivationSpec, str] = {}
        self.coefficients: Coefficients | dict[str, float] = (
            Coefficients(terms) if terms else {}
        )
        self.calls: DeferredLosses = DeferredLosses()
        self.inner: dict[str, Penalized] = {}
        self.unfound: dict[str, Plan] = {}
        self.within: InnerLayer | None = within
        self.session: Any = None
        self.states: list[Any] = []
        self.is_saved = False
        self.is_made_again: bool = is_made_again

    def __str__(self) -> str:
        """What is attached: the names of the terms."""
        if not self.terms:
            return "watched"
        word = "penalty" if len(self.terms) == 1 else "penalties"
        return f"{word}: {', '.join(self.terms)}"

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """The coefficients, those of inner layers too, by names for files."""
        found = {}
        if self.terms:
            found["penalty_coefficients"] = self.coefficients.variable
        for path, layer in self.inner.items():
            for name, variable in layer.actpen.variables.items():
                found[f"{path}/{name}"] = variable
        return found

    @property
    def state_variables(self) -> list[keras.Variable]:
        """What is there for as long as the model is recorded."""
        states = [*self.states]
        for layer in self.inner.values():
            states += layer.actpen.states
        return [variable for one in states for variable in one.variables]

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
        root = layer.wrapped_layer
        if self.unfound:
            if not root.built:
                internals.output_spec(root, args, kwargs)  # builds it
            layer.find_inner()
        if not self.inner:
            outputs, watched = observed_call(
                root, self.of_calls, args, kwargs, call
            )
        else:
            outputs, watched, inside = observed_inside(
                root, self.of_calls, [*self.inner.values()], args, kwargs, call
            )
            for inner, seen in inside:
                inner.actpen.note(inner, seen, entry)
        if self.specs:
            self.note(layer, watched, entry)
        return outputs

    def note(
        self, layer: Any, watched: Watched, entry: internals.Entry | None
    ) -> None:
        """Take note of one call of the layer.

        Args:
            layer: The `PenalizedLayer`.
            watched: What the call has shown.
            entry: Finds the outermost layer of the call.
        """
        self._note_units(watched)
        recorder = recording.current()
        if not self.terms and recorder is None:
            return
        hidden = bool(self.terms) and backend.is_hidden_from_tapes()
        recorded = backend.are_recorded([*watched.values()])
        noted = Call(watched, entry, backend.running_trace(), hidden, recorded)
        if self.terms and watched:
            self.calls.add(noted)
            if backend.differentiates_latest_first(watched.values()):
                self._compute(noted)
        if recorder is not None:
            values = functools.partial(self._values_of, layer, noted)
            with internals.own_losses(entry):
                recorder.record(layer, watched, values)

    def losses(self, layer: Any) -> list[Tensor]:
        """What the calls since the last outermost one, and the weights, add.

        Args:
            layer: The `PenalizedLayer`.
        """
        recording.note_asked(layer)
        found = [
            loss_of(*self._values_of(layer, call).values())
            for call in self.calls.in_reach(layer)
        ]
        if self.of_weights:
            found.append(loss_of(*self._weight_values(layer).values()))
        for inner in self.inner.values():
            found += inner.actpen.losses(inner)
        return found

    def show_weights(self, layer: Any) -> None:
        """Tell the recorder of the weights where nobody asks for the losses.

        Args:
            layer: The `PenalizedLayer`.
        """
        if self.of_weights:
            self._weight_values(layer)

    def _weight_values(self, layer: Any) -> dict[str, Tensor]:
        """What the terms on weights add, once per step."""
        root = layer.wrapped_layer
        weights = {one: weight_of(root, one.on) for one in self.of_weights}
        watched = {
            # Keras's own regularizers skip frozen weights too.
            spec: [(ops.convert_to_tensor(one), None)]
            for spec, one in weights.items()
            if one.trainable
        }
        values = {
            name: ops.zeros((), keras.config.floatx())
            for name, term in self.terms.items()
            if term.spec in weights
        } | term_values(self.terms, self.coefficients, watched)
        recorder = recording.current()
        if recorder is not None:
            shown = {
                spec: [(ops.expand_dims(one, 0), None) for one, _ in tensors]
                for spec, tensors in watched.items()
            }
            self._note_units(shown)
            recorder.record_weights(layer, shown, lambda: values)
        return values

    def enter(self) -> None:
        """Take note that a call of the outermost layer begins."""
        self._enter(backend.running_trace(), internals.stateless_scope())

    def _enter(self, trace: object, scope: Any) -> None:
        self.calls.enter(trace, scope)
        for layer in self.inner.values():
            layer.actpen._enter(trace, scope)

    def check(self, layer: keras.layers.Layer, watched: Watched) -> None:
        """Refuse tensors that do not suit the terms.

        Args:
            layer: The plain layer.
            watched: Symbolic tensors of a call.

        Raises:
            ValueError: If one does not, or a function returns no scalar.
        """
        weights = {}
        if layer.built:
            weights = {
                spec: trained_weight_of(layer, spec.on)
                for spec in self.of_weights
            }
        seen = watched | {
            spec: [(keras.KerasTensor((1, *one.shape), one.dtype), None)]
            for spec, one in weights.items()
        }
        self._note_units(seen)
        for spec, tensors in watched.items():
            shapes = [str(tuple(tensor.shape)) for tensor, _ in tensors]
            self.spec_shapes[spec] = ", ".join(shapes)
        if not self.terms:
            return
        activation = getattr(layer, "activation", None)
        for term in self.terms.values():
            for tensor, _ in seen.get(term.spec, ()):
                term.penalty.check_target(tensor, activation, term.spec.on)

        given = watched | {
            spec: [(keras.KerasTensor(one.shape, one.dtype), None)]
            for spec, one in weights.items()
        }

        def values(*tensors: MaskedTensors) -> list[Tensor]:
            by_spec = dict(zip(given, tensors, strict=True))
            return list(
                term_values(self.terms, self.coefficients, by_spec).values()
            )

        internals.try_out(values, *given.values())

    def _values_of(self, layer: Any, call: Call) -> dict[str, Tensor]:
        is_hidden = call.is_hidden and not backend.is_hidden_from_tapes()
        if is_hidden or backend.have_escaped(call.tensors, call.trace):
            raise recording.out_of_reach(layer)
        return self._compute(call)

    def _compute(self, call: Call) -> dict[str, Tensor]:
        """The values of a call, computed once."""
        if call.values is not None:
            return call.values
        with internals.own_losses(call.entry):
            values = term_values(self.terms, self.coefficients, call.watched)
        if not call.is_recorded or backend.are_recorded(call.tensors):
            call.values = values
            # So that activations are not kept until the next step.
            call.watched = {}
        return values

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
