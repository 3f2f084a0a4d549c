"""One pass of data through a model: loss, terms and statistics."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import keras
from keras import ops

from keras_actpen import backend
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key, recording
from keras_actpen.instrumentation.run_state import RunState
from keras_actpen.instrumentation.step_recorders import StatisticsRecorder
from keras_actpen.reports.data import Batch
from keras_actpen.reports.gradient_norms import loss_arguments
from keras_actpen.statistics.snapshot import StatisticsSnapshot


@dataclass(frozen=True)
class Measurement:
    """What one pass of data through a model has shown.

    Attributes:
        samples: Number of samples.
        loss: Mean of the loss, NaN if there is none.
        means: Coefficient times value of every term, by `penalty/...`.
        snapshots: Activation statistics by path and place.
    """

    samples: int
    loss: float
    means: Mapping[str, float]
    snapshots: Mapping[tuple[str, ActivationSpec], StatisticsSnapshot]


def measure(
    model: keras.Model,
    layers: Mapping[str, PenalizedLayer],
    batches: Iterable[Batch],
    training: bool,
) -> Measurement:
    """Pass data through a model, without any side effect.

    The loss is known if the model is compiled and there are targets.

    Args:
        model: A built model.
        layers: Its penalized and watched layers by path.
        batches: The data.
        training: Whether layers such as Dropout behave as in training.
    """
    state = RunState(layers)
    kept = [v for one in state.device_states() for v in one.variables]
    samples, loss = 0, 0.0
    for batch in batches:
        recorder = StatisticsRecorder(
            state, "test", ops.convert_to_tensor(batch.samples, "float32")
        )
        # Nothing that the layers and the loss assign is kept.
        with (
            backend.random_state_kept(),
            keras.StatelessScope(collect_losses=True) as scope,
            recording(recorder),
        ):
            batch_loss = _loss(model, batch, training)
            for layer in layers.values():
                layer.actpen.show_weights(layer)
            recorder.finish()
        for variable in kept:
            value = scope.get_current_value(variable)
            if value is not None:  # None where the layer was not called
                variable.assign(value)
        samples += batch.samples
        loss += batch.samples * batch_loss
    means = {}
    if state.totals:
        totals, _ = state.totals["test"].read()
        means = {log_key(*term): totals[term] / samples for term in totals}
    return Measurement(
        samples=samples,
        loss=loss / samples,
        means=means,
        snapshots=state.snapshots(),
    )


def _loss(model: keras.Model, batch: Batch, training: bool) -> float:
    """Loss of one batch, NaN if the model has none or there is no target."""
    y_pred = model(batch.x, training=training)
    if batch.y is None or not model.compiled:
        return math.nan
    arguments = loss_arguments(model, batch, training)
    loss = model.compute_loss(y_pred=y_pred, **arguments)
    # TensorFlow (2.21) gives NumPy no scalar in bfloat16.
    return float(ops.convert_to_numpy(ops.expand_dims(loss, 0))[0])
