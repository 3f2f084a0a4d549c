"""The layers that a report covers; a model without any is refused."""

import keras

from keras_actpen.attach.attach import check_built, penalized_layers
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.penalties.validation import invalid_value

Layers = dict[str, PenalizedLayer]


def observed_layers(model: keras.Model) -> Layers:
    """The penalized and the watched layers of a built model, by path.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built or has none.
    """
    check_built(model)
    return _at_least_one(
        model,
        penalized_layers(model),
        "penalized or watched layers: call `attach_penalty(model, ...)` or "
        "`watch_activations(model, ...)`",
    )


def layers_with_terms(model: keras.Model) -> Layers:
    """The penalized layers of a built model, by path.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built or has none.
    """
    check_built(model)
    layers = penalized_layers(model)
    return _at_least_one(
        model,
        {path: one for path, one in layers.items() if one.actpen.terms},
        "penalized layers: call `attach_penalty(model, ...)`",
    )


def _at_least_one(model: keras.Model, layers: Layers, wanted: str) -> Layers:
    if layers:
        return layers
    expected = f"a model with {wanted} first and use the model that it returns"
    raise invalid_value("model", expected, repr(model.name))
