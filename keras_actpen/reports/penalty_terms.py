"""Penalty terms of data, outside of training."""

from typing import Any

import keras

from keras_actpen import backend
from keras_actpen.attach.recording import ValueRecorder, recording
from keras_actpen.reports.data import Data, Verbose
from keras_actpen.reports.observed_layers import layers_with_terms


def penalty_terms(
    model: keras.Model,
    x: Any,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    training: bool = False,
    verbose: Verbose = "auto",
) -> dict[str, float]:
    """Compute every penalty term on data, without any side effect.

    The values are means over the batches, weighted by their size: those that
    `model.evaluate` adds to the loss.

    Args:
        model: A model with penalized layers.
        x: Inputs, as `model.evaluate` takes them: an array, lists and
            dictionaries of arrays, a `tf.data.Dataset`, a `PyDataset`, a
            torch `DataLoader` or a generator of batches. Targets are skipped.
        batch_size: Samples in a batch of arrays; default: 32, or what makes
            `steps` batches.
        steps: How many batches at most.
        training: Whether layers such as Dropout behave as in training.
        verbose: `"auto"`, 0, 1 or 2, as in `model.evaluate`; `"auto"` shows a
            progress bar where there are several batches.

    Returns:
        Coefficient times value of every term by `"path/term"`, summed over
        the calls of a shared layer, and 0 for a layer that was not called.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built or has no penalized layer, there
            are no samples, or the data is not in a form that `evaluate`
            takes.

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
    data = Data(
        x, batch_size=batch_size, steps=steps, verbose=verbose
    ).batches()
    samples = 0
    sums = {
        f"{path}/{name}": 0.0
        for path, layer in layers.items()
        for name in layer.actpen.terms
    }
    for batch in data:
        recorder = ValueRecorder()
        # Nothing that the layers assign, such as moving averages, is kept.
        with (
            keras.StatelessScope(),
            backend.random_state_kept(),
            recording(recorder),
        ):
            model(batch.x, training=training)
            for layer in layers.values():
                layer.actpen.show_weights(layer)
        samples += batch.samples
        for path, layer in layers.items():
            values = recorder.values.get(id(layer), {})
            for name in layer.actpen.terms:
                value = keras.ops.convert_to_numpy(values.get(name, 0.0))
                sums[f"{path}/{name}"] += batch.samples * float(value)
    return {key: value / samples for key, value in sums.items()}
