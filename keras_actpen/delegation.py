"""A layer that shows the attributes and the state of the layer it wraps."""

import contextlib
import functools

import keras

from keras_actpen import internals


class DelegatingLayer(internals.TransparentLayer):
    """A layer around `wrapped_layer` that looks like it from outside.

    Its subclasses set `wrapped_layer` and define `call`.
    """

    def build(self, input_shape=None):
        """Nothing to build: the wrapped layer builds itself when called."""
        self.built = True

    def get_build_config(self):
        """None: the wrapped layer's build config is in its own config."""
        return None

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

    def __getattr__(self, name):
        """Attributes of the wrapped layer."""
        inherited = getattr(super(), "__getattr__", None)
        if inherited is not None:
            with contextlib.suppress(AttributeError):
                return inherited(name)
        if not name.startswith("__") and name not in _plain_attributes():
            # On torch sub-layers are not among the plain attributes.
            attributes = {**vars(self).get("_modules", {}), **vars(self)}
            if "wrapped_layer" in attributes:
                return getattr(attributes["wrapped_layer"], name)
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


@functools.cache
def _plain_attributes() -> frozenset[str]:
    """Attributes of any built layer, which must never be delegated."""
    layer = keras.layers.Layer()
    layer.build(None)
    return frozenset(dir(layer))
