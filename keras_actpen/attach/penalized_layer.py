"""The layer that stands in for a penalised layer."""

import functools
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_actpen import backend, internals, penalties
from keras_actpen.attach import recording
from keras_actpen.attach.capture import (
    ActivationSpec,
    Watched,
    mask_for,
    observed_call,
    padding_mask,
    watched_at,
)
from keras_actpen.attach.coefficients import Coefficients, Term, terms_by_name
from keras_actpen.attach.deferred_losses import Call, DeferredLosses
from keras_actpen.attach.delegation import DelegatingLayer
from keras_actpen.backend.tensors import MaskedTensors, Tensor
from keras_actpen.internals.deserialization import described, parts
from keras_actpen.internals.registration import serializable
from keras_actpen.penalties.base import check_term_name


@serializable
class PenalizedLayer(DelegatingLayer):
    """A layer with penalties on what it puts out.

    It has the name, the weights, the attributes and the call signature of the
    layer it wraps, and computes the same outputs. `attach_penalty` puts it in
    the layer's place; it can also be used directly when a model is written:

    ```python
    x = PenalizedLayer(keras.layers.Dense(8), penalties.L2(0.01))(x)
    ```

    Each call adds the sum of its terms, coefficient times value, to the loss.
    A term whose coefficient is 0 adds exactly 0, even if its value overflows.
    Masked positions are not counted: neither those of the Keras mask on the
    output, nor, where there is none, those of a `padding_mask` or
    `decoder_padding_mask` argument, as KerasHub passes them.

    Args:
        layer: The `keras.layers.Layer` to wrap.
        penalties: A penalty (anything that `penalties.get` takes), a sequence
            of them or `()` to only watch the layer.
        on: `"output"`, the output after the activation, or
            `"preactivation"`, what the layer's own activation receives.
        output: Index or key of the output of a layer that has several, or
            `"all"` for their sum.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If two terms have the same name, or, when the layer is
            called, if the output is not a float tensor, the layer applies no
            activation of its own, or a function returns no scalar.
    """

    def __new__(
        cls, layer: keras.layers.Layer, *args: Any, **kwargs: Any
    ) -> "PenalizedLayer":
        """Make an instance of the class that stands for `layer`'s class."""
        if isinstance(layer, PenalizedLayer):
            raise ValueError(
                "Invalid value received for argument `layer`. Expected a "
                "layer without penalties; use `attach_penalty(model, "
                f"{layer.name!r}, ...)` to add penalties to a penalised "
                f"layer. Received: layer={layer}"
            )
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                "Invalid type received for argument `layer`. Expected a "
                f"keras.layers.Layer. Received: layer={layer!r} (of type "
                f"{type(layer).__name__})"
            )
        return super().__new__(_class_for(type(layer)), layer, *args, **kwargs)

    def __init__(
        self,
        layer: keras.layers.Layer,
        penalties: penalties.Identifiers | Mapping[str, Term] = (),
        *,
        on: str = "output",
        output: int | str = 0,
    ):
        place = ActivationSpec(on, output)
        terms = terms_by_name(penalties, place, layer.name)
        super().__init__(layer)
        self.supports_jit: bool = layer.supports_jit
        self.supports_masking = True
        self.terms = terms
        self.places: tuple[ActivationSpec, ...] = tuple(
            dict.fromkeys(t.place for t in terms.values())
        ) or (place,)
        # Size of the last axis at each place, as far as it is known.
        self.place_units: dict[ActivationSpec, int | None] = {}
        self._saved_in_config = False
        self._calls = DeferredLosses()
        with keras.name_scope(layer.name):
            self.coefficients: Coefficients | dict[str, float] = (
                Coefficients(terms) if terms else {}
            )
        if terms:
            self._coefficient_variable = self.coefficients.variable
        self.wrapped_layer: keras.layers.Layer = layer
        self.build()

    def _penalized_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        outputs, watched = observed_call(
            self.wrapped_layer, self.places, args, kwargs
        )
        self._note_units(watched)
        recorder = recording.current()
        if not self.terms and recorder is None:
            return outputs
        call = Call(watched, internals.entry_of_replica(self))
        if self.terms:
            self._calls.here().append(call)
            if backend.differentiates_latest_first(watched.values()):
                self._values_of(call)
        if recorder is not None:
            values = functools.partial(self._values_of, call)
            with internals.own_losses(call.entry):
                recorder.record(self, watched, values)
        return outputs

    def losses_of_calls(self) -> list[Tensor]:
        """What each call since the last outermost one adds to the loss."""
        recording.note_asked(self)
        return [
            _loss(*self._values_of(call).values())
            for call in list(self._calls.here())
            if call.values is not None
            or backend.is_in_reach(list(call.watched.values()))
        ]

    def forget_calls(self) -> None:
        """Forget the calls outside of stateless scopes."""
        self._calls.outside.clear()

    def _values_of(self, call: Call) -> dict[str, Tensor]:
        if call.values is None:
            with internals.own_losses(call.entry):
                call.values = self._term_values(call.watched)
            # Not to keep the activations until the next step.
            call.watched = {}
        return call.values

    def _term_values(self, watched: Watched) -> dict[str, Tensor]:
        if not self.terms:  # only watched, without coefficients
            return {}
        coefficients = backend.scalars(self._coefficient_variable)
        return {
            name: _term_value(term.penalty, watched[term.place], coefficient)
            for (name, term), coefficient in zip(
                self.terms.items(), coefficients, strict=True
            )
        }

    def _note_units(self, watched: Watched) -> None:
        for place, tensors in watched.items():
            for tensor, _ in tensors:
                shape = tensor.shape
                units = shape[-1] if len(shape) > 1 else 1
                # Written only if it is new: Keras looks at what is written.
                if place not in self.place_units:
                    self.place_units[place] = units
                elif self.place_units[place] not in (units, None):
                    self.place_units[place] = None

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Output spec of the wrapped layer, after a check of the terms."""
        outputs, watched = self._observed_spec(args, kwargs)
        self._check_targets(watched)

        def values(*watched: MaskedTensors) -> list[Tensor]:
            by_place = dict(zip(self.places, watched, strict=True))
            return list(self._term_values(by_place).values())

        if self.terms:
            # To refuse a function that returns no scalar.
            internals.try_out(values, *watched.values())
        return outputs

    def _observed_spec(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Watched]:
        """Specs of the outputs and of what is watched."""
        layer = self.wrapped_layer
        if not isinstance(layer, keras.Model) and all(
            place.on == "output" for place in self.places
        ):
            # Most layers know it without being traced, which takes longer.
            outputs = layer.compute_output_spec(*args, **kwargs)
            return outputs, watched_at(
                self.places, layer, outputs, args, kwargs
            )

        def observed(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
            outputs, watched = observed_call(layer, self.places, args, kwargs)
            return outputs, [
                [tensor for tensor, _ in tensors]
                for tensors in watched.values()
            ]

        outputs, found = internals.output_spec(observed, args, kwargs)
        padding = padding_mask(layer, args, kwargs)
        watched = {
            place: [(one, mask_for(one, None, padding)) for one in tensors]
            for place, tensors in zip(self.places, found, strict=True)
        }
        if isinstance(layer, keras.Model):
            return outputs, watched
        return layer.compute_output_spec(*args, **kwargs), watched

    def _check_targets(self, watched: Watched) -> None:
        self._note_units(watched)
        activation = getattr(self.wrapped_layer, "activation", None)
        for term in self.terms.values():
            for tensor, _ in watched[term.place]:
                term.penalty.check_target(tensor, activation, term.place.on)

    def save_assets(self, path: str) -> None:
        """Save the wrapped layer's assets; warn if the penalty gets lost."""
        if not self._saved_in_config:
            warnings.warn(
                f"The penalties of layer {self.name!r} are not saved: the "
                "model's own `get_config` re-creates its layers without "
                "them. The weights are. After loading, call "
                "`attach_penalty` again.",
                stacklevel=2,
            )
        self._saved_in_config = False
        save_assets = getattr(self.wrapped_layer, "save_assets", None)
        if save_assets is not None:
            save_assets(path)

    def get_config(self) -> dict[str, Any]:
        """Config of the wrapped layer, the terms and their coefficients."""
        if internals.is_writing_keras_file():
            self._saved_in_config = True
        return {
            "layer": keras.saving.serialize_keras_object(self.wrapped_layer),
            "terms": {
                name: {
                    "penalty": penalties.serialize(term.penalty),
                    "coefficient": self.coefficients[name],
                    "on": term.place.on,
                    "output": term.place.output,
                }
                for name, term in self.terms.items()
            },
            "on": self.places[0].on,
            "output": self.places[0].output,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PenalizedLayer":
        """Re-create the layer and its penalties."""
        inner, given, on, output = parts(
            "config", config, "layer", "terms", "on", "output"
        )
        parts("terms", given)
        terms, coefficients = {}, {}
        for name, term in given.items():
            penalty, coefficients[check_term_name(name)], *place = parts(
                "term", term, "penalty", "coefficient", "on", "output"
            )
            terms[name] = Term(
                penalties.deserialize(penalty), ActivationSpec(*place)
            )
        # Keras looks the class up by its registered name, which all these
        # classes share: `cls` may be that of another wrapped class.
        layer = PenalizedLayer(
            described("layer", inner, keras.layers.Layer),
            terms,
            on=on,
            output=output,
        )
        for name, coefficient in coefficients.items():
            if coefficient != layer.coefficients[name]:
                layer.coefficients[name] = coefficient
        return layer


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


_classes: "weakref.WeakKeyDictionary[type, type]" = weakref.WeakKeyDictionary()


def _class_for(layer_class: type) -> type:
    """PenalizedLayer with the name and the call signature of a class.

    Weight files call a layer by the name of its class, and Keras reads from
    the signature of `call` which arguments and masks to pass.
    """
    if layer_class not in _classes:

        @functools.wraps(layer_class.call)
        def call(self: PenalizedLayer, *args: Any, **kwargs: Any) -> Any:
            return self._penalized_call(args, kwargs)

        register = keras.saving.register_keras_serializable(
            package="keras_actpen", name="PenalizedLayer"
        )
        _classes[layer_class] = register(
            type(
                layer_class.__name__,
                (PenalizedLayer,),
                {"call": call, "__module__": __name__},
            )
        )
        register(PenalizedLayer)
    return _classes[layer_class]
