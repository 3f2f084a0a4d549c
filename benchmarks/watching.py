"""The ways to watch activations in training, ours and those of others."""

import tempfile
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from benchmarks import names
from benchmarks.models import Workload
from keras_actpen import PenaltyMonitor

# Steps beyond any training: the first one of each epoch is instrumented.
ONCE_AN_EPOCH = 10**9


# New callbacks for one training.
Callbacks = Callable[[], Sequence[keras.callbacks.Callback]]


def monitors() -> dict[str, Callbacks]:
    """Our callback at several cadences."""

    def monitor(**arguments) -> Callbacks:
        return lambda: [PenaltyMonitor(_log_dir(), **arguments)]

    return {
        names.MONITOR: monitor(),
        names.EVERY_STEP: monitor(update_freq="batch", statistics_freq=1),
        names.TERMS_ONLY: monitor(statistics_freq=0, histogram_freq=0),
    }


def monitor_once_an_epoch() -> Callbacks:
    """Our callback at the cadence of the extra forward pass."""
    return lambda: [PenaltyMonitor(_log_dir(), statistics_freq=ONCE_AN_EPOCH)]


def extra_pass(model: keras.Model, workload: Workload) -> Callbacks:
    """The way of keract and tf-explain, for one batch.

    Nothing is written: less than what we do.
    """
    x, _ = workload.data(1)
    extractor = keras.Model(
        model.inputs,
        [model.get_layer(name).output for name in workload.targets],
    )
    return lambda: [_ExtraPass(extractor, x)]


def tensorboard() -> Callbacks:
    """Keras's own callback: histograms of weights, not of activations."""
    return lambda: [
        keras.callbacks.TensorBoard(
            _log_dir(), histogram_freq=1, write_graph=False
        )
    ]


class _ExtraPass(keras.callbacks.Callback):
    def __init__(self, extractor: keras.Model, x: np.ndarray):
        super().__init__()
        self.extractor, self.x = extractor, x

    def on_epoch_end(self, epoch, logs=None):
        for activations in _listed(self.extractor.predict_on_batch(self.x)):
            np.histogram(activations, 30)


class SummaryInCall(keras.layers.Layer):
    """Passes its input through and writes its histogram at each step."""

    def call(self, inputs):
        import tensorflow as tf

        tf.summary.histogram(self.name, inputs, step=tf.constant(0, "int64"))
        return inputs


class SummaryWriter(keras.callbacks.Callback):
    """The default writer that `SummaryInCall` needs, as long as it trains."""

    def __init__(self):
        import tensorflow as tf

        super().__init__()
        # One for all trainings: the compiled step holds on to it.
        self.writer = tf.summary.create_file_writer(_log_dir())

    def on_train_begin(self, logs=None):
        self.context = self.writer.as_default()
        self.context.__enter__()

    def on_train_end(self, logs=None):
        self.writer.flush()
        self.context.__exit__(None, None, None)


class HostPull(keras.layers.Layer):
    """What fastai's ActivationStats takes, pulled to the host at each step."""

    def __init__(self):
        super().__init__()
        self.pulled = []

    def call(self, inputs):
        import torch

        if inputs.device.type == "meta":  # symbolic
            return inputs
        with torch.no_grad():
            values = inputs.detach().float()
            self.pulled.append(
                (
                    values.mean().item(),
                    values.std().item(),
                    values.histc(40, 0, 10).cpu().numpy(),
                )
            )
        return inputs


def _listed(outputs: object) -> list:
    return [ops.convert_to_numpy(x) for x in keras.tree.flatten(outputs)]


def _log_dir() -> str:
    # In the temporary directory that `benchmarks.__main__` removes.
    return tempfile.mkdtemp(prefix="benchmark-")
