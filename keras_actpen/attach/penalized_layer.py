"""A layer of the user's class that adds penalties to the loss."""

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from keras_actpen import internals, penalties
from keras_actpen.attach.activation_spec import ActivationSpec, On, Output
from keras_actpen.attach.attachment import Attachment
from keras_actpen.attach.capture import observed_spec
from keras_actpen.attach.coefficients import Coefficients, Term, terms_by_name
from keras_actpen.attach.inner_layers import InnerLayer, inner_layers
from keras_actpen.attach.inner_specs import inner_specs
from keras_actpen.attach.plan import Plan
from keras_actpen.internals.deserialization import described, parts
from keras_actpen.internals.registration import name_in_files, serializable

# Of what `get_config` says of the layer and of what it has attached.
_KEYS = ("layer", "terms", "on", "output")


@serializable
class PenalizedLayer(internals.ObservedTwin, keras.layers.Layer):
    """A layer with penalties on its outputs.

    It is a layer of the wrapped layer's own class, with its name, its weights
    and its state, and computes the same outputs: what is set on one of the
    two is set on the other. `attach_penalty` puts it in the layer's place; it
    can also be used directly when a model is written:

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
        on: `"output"`, the output after the activation; `"preactivation"`,
            what the layer's own activation receives; `"input"`, what the
            layer is called on; or the name of a weight, such as `"kernel"`.
        output: Index or key of the output, or of the input, of a layer that
            has several, or `"all"` for their sum.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If two terms have the same name, or, when the layer is
            called, if the output is not a float tensor, the layer applies no
            activation of its own, or a function returns no scalar.
    """

    actpen: Attachment

    def __new__(
        cls, layer: keras.layers.Layer, *args: Any, **kwargs: Any
    ) -> "PenalizedLayer":
        """Make an instance of the class that stands for `layer`'s class."""
        if isinstance(layer, PenalizedLayer):
            raise ValueError(
                "Invalid value received for argument `layer`. Expected a "
                "layer without penalties; use `attach_penalty(model, "
                f"{layer.name!r}, ...)` to add penalties to a penalized "
                f"layer. Received: layer={layer.wrapped_layer}"
            )
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                "Invalid type received for argument `layer`. Expected a "
                f"keras.layers.Layer. Received: layer={layer!r} (of type "
                f"{type(layer).__name__})"
            )
        root = internals.root_of(layer)
        return internals.make_twin(root, _class_for(root))

    def __init__(
        self,
        layer: keras.layers.Layer,
        penalties: penalties.Identifiers | Mapping[str, Term] = (),
        *,
        on: On = "output",
        output: Output = 0,
    ):
        spec = ActivationSpec(on, output)
        terms = terms_by_name(penalties, spec, layer.name)
        self._attach(Plan(terms, spec), internals.is_in_constructor())

    def _attach(
        self, plan: Plan, is_made_again: bool, within: InnerLayer | None = None
    ) -> None:
        layer = self.wrapped_layer
        with contextlib.ExitStack() as scopes:
            for part in (layer.path or layer.name).split("/"):
                scopes.enter_context(keras.name_scope(part))
            attachment = Attachment(
                dict(plan.terms), plan.specs, is_made_again, within
            )
        internals.own(self, actpen=attachment)
        attachment.spec_units.update(plan.spec_units)
        attachment.spec_shapes.update(plan.spec_shapes)
        for name, coefficient in plan.coefficients.items():
            if coefficient != attachment.coefficients[name]:
                attachment.coefficients[name] = coefficient
        attachment.unfound = dict(plan.inner)
        if layer.built:
            self.find_inner()

    def find_inner(self) -> None:
        """Find the layers inside, which a layer may make when it is built."""
        actpen = self.actpen
        if not actpen.unfound:
            return
        for inner in inner_layers(self.wrapped_layer):
            for path in (inner.path, *inner.aliases):
                if path in actpen.unfound:
                    plan = actpen.unfound.pop(path)
                    actpen.inner[path] = penalized(inner.layer, plan, inner)
        if actpen.unfound:
            raise ValueError(
                "Invalid value received for argument `actpen`. Expected the "
                f"paths of layers inside layer {self.name!r}. Received: "
                f"{[*actpen.unfound]}, which it does not hold"
            )

    @property
    def wrapped_layer(self) -> keras.layers.Layer:
        """The layer without penalties."""
        return internals.root_of(self)

    @property
    def terms(self) -> dict[str, Term]:
        """The terms by their names."""
        return self._users_or_own("terms")

    @property
    def coefficients(self) -> Coefficients | dict[str, float]:
        """The coefficients, readable and settable, by the terms' names."""
        return self._users_or_own("coefficients")

    def _users_or_own(self, name: str) -> Any:
        # An attribute of that name that the layer has itself goes first:
        # weight files are made of attributes.
        layer = self.wrapped_layer
        owner = layer if hasattr(layer, name) else self.actpen
        return getattr(owner, name)

    @property
    def variables(self) -> list[keras.Variable]:
        """Those of the layer and, but for an export, of what is attached."""
        if internals.is_exporting():
            return super().variables
        attached = self.actpen
        return [
            *super().variables,
            *attached.variables.values(),
            *attached.state_variables,
        ]

    def __repr__(self) -> str:
        """What the layer says of itself, and what is attached."""
        return f"{super().__repr__().removesuffix('>')}, {self.actpen}>"

    def count_params(self) -> int:
        """The layer's own number; `model.summary()` shows what is attached."""
        return internals.NotedCount(super().count_params(), str(self.actpen))

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Output spec of the wrapped layer, after a check of the terms."""
        layer, actpen = self.wrapped_layer, self.actpen
        self.find_inner()
        outputs, watched = observed_spec(layer, actpen.of_calls, args, kwargs)
        actpen.check(layer, watched)
        for inner, calls in inner_specs(
            layer, [*actpen.inner.values()], args, kwargs
        ):
            if isinstance(calls, ValueError):
                raise calls
            for seen in calls:
                inner.actpen.check(inner.wrapped_layer, seen)
        return outputs

    def save_assets(self, path: str) -> None:
        """Save the wrapped layer's assets; warn if the penalty gets lost."""
        if not self.actpen.is_saved and not self.actpen.is_made_again:
            warnings.warn(
                f"The penalties of layer {self.name!r} are not saved: the "
                "model's own `get_config` re-creates its layers without "
                "them. The weights are. After loading, call "
                "`attach_penalty` again.",
                stacklevel=2,
            )
        self.actpen.is_saved = False
        save_assets = getattr(self.wrapped_layer, "save_assets", None)
        if save_assets is not None:
            save_assets(path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy through Keras's format, by a function that imports this."""
        _, arguments = super().__reduce__()
        return internals.load_pickled, arguments

    def __dir__(self) -> list[str]:
        """Attributes of the layer: weight files are made of them."""
        return dir(self.wrapped_layer)

    def get_config(self) -> dict[str, Any]:
        """Config of the wrapped layer, with the terms under `"actpen"`."""
        if internals.is_writing_keras_file():
            self.actpen.is_saved = True
        layer = internals.serialized_for_sharing(self.wrapped_layer)
        config = layer.pop("config")
        # These are asked for once more, of this object.
        layer.pop("build_config", None)
        layer.pop("compile_config", None)
        attached = plan_of(self).get_config()
        return {**config, "actpen": {"layer": layer, **attached}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PenalizedLayer":
        """Re-create the layer and its penalties."""
        if "actpen" in config:
            attached = config["actpen"]
            layer, *_ = parts("actpen", attached, *_KEYS)
            (_,) = parts("layer", layer, "class_name")
            rest = {k: v for k, v in config.items() if k != "actpen"}
            layer = {**layer, "config": rest}
        else:  # keras_actpen 0.1.0
            attached = config
            layer, *_ = parts("config", config, *_KEYS)
        plan = Plan.from_config(attached)
        # Keras looks the class up by its registered name, which all these
        # classes share: `cls` may be that of another wrapped class.
        return penalized(described("layer", layer, keras.layers.Layer), plan)


def plan_of(layer: keras.layers.Layer) -> Plan:
    """What a layer of a model has attached now, its coefficients too."""
    if not isinstance(layer, PenalizedLayer):
        return Plan()
    actpen = layer.actpen
    return Plan(
        dict(actpen.terms),
        actpen.specs[0] if actpen.specs else None,
        dict(actpen.coefficients),
        dict(actpen.spec_units),
        dict(actpen.spec_shapes),
        {path: plan_of(one) for path, one in actpen.inner.items()}
        | actpen.unfound,
    )


def penalized(
    layer: keras.layers.Layer, plan: Plan, within: InnerLayer | None = None
) -> keras.layers.Layer:
    """A plain layer with what a plan says, itself if that is nothing.

    Args:
        layer: The layer.
        plan: What it is to have attached.
        within: Where it is, if it is inside another layer.
    """
    if plan.is_empty:
        return layer
    new = PenalizedLayer.__new__(PenalizedLayer, layer)
    new._attach(plan, internals.is_in_constructor(), within)
    return new


def _class_for(layer: keras.layers.Layer) -> type:
    """PenalizedLayer of a layer's class."""
    cls = internals.twin_class(
        layer,
        PenalizedLayer,
        ("actpen",),
        # Not the user's: the error of a process that has not imported this
        # package names it.
        __module__=__name__,
        # Not that of a rebuilt model, which answers as the user's class.
        __class__=property(type),
    )
    # All share one name in files, which `from_config` tells apart.
    name_in_files(cls, PenalizedLayer)
    return cls
