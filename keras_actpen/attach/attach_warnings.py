"""What `attach_penalty` and its like warn of, at the line that calls them."""

import dis
import inspect
import warnings
from collections.abc import Mapping

import keras

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.frozen import frozen_layers
from keras_actpen.attach.select_errors import listed

# That of the caller of the function that warns.
_STACKLEVEL = 3


def warn_of_frozen(
    model: keras.Model,
    layers: Mapping[str, keras.layers.Layer],
    spec: ActivationSpec,
) -> None:
    """Warn of penalties that change no weight.

    Args:
        model: The model, as it was passed to `attach_penalty`.
        layers: Its newly penalized layers by path.
        spec: What of them is penalized.
    """
    frozen = frozen_layers(model, layers, spec)
    # A model without any weights is used for its outputs and never trained.
    if frozen and model.weights:
        others, or_else = "", ""
        if not spec.is_weight:
            others = " or on one in front of it"
            or_else = ", or penalize a layer behind one that is trainable"
        warnings.warn(
            f"The penalty on {listed(frozen)} changes no weight: nothing that "
            "it depends on is trainable. Before you train, set `trainable = "
            f"True` on the layer{others} and compile the model again"
            f"{or_else}.",
            stacklevel=_STACKLEVEL,
        )


def warn_if_discarded(model: keras.Model, new: keras.Model) -> None:
    """Warn where a statement makes a model and keeps nothing of it.

    A reference to the new model could tell, too, but late: models are in
    cycles, which are collected at any time, mostly after the training.

    Args:
        model: The model passed in.
        new: The model returned.
    """
    frame = inspect.currentframe()
    function = frame and frame.f_back
    caller = function and function.f_back
    if new is model or caller is None:
        return
    following = (
        instruction.opname
        for instruction in dis.get_instructions(caller.f_code)
        if instruction.offset > caller.f_lasti
    )
    if next(following, None) == "POP_TOP":
        name = function.f_code.co_name
        warnings.warn(
            f"The model that `{name}` returns is not kept, and the one passed "
            f"in stays as it is. Write `model = {name}(model, ...)` and go on "
            "with that model.",
            stacklevel=_STACKLEVEL,
        )
