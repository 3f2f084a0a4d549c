"""Nothing grows: short forms of `python -m benchmarks.soak`, exact checks."""

import copy
import gc
import sys
import weakref

import keras
import numpy as np
import pytest
from event_logs import read
from models import assert_same_arrays, data, functional, outputs_of, up_to

from benchmarks import soak
from keras_actpen import attach_penalty, detach_penalty, penalized_layers

pytestmark = pytest.mark.filterwarnings(
    # The alerts of the monitor: the model is not meant to learn anything.
    "ignore:.*(dead|of the loss):UserWarning"
)
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc"
)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(soak, "LAYERS", 3)
    monkeypatch.setattr(soak, "EPOCHS", 6)


@linux
def test_training_leaves_nothing_behind(short, tmp_path):
    checks = soak.train(50 * soak.EPOCHS, tmp_path)
    exact = [check for check in checks if "memory" not in check.name]
    assert len(exact) == 4
    assert all(check.passed for check in exact), exact
    # Every step has a point of every term.
    train = read(tmp_path / "soak")["actpen/train"]
    steps = train["penalty.batch/hidden_0/l1"].steps
    assert np.diff(steps).tolist() == [1] * (50 * soak.EPOCHS - 1)


@linux
def test_attach_and_detach_leave_nothing_behind(short):
    checks = soak.attach_and_detach(10)
    exact = [check for check in checks if "memory" not in check.name]
    assert len(exact) == 4
    assert all(check.passed for check in exact), exact


@pytest.mark.parametrize("calls", [0, 1])
def test_a_wrapper_goes_with_its_model(calls):
    plain = functional()
    penalized = attach_penalty(plain, "dense_4", l2=0.1)
    for _ in range(calls):
        penalized(data()[0])
    wrapper = weakref.ref(penalized.get_layer("dense_4"))
    gc.collect()
    assert wrapper() is not None
    del penalized
    gc.collect()
    assert wrapper() is None


def test_models_built_on_a_model_that_is_gone():
    """What a user took from a penalized model lasts as long as he has it."""
    x, _ = data()
    plain = functional()
    expected = outputs_of(up_to(plain, "add"), x)
    penalized = attach_penalty(plain, ["first", "dense_4"], l2=0.1)
    tensor, inputs = penalized.get_layer("add").output, penalized.input
    later = penalized.outputs[0]
    extractor = up_to(penalized, "add")
    other = attach_penalty(plain, "skip", l1=0.1)
    del penalized
    gc.collect()
    for model in (extractor, keras.Model(inputs, tensor)):
        assert_same_arrays(outputs_of(model, x), expected)
        again = attach_penalty(model, "skip", l1=0.1)
        assert_same_arrays(outputs_of(again, x), expected)
    whole = keras.Model(inputs, later)
    assert set(penalized_layers(whole)) == {"first", "dense_4"}
    assert_same_arrays(outputs_of(whole, x), outputs_of(plain, x))
    assert_same_arrays(outputs_of(other, x), outputs_of(plain, x))


def test_calls_of_models_that_are_gone_do_not_show(capsys):
    plain = functional()
    plain.summary()
    table = capsys.readouterr().out
    config = plain.to_json()
    first = attach_penalty(plain, "first", l2=0.1)
    second = attach_penalty(plain, "dense_4", l2=0.1)
    shown = second.to_json()
    second.summary()
    second_table = capsys.readouterr().out
    del first
    gc.collect()
    # The calls of the second model keep their numbers.
    assert second.to_json() == shown
    second.summary()
    assert capsys.readouterr().out == second_table
    third = attach_penalty(plain, "dense_4", l2=0.1)
    assert third.to_json() == shown
    del second, third
    gc.collect()
    plain.summary()
    assert capsys.readouterr().out == table
    assert plain.to_json() == config


def test_copies_of_a_layer_with_calls_that_are_gone():
    plain = functional()
    penalized = attach_penalty(plain, "first", l2=0.1)
    x, _ = data()
    copied = copy.deepcopy(plain)
    assert_same_arrays(outputs_of(copied, x), outputs_of(plain, x))
    restored = detach_penalty(penalized)
    del penalized
    gc.collect()
    copied = copy.deepcopy(restored)
    assert_same_arrays(outputs_of(copied, x), outputs_of(plain, x))
