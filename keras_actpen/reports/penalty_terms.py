"""Penalty terms of one batch, outside of training."""

from typing import Any

import keras

from keras_actpen import backend
from keras_actpen.attach.recording import ValueRecorder, recording
from keras_actpen.reports.observed_layers import layers_with_terms


def penalty_terms(
    model: keras.Model, x: Any, *, training: bool = False
) -> dict[str, float]:
    """Compute every penalty term on one batch, without any side effect.

    Args:
        model: A model with penalized layers.
        x: One batch of inputs, as the model takes them.
        training: Whether layers such as Dropout behave as in training.

    Returns:
        Coefficient times value of every term by `"path/term"`, summed over
        the calls of a shared layer, 0 of a layer that was not called.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If the model is not built or has no penalized layer.

    Example:
    >>> import numpy as np
    >>> from keras_actpen import attach_penalty
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.ReLU(name="relu")])
    >>> model = attach_penalty(model, "relu", l2=0.5)
    >>> penalty_terms(model, np.array([[1.0, 2.0], [-1.0, 1.0]]))
    {'relu/l2': 1.5}
    """
    layers = layers_with_terms(model)
    recorder = ValueRecorder()
    # Nothing that the layers assign, such as moving averages, is kept.
    with (
        keras.StatelessScope(),
        backend.random_state_kept(),
        recording(recorder),
    ):
        model(x, training=training)
        _ = model.losses  # weights are there for the asking only
    return {
        f"{path}/{name}": float(
            keras.ops.convert_to_numpy(
                recorder.values.get(id(layer), {}).get(name, 0.0)
            )
        )
        for path, layer in layers.items()
        for name in layer.actpen.terms
    }
