"""A layer that shows the attributes and the state of the layer it wraps."""

import contextlib
import functools
from typing import Any

import keras

from keras_actpen import internals


class DelegatingLayer(internals.TransparentLayer):
    """A layer around `wrapped_layer` that looks like it from outside.

    Its subclasses set `wrapped_layer` and define `call`.
    """

    def build(self, input_shape: Any = None) -> None:
        """Nothing to build: the wrapped layer builds itself when called."""
        self.built = True

    def get_build_config(self) -> None:
        """None: the wrapped layer's build config is in its own config."""
        return None

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Output shape of the wrapped layer."""
        return self.wrapped_layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, *args: Any, **kwargs: Any) -> Any:
        """Mask of the wrapped layer, None if it does not support masking."""
        if not self.wrapped_layer.supports_masking:
            return None
        return self.wrapped_layer.compute_mask(*args, **kwargs)

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Call: only the wrapped layer is ever quantised."""
        return self.call(*args, **kwargs)

    def quantize(self, *args: Any, **kwargs: Any) -> Any:
        """Quantise the wrapped layer."""
        return self.wrapped_layer.quantize(*args, **kwargs)

    @property
    def weights(self) -> list[keras.Variable]:
        """Weights of the wrapped layer."""
        return self.wrapped_layer.weights

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """None: Keras finds those of the wrapped layer by itself."""
        return []

    @property
    def path(self) -> str | None:
        """Path of the wrapped layer."""
        return self.wrapped_layer.path

    @property
    def trainable(self) -> bool:
        """Whether the wrapped layer is trainable."""
        return self.wrapped_layer.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.wrapped_layer.trainable = value

    @property
    def input_spec(self) -> Any:
        """Input spec of the wrapped layer."""
        return self.wrapped_layer.input_spec

    @input_spec.setter
    def input_spec(self, value: Any) -> None:
        self.wrapped_layer.input_spec = value

    @property
    def dtype_policy(self) -> keras.DTypePolicy:
        """Dtype policy of the wrapped layer."""
        return self.wrapped_layer.dtype_policy

    @dtype_policy.setter
    def dtype_policy(self, value: keras.DTypePolicy | str) -> None:
        self.wrapped_layer.dtype_policy = value

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Save what the wrapped layer saves, so that files interchange."""
        self.wrapped_layer.save_own_variables(store)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Load what the wrapped layer saved."""
        self.wrapped_layer.load_own_variables(store)

    def __getattr__(self, name: str) -> Any:
        """Attributes of the wrapped layer."""
        # On torch sub-layers are not among the plain attributes.
        modules = vars(self).get("_modules", {})
        if name in modules:
            return modules[name]
        inherited = getattr(super(), "__getattr__", None)
        if inherited is not None:
            with contextlib.suppress(AttributeError):
                return inherited(name)
        if not name.startswith("__") and name not in _plain_attributes():
            attributes = modules or vars(self)
            if "wrapped_layer" in attributes:
                return getattr(attributes["wrapped_layer"], name)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
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

    def __dir__(self) -> list[str]:
        """Attributes of the wrapped layer: weight files are made of them."""
        return dir(self.wrapped_layer)


@functools.cache
def _plain_attributes() -> frozenset[str]:
    """Attributes of any built layer, which must never be delegated.

    But for the activity regularizer, which is the wrapped layer's.
    """
    layer = keras.layers.Layer()
    layer.build(None)
    return frozenset(dir(layer)) - {"activity_regularizer"}
