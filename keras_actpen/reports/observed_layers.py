"""Which layers of a model a report is of; a model without any is refused."""

import keras

from keras_actpen.attach.attach import check_built, penalized_layers
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.penalties.validation import invalid_value


def observed_layers(model: keras.Model) -> dict[str, PenalizedLayer]:
    """The penalized and the watched layers of a built model, by path.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If it is not built or has none.
    """
    check_built(model)
    layers = penalized_layers(model)
    if layers:
        return layers
    raise invalid_value(
        "model",
        "a model with penalized or watched layers: call `attach_penalty("
        "model, ...)` or `watch_activations(model, ...)` first and use the "
        "model that it returns",
        repr(model.name),
    )


def layers_with_terms(model: keras.Model) -> dict[str, PenalizedLayer]:
    """The penalized layers of a built model, by path.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If it is not built or has none.
    """
    check_built(model)
    layers = {
        path: layer
        for path, layer in penalized_layers(model).items()
        if layer.actpen.terms
    }
    if layers:
        return layers
    raise invalid_value(
        "model",
        "a model with penalized layers: call `attach_penalty(model, ...)` "
        "first and use the model that it returns",
        repr(model.name),
    )
