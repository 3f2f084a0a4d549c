"""The layer that stands in for a penalised layer."""

import contextlib
import functools
import inspect
import warnings
import weakref
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_actpen import backend, internals, penalties, recording
from keras_actpen.penalties.base import Penalty, check_coefficient
from keras_actpen.pending import Call, calls_of

PLACES = ("output", "preactivation")


@dataclass(frozen=True)
class Place:
    """Which tensors of a layer are looked at.

    Args:
        on: `"output"` or `"preactivation"`.
        output: Index or key of the output, or `"all"`.
    """

    on: str = "output"
    output: int | str = 0

    def __post_init__(self):
        """Check the arguments."""
        if self.on not in PLACES:
            raise ValueError(
                "Invalid value received for argument `on`. Expected "
                f"'output' or 'preactivation'. Received: on={self.on!r}"
            )
        if isinstance(self.output, bool) or not isinstance(
            self.output, int | str
        ):
            raise TypeError(
                "Invalid type received for argument `output`. Expected the "
                "index or the key of one output, or 'all'. Received: "
                f"output={self.output!r} (of type "
                f"{type(self.output).__name__})"
            )

    def __str__(self) -> str:
        """The place as it is shown to users: `output`, `output[1]`."""
        return self.on if self.output == 0 else f"{self.on}[{self.output}]"


@dataclass(frozen=True)
class Term:
    """One penalty at one place of a layer."""

    penalty: Penalty
    place: Place


class Coefficients(MutableMapping):
    """The coefficients of a layer's terms, by name, readable and settable.

    They live in device state: a change takes effect at the next step, without
    a recompilation.
    """

    def __init__(self, terms: Mapping[str, Term]):
        self._values = {n: t.penalty.coefficient for n, t in terms.items()}
        self.variable = keras.Variable(
            list(self._values.values()),
            shape=(len(terms),),
            dtype="float32",
            trainable=False,
            autocast=False,
            name="penalty_coefficients",
        )

    def __getitem__(self, name: str) -> float:
        """Coefficient of the term called `name`."""
        return self._values[name]

    def __setitem__(self, name: str, value: float) -> None:
        """Set the coefficient of an existing term."""
        if name not in self._values:
            raise KeyError(
                f"No term is called {name!r}. Existing terms: {list(self)}. "
                "Terms are added with `attach_penalty`."
            )
        self._values[name] = check_coefficient("coefficient", value)
        self.variable.assign(list(self._values.values()))

    def __delitem__(self, name: str) -> None:
        """Terms cannot be deleted one by one."""
        raise TypeError(
            f"Cannot delete the coefficient {name!r}. Set it to 0, or remove "
            "the layer's penalties with `detach_penalty`."
        )

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the terms."""
        return iter(self._values)

    def __len__(self) -> int:
        """Number of terms."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show the coefficients as a dictionary."""
        return repr(self._values)


