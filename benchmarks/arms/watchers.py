"""The ways to watch activations in training, ours and those of others."""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.arms import names
from benchmarks.arms.models import Workload
from keras_actpen import PenaltyMonitor

# Steps beyond any training: the first one of each epoch is instrumented.
ONCE_AN_EPOCH = 10**9
_TERMS_ONLY = {"statistics_freq": 0, "histogram_freq": 0}


# Does something with the activations of a layer of that name in an epoch.
Histogram = Callable[[str, np.ndarray, int], None]
# New callbacks for one training.
Callbacks = Callable[[], Sequence[keras.callbacks.Callback]]


def monitors() -> dict[str, Callbacks]:
    """Our callback at several cadences."""
    return {
        names.MONITOR: _monitor(),
        names.EVERY_STEP: _monitor(update_freq="batch", statistics_freq=1),
        names.TERMS_ONLY: _monitor(**_TERMS_ONLY),
    }


def monitor_once_an_epoch() -> Callbacks:
    """Our callback at the cadence of the extra forward pass."""
    return _monitor(statistics_freq=ONCE_AN_EPOCH)


def monitor_of_units() -> Callbacks:
    """Our callback for the terms, which follows all units at every step."""
    return _monitor(**_TERMS_ONLY, on_dead_units=lambda layer, mask: None)


def _monitor(**arguments: Any) -> Callbacks:
    return lambda: [PenaltyMonitor(_log_dir(), **arguments)]


def extra_pass(
    model: keras.Model, workload: Workload, histogram: Histogram
) -> Callbacks:
    """The way of keract and tf-explain, for one batch.

    Args:
        model: The model that trains.
        workload: Its data and the layers to look at.
        histogram: What is done with their activations.
    """
    x, _ = workload.data(1)
    extractor = keras.Model(
        model.inputs,
        [model.get_layer(name).output for name in workload.targets],
    )
    return lambda: [_ExtraPass(extractor, x, histogram)]


def numpy_histogram(name: str, activations: np.ndarray, epoch: int) -> None:
    """A histogram that nobody gets to see, the least that can be done."""
    np.histogram(activations, 30)


def tensorboard_histogram() -> Histogram:
    """What one would write for TensorBoard on this backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        writer = tf.summary.create_file_writer(_log_dir())

        def write(name: str, activations: np.ndarray, epoch: int) -> None:
            with writer.as_default():
                tf.summary.histogram(name, activations, step=epoch)
            writer.flush()

    elif backend == "torch":
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(_log_dir())

        def write(name: str, activations: np.ndarray, epoch: int) -> None:
            writer.add_histogram(name, activations, epoch)
            writer.flush()

    else:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb
        from tensorboard.summary.writer.record_writer import RecordWriter

        file = open(f"{_log_dir()}/events.tfevents", "wb")
        writer = RecordWriter(file)

        def write(name: str, activations: np.ndarray, epoch: int) -> None:
            summary = histogram_pb(name, activations)
            event = Event(step=epoch, summary=summary)
            writer.write(event.SerializeToString())
            writer.flush()

    return write


def tensorboard() -> Callbacks:
    """Keras's own callback: histograms of weights, not of activations."""
    return lambda: [
        keras.callbacks.TensorBoard(
            _log_dir(), histogram_freq=1, write_graph=False
        )
    ]


class _ExtraPass(keras.callbacks.Callback):
    def __init__(
        self, extractor: keras.Model, x: np.ndarray, histogram: Histogram
    ):
        super().__init__()
        self.extractor, self.x, self.histogram = extractor, x, histogram

    def on_epoch_end(self, epoch, logs=None):
        found = _listed(self.extractor.predict_on_batch(self.x))
        for index, activations in enumerate(found):
            self.histogram(f"layer_{index}", activations, epoch)


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
