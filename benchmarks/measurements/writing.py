"""Writing events: ours and TensorFlow's, their time and their size."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.arms import names
from benchmarks.measurements.bench import Bench
from benchmarks.measurements.once import ONCE
from benchmarks.timing.rounds import AGAIN, Arm, Comparison, compare
from keras_actpen.tensorboard import events
from keras_actpen.tensorboard.event_file import EventWriter

EVENTS = 200

# Writes events into a directory.
Write = Callable[[str], None]


def write_time(kind: str, bench: Bench, name: str) -> Comparison:
    """Time to write events of a kind."""
    return compare(name, bench.backend, _arms(kind, _seconds), bench.works)


def write_bytes(kind: str, bench: Bench, name: str) -> Comparison:
    """Bytes of these events."""
    return compare(name, bench.backend, _arms(kind, _bytes), ONCE, "bytes")


def _arms(kind: str, measure: Callable[[Write], float]) -> list[Arm]:
    import tensorflow as tf

    values = np.random.default_rng(0).standard_normal(4096).astype("float32")
    counts, edges = np.histogram(values, 30)
    # TensorFlow bins the values; ours are binned on the device.
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    if kind == "scalars":
        theirs, ours = names.TF_SCALAR, names.SCALAR
        write = partial(tf.summary.scalar, "tag", 0.5)
        value = partial(events.scalar, "tag", 0.5)
    else:
        theirs, ours = names.TF_HISTOGRAM, names.HISTOGRAM
        write = partial(tf.summary.histogram, "tag", values)
        value = partial(events.histogram, "tag", buckets)

    def write_theirs(directory: str) -> None:
        writer = tf.summary.create_file_writer(directory)
        with writer.as_default():
            for step in range(EVENTS):
                write(step)
        writer.close()

    def write_ours(directory: str) -> None:
        writer = EventWriter(directory)
        for step in range(EVENTS):
            writer.add([value()], step)
        writer.close()

    return [
        Arm(theirs, partial(measure, write_theirs)),
        Arm(theirs + AGAIN, partial(measure, write_theirs)),
        Arm(ours, partial(measure, write_ours)),
    ]


def _seconds(write: Write) -> float:
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        write(directory)
        return time.perf_counter() - start


def _bytes(write: Write) -> float:
    with tempfile.TemporaryDirectory() as directory:
        write(directory)
        files = Path(directory).iterdir()
        return float(sum(file.stat().st_size for file in files))