@keras.saving.register_keras_serializable(package="keras_actpen")
class PenalizedLayer(internals.TransparentLayer):
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

    def __new__(cls, layer, *args, **kwargs):
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
        penalties: Any = (),
        *,
        on: str = "output",
        output: int | str = 0,
    ):
        place = Place(on, output)
        terms = _terms(penalties, place, layer.name)
        # Rematerialising the wrapper would compute its terms twice and, on
        # JAX, leak the tracers of the added loss.
        with keras.RematScope(mode=None):
            super().__init__(layer)
        self.supports_jit = layer.supports_jit
        self.supports_masking = True
        self.terms = terms
        self.places = tuple(dict.fromkeys(t.place for t in terms.values())) or (
            place,
        )
        # Size of the last axis at each place, as far as it is known.
        self.place_units = {}
        self._saved_in_config = False
        with keras.name_scope(layer.name):
            self.coefficients = Coefficients(terms) if terms else {}
        if terms:
            self._coefficient_variable = self.coefficients.variable
        self.wrapped_layer = layer
        self.build()

    def build(self, input_shape=None):
        """Nothing to build: the wrapped layer builds itself when called."""
        self.built = True

    def get_build_config(self):
        """None: the wrapped layer's build config is in its own config."""
        return None

    def _penalized_call(self, args, kwargs):
        outputs, watched = self._observed_call(args, kwargs)
        for place, tensors in watched.items():
            self._note_units(place, [tensor for tensor, _ in tensors])
        call = Call(watched, internals.entry_layer(self))
        if self.terms:
            calls_of(self).append(call)
        recorder = recording.current()
        if recorder is not None:
            recorder.record(self, watched, self._values_of(call))
        return outputs

    def losses_of_calls(self) -> list:
        """What each call since the last outermost one adds to the loss."""
        floatx = keras.config.floatx()
        return [
            # Of the dtype of Keras's own losses: TensorFlow adds no others up.
            ops.cast(sum(self._values_of(call).values()), floatx)
            for call in list(calls_of(self))
            if call.values is not None
            or backend.is_in_reach(list(call.watched.values()))
        ]

    def forget_calls(self) -> None:
        """Forget the calls that no loss has been asked for."""
        calls_of(self).clear()

    def _values_of(self, call):
        if call.values is None:
            with internals.own_losses(call.entry):
                call.values = self._term_values(call.watched)
        return call.values

    def _observed_call(self, args, kwargs):
        """Call the wrapped layer; also return the tensors at each place."""
        layer = self.wrapped_layer
        if any(place.on == "preactivation" for place in self.places):
            with _tapped_activation(layer) as seen:
                outputs = layer(*args, **kwargs)
            preactivation = _only_tapped(layer, seen)
        else:
            outputs = layer(*args, **kwargs)
            preactivation = None
        padding = _padding_mask(type(layer).call, args, kwargs)
        watched = {
            place: [
                (tensor, _mask_for(tensor, mask, padding))
                for tensor, mask in _tensors_at(
                    place, layer, outputs, preactivation
                )
            ]
            for place in self.places
        }
        return outputs, watched

    def _term_values(self, watched):
        return {
            name: self._term_value(index, term.penalty, watched[term.place])
            for index, (name, term) in enumerate(self.terms.items())
        }

    def _note_units(self, place, tensors):
        sizes = {
            tensor.shape[-1] if len(tensor.shape) > 1 else 1
            for tensor in tensors
        }
        if place in self.place_units:
            sizes.add(self.place_units[place])
        self.place_units[place] = sizes.pop() if len(sizes) == 1 else None

    def _term_value(self, index, penalty, tensors):
        value = sum(penalty.value(tensor, mask) for tensor, mask in tensors)
        coefficient = ops.cast(self._coefficient_variable[index], value.dtype)
        # 0 times an infinite value would be NaN.
        return ops.where(
            coefficient == 0, ops.zeros_like(value), coefficient * value
        )

    def compute_output_spec(self, *args, **kwargs):
        """Output spec of the wrapped layer, after a check of the terms."""

        def observed(*args, **kwargs):
            outputs, watched = self._observed_call(args, kwargs)
            return outputs, [
                [tensor for tensor, _ in tensors]
                for tensors in watched.values()
            ]

        def penalized(*args, **kwargs):
            return self._term_values(self._observed_call(args, kwargs)[1])

        outputs, found = internals.output_spec(observed, args, kwargs)
        watched = dict(zip(self.places, found, strict=True))
        for place, tensors in watched.items():
            self._note_units(place, tensors)
        activation = getattr(self.wrapped_layer, "activation", None)
        for term in self.terms.values():
            for tensor in watched[term.place]:
                term.penalty.check_target(tensor, activation, term.place.on)
        if self.terms:
            # For the errors alone: a function that returns no scalar.
            internals.output_spec(penalized, args, kwargs)
        if isinstance(self.wrapped_layer, keras.Model):
            return outputs
        return self.wrapped_layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        """Output shape of the wrapped layer."""
        return self.wrapped_layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, *args, **kwargs):
        """Mask of the wrapped layer, None if it does not support masking."""
        if not self.wrapped_layer.supports_masking:
            return None
        return self.wrapped_layer.compute_mask(*args, **kwargs)

    def quantized_call(self, *args, **kwargs):
        """Call: only the wrapped layer is ever quantised."""
        return self.call(*args, **kwargs)

    def quantize(self, *args, **kwargs):
        """Quantise the wrapped layer."""
        return self.wrapped_layer.quantize(*args, **kwargs)

    @property
    def weights(self):
        """Weights of the wrapped layer."""
        return self.wrapped_layer.weights

    @property
    def metrics(self):
        """None: Keras finds those of the wrapped layer by itself."""
        return []

    @property
    def path(self):
        """Path of the wrapped layer."""
        return self.wrapped_layer.path

    @property
    def trainable(self):
        """Whether the wrapped layer is trainable."""
        return self.wrapped_layer.trainable

    @trainable.setter
    def trainable(self, value):
        self.wrapped_layer.trainable = value

    @property
    def input_spec(self):
        """Input spec of the wrapped layer."""
        return self.wrapped_layer.input_spec

    @input_spec.setter
    def input_spec(self, value):
        self.wrapped_layer.input_spec = value

    @property
    def dtype_policy(self):
        """Dtype policy of the wrapped layer."""
        return self.wrapped_layer.dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value):
        self.wrapped_layer.dtype_policy = value

    def save_own_variables(self, store):
        """Save what the wrapped layer saves, so that files interchange."""
        self.wrapped_layer.save_own_variables(store)

    def load_own_variables(self, store):
        """Load what the wrapped layer saved."""
        self.wrapped_layer.load_own_variables(store)

    def save_assets(self, path):
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

    def get_config(self):
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
    def from_config(cls, config):
        """Re-create the layer and its penalties."""
        terms = {
            name: Term(
                penalties.deserialize(term["penalty"]),
                Place(term["on"], term["output"]),
            )
            for name, term in config["terms"].items()
        }
        # Keras looks the class up by its registered name, which all these
        # classes share: `cls` may be that of another wrapped class.
        layer = PenalizedLayer(
            keras.saving.deserialize_keras_object(config["layer"]),
            terms,
            on=config["on"],
            output=config["output"],
        )
        for name, term in config["terms"].items():
            if term["coefficient"] != layer.coefficients[name]:
                layer.coefficients[name] = term["coefficient"]
        return layer

    def __getattr__(self, name):
        """Attributes of the wrapped layer."""
        inherited = getattr(super(), "__getattr__", None)
        if inherited is not None:
            with contextlib.suppress(AttributeError):
                return inherited(name)
        if not name.startswith("__") and name not in _plain_attributes():
            layer = vars(self).get("wrapped_layer") or vars(self).get(
                "_modules", {}
            ).get("wrapped_layer")
            if layer is not None:
                return getattr(layer, name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def __setattr__(self, name, value):
        """Set on the wrapped layer what only the wrapped layer has."""
        if (
            not name.startswith("_")
            and name not in vars(self)
            and not hasattr(type(self), name)
            and hasattr(self, name)
        ):
            setattr(self.wrapped_layer, name, value)
        else:
            super().__setattr__(name, value)

    def __dir__(self):
        """Attributes of the wrapped layer: weight files are made of them."""
        return dir(self.wrapped_layer)


_classes: "weakref.WeakKeyDictionary[type, type]" = weakref.WeakKeyDictionary()


def _class_for(layer_class: type) -> type:
    """PenalizedLayer with the name and the call signature of a class.

    Weight files call a layer by the name of its class, and Keras reads from
    the signature of `call` which arguments and masks to pass.
    """
    if layer_class not in _classes:

        @functools.wraps(layer_class.call)
        def call(self, *args, **kwargs):
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


@functools.cache
def _plain_attributes() -> frozenset[str]:
    """Attributes of any built layer, which must never be delegated."""
    layer = keras.layers.Layer()
    layer.build(None)
    return frozenset(dir(layer))


def _terms(given: Any, place: Place, layer_name: str) -> dict[str, Term]:
    """Terms by name from what the constructor takes as `penalties`."""
    if isinstance(given, Mapping) and all(
        isinstance(term, Term) for term in given.values()
    ):
        return dict(given)
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        given = (given,)
    terms: dict[str, Term] = {}
    for penalty in map(penalties.get, given):
        if penalty.name in terms:
            raise ValueError(
                "Invalid value received for argument `penalties`. Expected "
                "terms with different names; give one of them another, for "
                f"example name='{penalty.name}_2'. Received: two terms "
                f"called {penalty.name!r} on layer {layer_name!r}"
            )
        terms[penalty.name] = Term(penalty, place)
    return terms


@contextlib.contextmanager
def _tapped_activation(layer: keras.layers.Layer) -> Iterator[list]:
    """Note every tensor that the layer's own activation receives."""
    attributes = vars(layer)
    activation = attributes.get("activation")
    if not callable(activation):
        raise _no_preactivation(layer)
    seen = []

    def tap(x, *args, **kwargs):
        seen.append(x)
        return activation(x, *args, **kwargs)

    # Not setattr, which would track the function as state of the layer.
    attributes["activation"] = tap
    try:
        yield seen
    finally:
        attributes["activation"] = activation


def _only_tapped(layer: keras.layers.Layer, seen: list) -> Any:
    if len(seen) != 1:
        raise _no_preactivation(layer)
    return seen[0]


def _no_preactivation(layer: keras.layers.Layer) -> ValueError:
    return ValueError(
        "Invalid value received for argument `on`. Expected on='output' for "
        f"layer {layer.name!r} (of type {type(layer).__name__}), which does "
        "not apply an activation of its own exactly once; to penalise what "
        "an activation layer receives, target the layer in front of it. "
        "Received: on='preactivation'"
    )


def _tensors_at(
    place: Place,
    layer: keras.layers.Layer,
    outputs: Any,
    preactivation: Any,
) -> list[tuple[Any, Any]]:
    """Tensors at a place of a layer, each with its mask or None."""
    flat = tree.flatten(outputs)
    if place.on == "preactivation":
        chosen = [(preactivation, internals.mask_of(flat[0]))]
    elif place.output == "all":
        chosen = [(tensor, internals.mask_of(tensor)) for tensor in flat]
    else:
        tensor = _chosen_output(layer, outputs, place.output)
        chosen = [(tensor, internals.mask_of(tensor))]
    for tensor, _ in chosen:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "Invalid value received for argument `layers`. Expected a "
                "layer with a float output; target the layer behind it. "
                f"Received: layer {layer.name!r} (of type "
                f"{type(layer).__name__}), whose output has dtype {dtype}"
            )
    return chosen


