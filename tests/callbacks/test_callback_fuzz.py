"""Odd logs, names, directories and shapes: an error that says so, or none.

`HYPOTHESIS_PROFILE=nightly python -m pytest` with this file tries 1,000
examples per test instead of 50, other ones each time.
"""

import contextlib
import functools
import math
import tempfile
import warnings
from pathlib import Path

import event_logs
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from keras import layers
from models import sequential

from keras_actpen import (
    PenaltyMonitor,
    PenaltyScheduler,
    TargetController,
    attach_penalty,
)

fuzz = settings(suppress_health_check=list(HealthCheck))

ODD_TEXTS = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "/",
    "a\nb",
    "a\0b",
    "\ud800",
    "é" * 300,
]
ODD_TEXTS += ["a[0]", "%s", "{}", "<b>", "| |", "*", "loss", "val_", "x" * 999]
ODD_TEXTS += ["penalty/", "penalty/dense_4/l1", "val_penalty/dense_4/l1", "-1"]
texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=6)


class Refuses:
    """Can be made neither a number nor an array."""

    def __float__(self):
        raise RuntimeError("no number")

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no array")


ODD_VALUES = [None, "bar", b"x", 10**400, -(10**400), math.nan, math.inf, 1e39]
ODD_VALUES += [np.float16("inf"), np.array([]), np.zeros((2, 0, 3)), 5e-324, 1j]
ODD_VALUES += [np.array(["a"]), np.array([None]), np.array([True]), True, {1}]
ODD_VALUES += [np.full((2, 2), np.nan), np.arange(9.0), np.array(10**30), int]
ODD_VALUES += [np.datetime64("2000-01-01"), object(), Refuses(), iter(()), len]
scalars = st.sampled_from(ODD_VALUES) | st.floats() | st.integers() | texts
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts, inner, max_size=2)
        | st.tuples(inner, inner)
    ),
    max_leaves=4,
)
odd_logs = st.dictionaries(
    texts | st.integers() | st.none(), values, max_size=5
)


@contextlib.contextmanager
def refused_or_told():
    """Lets a ValueError or a TypeError pass, and warnings for users."""
    with warnings.catch_warnings():
        # All others are errors.
        warnings.filterwarnings("ignore", category=UserWarning)
        with contextlib.suppress(ValueError, TypeError):
            yield


@functools.cache
def model():
    """It is not trained: what is odd are the callbacks' arguments."""
    made = attach_penalty(sequential(), "dense_4", l1=0.5)
    made.compile("sgd", "mse", run_eagerly=True)
    return made


def drive(callback, odd, logs):
    """One epoch of a training by hand, with odd logs wherever there are any."""
    callback.set_params({"epochs": 1, "steps": 1, "verbose": 0})
    callback.set_model(model())
    callback.on_train_begin(odd)
    callback.on_epoch_begin(0, odd)
    callback.on_train_batch_begin(0, odd)
    callback.on_train_batch_end(0, odd)
    callback.on_test_begin(odd)
    callback.on_test_batch_begin(0, odd)
    callback.on_test_end(odd)
    callback.on_epoch_end(0, logs)
    callback.on_train_end(odd)


@pytest.mark.one_backend
@fuzz
@given(odd=odd_logs)
@example(odd={"loss": "bar"})
@example(odd={None: 1.0})
@example(odd={"a\ud800": 1.0})
@example(odd={"a\ud800": "bar"})
def test_logs(odd):
    """What is no number takes nothing else with it."""
    with tempfile.TemporaryDirectory() as directory:
        logs = {**odd, "sane": 0.5}
        with refused_or_told():
            drive(PenaltyMonitor(directory, alerts=()), odd, logs)
        assert logs["sane"] == 0.5
        assert logs["penalty/dense_4/l1"] == 0
        found = event_logs.read(directory)["actpen/train"]
        assert found["metric/sane"].values == [0.5]
        assert found["penalty/dense_4/l1"].values == [0]
    for callback in (
        PenaltyMonitor(None, alerts=()),
        PenaltyScheduler(lambda step: 2.0),
        TargetController("l1", 0.5),
    ):
        with refused_or_told():
            drive(callback, odd, dict(odd))
        with refused_or_told():
            drive(callback, None, None)


@pytest.mark.one_backend
@fuzz
@given(text=texts)
def test_log_directories(text):
    with tempfile.TemporaryDirectory() as directory:
        # Not a path of the machine's: what is accepted is written.
        below = f"{directory}/{text}"
        if Path(directory) not in [Path(below), *Path(below).parents]:
            return
        if ".." in Path(below).parts:
            return
        with refused_or_told():
            drive(PenaltyMonitor(below, alerts=()), {}, {})


@pytest.mark.one_backend
@fuzz
@given(name=texts, term=texts)
def test_names(name, term):
    with tempfile.TemporaryDirectory() as directory, refused_or_told():
        inputs = keras.Input((2,))
        x = layers.Dense(2, name=name)(inputs)
        made = keras.Model(inputs, x)
        made = attach_penalty(made, made.layers[-1], l1=0.5, name=term)
        made.compile("sgd", "mse", run_eagerly=True)
        logs = {}
        monitor = PenaltyMonitor(directory, alerts=())
        monitor.set_params({"epochs": 1, "steps": 1, "verbose": 0})
        monitor.set_model(made)
        monitor.on_train_begin()
        monitor.on_epoch_begin(0)
        monitor.on_train_batch_begin(0)
        monitor.on_epoch_end(0, logs)
        monitor.on_train_end()
        assert list(logs) == [f"penalty/{name}/{term}"]
        tags = event_logs.read(directory)["actpen/train"]
        # Files are in UTF-8.
        written = f"{name}/{term}".encode(errors="backslashreplace").decode()
        assert f"penalty/{written}" in tags


shapes = st.lists(st.integers(1, 3), min_size=1, max_size=4)


@settings(fuzz, max_examples=settings.default.max_examples // 5)
@given(shape=shapes, samples=st.integers(1, 3), constant=st.booleans())
@example(shape=[1], samples=1, constant=True)
def test_shapes(shape, samples, constant):
    """Any rank, a single unit or sample, activations that are all alike."""
    inputs = keras.Input(tuple(shape))
    hidden = layers.Dense(
        shape[-1], kernel_initializer="identity", name="hidden"
    )
    made = keras.Model(inputs, layers.Dense(1)(hidden(inputs)))
    made = attach_penalty(made, "hidden", l1=0.5)
    made.compile("sgd", "mse", run_eagerly=True)
    x = np.arange(samples * np.prod(shape), dtype="float32")
    x = np.zeros_like(x) if constant else x
    x = x.reshape(samples, *shape)
    with tempfile.TemporaryDirectory() as directory:
        monitor = PenaltyMonitor(directory, alerts=(), images=True)
        history = made.fit(x, x[..., :1], callbacks=[monitor], verbose=0)
    assert history.history["penalty/hidden/l1"] == pytest.approx(
        [0.5 * np.sum(x) / samples]
    )
