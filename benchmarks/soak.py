"""Long training and many attachments leave nothing behind.

50,000 steps with PenaltyMonitor at every step and 20 layers, then 200 times
attach and detach, on the backend that KERAS_BACKEND names. Prints a table and
exits with 1 if a check fails. Needs Linux, whose /proc it reads.
"""

import argparse
import bisect
import itertools
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table
from tensorboard.backend.event_processing.event_file_loader import (
    RawEventFileLoader,
)
from tensorboard.compat.proto.event_pb2 import Event

from benchmarks.usage import Usage
from keras_actpen import PenaltyMonitor, attach_penalty, detach_penalty

LAYERS, UNITS, BATCH = 20, 4, 8
EPOCHS = 50
# Of the epochs or cycles: allocators and caches fill up first.
WARM_UP = 0.2
# What memory may grow by after the warm-up.
GROWTH = 0.02
# Objects that a cycle may leave: the measuring keeps some, and JAX 0.10 the
# symbolic sizes of each trace, 60 or so. A wrapper has more than 100.
OBJECTS = 80
# How far the file may grow faster in the second half than in the first.
CURVATURE = 0.1


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: What was measured.
        measured: What was found, in words.
        allowed: What it had to be, in words.
        passed: Whether it was.
    """

    name: str
    measured: str
    allowed: str
    passed: bool


def build() -> keras.Model:
    """A tiny model of `LAYERS` hidden layers, compiled."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((UNITS,)),
            *(
                layers.Dense(UNITS, activation="relu", name=f"hidden_{i}")
                for i in range(LAYERS)
            ),
            layers.Dense(1, name="head"),
        ]
    )
    model.compile("sgd", "mse")
    return model


class Sampler(keras.callbacks.Callback):
    """Notes what the process holds after each epoch, and when that was."""

    def __init__(self):
        super().__init__()
        self.usages: list[Usage] = []
        self.ends: list[float] = []

    def on_epoch_end(self, epoch, logs=None):
        """Measure."""
        self.usages.append(Usage.now())
        self.ends.append(time.time())


def train(steps: int, log_dir: Path) -> list[Check]:
    """Train with the monitor at every step."""
    per_epoch = max(steps // EPOCHS, 1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(per_epoch * BATCH, UNITS)).astype("float32")
    y = x[:, :1]
    model = attach_penalty(build(), "hidden_*", l1=1e-4)

    def fit(epochs, directory):
        sampler = Sampler()
        monitor = PenaltyMonitor(
            directory, update_freq="batch", statistics_freq=1
        )
        model.fit(
            *(x, y),
            batch_size=BATCH,
            epochs=epochs,
            verbose=0,
            callbacks=[monitor, sampler],
        )
        return sampler

    # Compiles, and starts the threads of the backend.
    fit(2, log_dir / "first")
    before = Usage.now()
    sampler = fit(EPOCHS, log_dir / "soak")
    after = Usage.now()
    return [
        _memory("memory of the training", [u.memory for u in sampler.usages]),
        _linear(_sizes(log_dir / "soak", sampler.ends)),
        _not_more("threads after the training", before.threads, after.threads),
        _same_files("file handles after the training", before, after),
        _not_more("objects of keras_actpen", before.own, after.own),
    ]


def attach_and_detach(cycles: int) -> list[Check]:
    """Attach a penalty to half of the layers and take it off again."""
    plain = build()
    usages = []
    for _ in range(cycles):
        penalized = attach_penalty(plain, "hidden_1*", l2=0.1)
        detached = detach_penalty(penalized)
        del penalized, detached
        _forget_traces()
        usages.append(Usage.now())
    warm = usages[int(WARM_UP * cycles)]
    return [
        _memory("memory of attach and detach", [u.memory for u in usages]),
        _not_more(
            "objects of keras_actpen after them", warm.own, usages[-1].own
        ),
        _few_more("all objects after them", warm, usages[-1], cycles),
        _not_more("threads after them", warm.threads, usages[-1].threads),
        _same_files("file handles after them", warm, usages[-1]),
    ]


def _forget_traces() -> None:
    """Empty JAX's own caches, which keep the last few thousand traces."""
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


def _memory(name: str, values: list[int]) -> Check:
    """Whether memory is flat after the warm-up."""
    warm = values[int(WARM_UP * len(values))]
    grown = max(values[int(WARM_UP * len(values)) :]) / warm - 1
    return Check(
        name,
        f"{warm / 2**20:.0f} MiB, grown by {100 * grown:.2f} %",
        f"{100 * GROWTH:.0f} %",
        grown <= GROWTH,
    )


def _sizes(log_dir: Path, ends: list[float]) -> list[int]:
    """Bytes in the log after each epoch, without images.

    When an image is drawn depends on the time that training takes.
    """
    added = [0] * (len(ends) + 1)
    for file in log_dir.rglob("*tfevents*"):
        for record in RawEventFileLoader(str(file)).Load():
            event = Event.FromString(record)
            plugins = {
                value.metadata.plugin_data.plugin_name
                for value in event.summary.value
            }
            if plugins != {"images"}:
                added[bisect.bisect_left(ends, event.wall_time)] += len(record)
    # The last are written after the last epoch.
    return list(itertools.accumulate(added[:-1]))


def _linear(sizes: list[int]) -> Check:
    """Whether the log grows no faster in the second half."""
    middle = len(sizes) // 2
    first = (sizes[middle] - sizes[0]) / middle
    second = (sizes[-1] - sizes[middle]) / (len(sizes) - 1 - middle)
    return Check(
        "size of the log, without images",
        f"{sizes[-1] / 2**20:.1f} MiB, an epoch of the second half has "
        f"{second / first:.3f} of one of the first",
        f"at most {1 + CURVATURE}",
        second / first <= 1 + CURVATURE,
    )


def _not_more(name: str, before: int, after: int) -> Check:
    return Check(name, f"{before} -> {after}", "no more", after <= before)


def _few_more(name: str, before: Usage, after: Usage, cycles: int) -> Check:
    """Whether fewer objects were added than a single layer has."""
    grown = (after.objects - before.objects) / cycles
    return Check(
        name,
        f"{before.objects} -> {after.objects}",
        f"{OBJECTS} more a cycle",
        grown <= OBJECTS,
    )


def _same_files(name: str, before: Usage, after: Usage) -> Check:
    more = list(after.files)
    for path in before.files:
        if path in more:
            more.remove(path)
    return Check(
        name,
        f"{len(before.files)} -> {len(after.files)} {more or ''}".rstrip(),
        "no more",
        len(after.files) <= len(before.files),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run both parts and print the table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description="Does anything grow in a long training?",
    )
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--cycles", type=int, default=200)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        checks = train(options.steps, Path(directory))
    checks += attach_and_detach(options.cycles)
    table = Table(
        "what",
        "measured",
        "allowed",
        "verdict",
        title=f"{options.steps} steps, {LAYERS} layers, {options.cycles} "
        f"cycles on {keras.backend.backend()}",
    )
    for check in checks:
        verdict = "passed" if check.passed else "FAILED"
        table.add_row(check.name, check.measured, check.allowed, verdict)
    Console().print(table)
    return 0 if all(check.passed for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
