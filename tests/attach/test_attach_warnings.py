"""What is told at the line that attaches: no effect, or on nothing kept."""

import functools
import warnings

import keras
import pytest
from keras import layers
from models import FEATURES, functional, nested, sequential, subclassed

from keras_actpen import (
    attach_penalty,
    detach_penalty,
    penalties,
    watch_activations,
)

pytestmark = pytest.mark.one_backend


def warned(function):
    """Messages of a call, all of which name a line of this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    assert {one.filename for one in caught} <= {__file__}
    return [str(one.message) for one in caught]


def frozen(paths):
    return [
        f"The penalty on {paths} changes no weight: nothing that it depends on "
        "is trainable. Before you train, set `trainable = True` on the layer "
        "or on one in front of it and compile the model again, or penalize a "
        "layer behind one that is trainable."
    ]


def frozen_encoder():
    model = nested()
    model.get_layer("encoder").trainable = False
    return model


def attaching(model, *args, **kwargs):
    return lambda: [attach_penalty(model, *args, **kwargs)]


def test_a_frozen_weight():
    model = functional()
    model.get_layer("dense_4").trainable = False
    assert warned(attaching(model, "dense_4", l2=0.1, on="kernel")) == [
        "The penalty on 'dense_4' changes no weight: nothing that it depends "
        "on is trainable. Before you train, set `trainable = True` on the "
        "layer and compile the model again."
    ]


def test_frozen_layers():
    model, every = frozen_encoder(), ["encoder/*", "encoder", "unfold"]
    expected = frozen("'encoder', 'encoder/dense_4', 'encoder/code'")
    assert warned(attaching(model, every, l2=0.1)) == expected
    # Nothing to lose: no penalty, or one that something learns from.
    assert warned(attaching(model, every, l2=0.0)) == []
    assert warned(attaching(model, "unfold", l2=0.1)) == []
    assert warned(lambda: [watch_activations(model, every)]) == []
    found = warned(
        attaching(model, {"unfold": "l1", "code": [penalties.L2(0.1)]})
    )
    assert found == frozen("'encoder/code'")


def test_a_second_term_on_a_frozen_layer():
    with pytest.warns(UserWarning, match="changes no weight"):
        model = attach_penalty(frozen_encoder(), "code", l2=0.1)
    assert warned(attaching(model, "unfold", l2=0.1)) == []
    assert warned(attaching(model, "code", l1=0.1)) == frozen("'encoder/code'")
    model.get_layer("encoder").trainable = True
    assert warned(attaching(model, "code", l1=0.1)) == []


def test_a_layer_without_weights_on_the_inputs():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.ReLU(name="relu"),
            layers.Dense(2, name="head"),
        ]
    )
    assert warned(attaching(model, "relu", l2=0.1)) == frozen("'relu'")
    # What has no weights is there for its outputs.
    outputs = keras.Model(model.inputs, model.get_layer("relu").output)
    assert warned(attaching(outputs, "relu", l2=0.1)) == []


def test_frozen_subclassed_model():
    model = subclassed()
    model.trainable = False
    assert warned(attaching(model, "head", l2=0.1)) == frozen("'head'")


def discarded(name):
    return [
        f"The model that `{name}` returns is not kept, and the one passed in "
        f"stays as it is. Write `model = {name}(model, ...)` and go on with "
        "that model."
    ]


def test_a_model_that_is_not_kept():
    plain = sequential()
    model = attach_penalty(plain, "dense_4", l2=0.1)

    def attach():
        attach_penalty(plain, "dense_4", l2=0.1)

    def detach():
        detach_penalty(model)

    def watch():
        for _ in range(1):
            watch_activations(
                plain,
                "*",
            )

    assert warned(attach) == discarded("attach_penalty")
    assert warned(detach) == discarded("detach_penalty")
    assert warned(watch) == discarded("watch_activations")
    code = "attach_penalty(plain, 'dense_4', l1=1.0)\nplain.fit"
    with pytest.warns(UserWarning, match="`attach_penalty` returns is not"):
        exec(code, {"attach_penalty": attach_penalty, "plain": plain})


def test_a_model_that_is_kept_or_used_at_once():
    plain = sequential()

    def kept():
        models = [attach_penalty(plain, "dense_4", l2=0.1)]
        to_head = functools.partial(attach_penalty, layers="head", l1=0.1)
        models += list(map(to_head, models))
        one = two = attach_penalty(plain, "dense_4", l1=0.1)
        detach_penalty(attach_penalty(one, "head", l2=0.1)).summary(
            print_fn=len
        )
        if (three := attach_penalty(plain, "head", l1=0.1)) is not two:
            assert three
        return attach_penalty(plain, "dense_4", l2=0.1)

    assert warned(kept) == []
    assert warned(lambda: attach_penalty(plain, "head", l2=0.1)) == []


def test_a_model_that_is_changed_in_place():
    model = subclassed()

    def change():
        attach_penalty(model, "head", l2=0.1)
        detach_penalty(model)

    assert warned(change) == []