def _chosen_output(
    layer: keras.layers.Layer, outputs: Any, output: int | str
) -> Any:
    """The output that an index or a key stands for."""
    if isinstance(outputs, Mapping):
        keys = list(outputs)
        key = keys[output] if output in range(len(keys)) else output
        if key in outputs:
            return tree.flatten(outputs[key])[0]
        expected = f"one of {[*keys, 'all']}"
    elif isinstance(outputs, Sequence):
        if output in range(len(outputs)):
            return tree.flatten(outputs[output])[0]
        expected = f"an index below {len(outputs)}, or 'all'"
    else:
        if output == 0:
            return outputs
        expected = "0, or 'all'"
    raise ValueError(
        "Invalid value received for argument `output`. Expected "
        f"{expected} for layer {layer.name!r} (of type "
        f"{type(layer).__name__}). Received: output={output!r}"
    )


# What KerasHub's encoder and decoder layers call the mask of their input.
_PADDING_MASKS = ("padding_mask", "decoder_padding_mask")


def _padding_mask(call: Any, args: tuple, kwargs: dict) -> Any:
    """Padding mask among the arguments of a call, or None."""
    parameters = list(inspect.signature(call).parameters)[1:]
    named = {**dict(zip(parameters, args, strict=False)), **kwargs}
    for name in _PADDING_MASKS:
        if named.get(name) is not None:
            return named[name]
    if args and isinstance(args[0], Mapping):
        # Not that of a decoder: a model with one has two sequences.
        return args[0].get("padding_mask")
    return None


def _mask_for(tensor: Any, mask: Any, padding: Any) -> Any:
    """The mask of a tensor: Keras's, or a padding mask that fits it."""
    if mask is not None or padding is None:
        return mask
    rank = len(padding.shape)
    fits = rank < len(tensor.shape) and all(
        a is None or b is None or a == b
        for a, b in zip(padding.shape, tensor.shape[:rank], strict=True)
    )
    return ops.cast(padding, "bool") if fits else None
