"""Layers of a subclassed model are replaced all together or not at all."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import data, outputs_of, subclassed

from keras_actpen import (
    attach_penalty,
    detach_penalty,
    internals,
    penalized_layers,
)

TARGETS = ["dense_4", "first_block", "head"]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("action", ["attach", "detach"])
def test_interrupted(monkeypatch, action, done):
    model = subclassed()
    if action == "detach":
        attach_penalty(model, TARGETS, l2=0.1)
    x, _ = data()
    before = [id(layer) for layer in model.layers]
    penalized = list(penalized_layers(model))
    blocks = list(model.blocks)
    expected = outputs_of(model, x)
    replace, calls = internals.replace_sublayer, []

    def interrupted(*change):
        calls.append(change)
        if len(calls) == 2:
            if done:
                replace(*change)
            raise KeyboardInterrupt
        replace(*change)

    monkeypatch.setattr(internals, "replace_sublayer", interrupted)
    change_all = {
        "attach": lambda: attach_penalty(model, TARGETS, l2=0.1),
        "detach": lambda: detach_penalty(model),
    }
    with pytest.raises(KeyboardInterrupt):
        change_all[action]()
    monkeypatch.undo()
    assert [id(layer) for layer in model.layers] == before
    assert list(penalized_layers(model)) == penalized
    assert list(model.blocks) == blocks
    np.testing.assert_array_equal(outputs_of(model, x), expected)
    with pytest.raises(ValueError, match="already built"):
        model.another = layers.Dense(2)  # Keras's lock is back
    if action == "attach":
        attach_penalty(model, TARGETS, l2=0.1)
        assert list(penalized_layers(model)) == TARGETS


def test_a_refused_layer_changes_nothing():
    model = subclassed()
    before = [id(layer) for layer in model.layers]
    with pytest.raises(ValueError, match="scalar"):
        attach_penalty(model, {"dense_4": "l2", "head": lambda h: h})
    assert [id(layer) for layer in model.layers] == before


def test_list_that_holds_itself():
    model = subclassed()
    model.notes = [1]
    model.notes.append(model.notes)
    x, _ = data()
    expected = outputs_of(model, x)
    attach_penalty(model, "first_block", l2=0.1)
    assert list(penalized_layers(model)) == ["first_block"]
    np.testing.assert_array_equal(outputs_of(model, x), expected)
    assert isinstance(model.blocks[0], layers.Dense)
    assert float(ops.convert_to_numpy(sum(model.losses))) > 0
    assert penalized_layers(detach_penalty(model)) == {}
    assert isinstance(model, keras.Model)
