"""Gradient shares against computations by hand and finite differences."""

import doctest
import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import FEATURES, QUICK, by_keys, data, nested, sequential, shared

from keras_actpen import attach_penalty, penalized_layers, penalties
from keras_actpen.reports import gradient_share
from keras_actpen.reports.gradient_share import (
    penalty_gradient_share,
    suggest_coefficient,
)


def linear(**penalty):
    """Two linear layers, compiled."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(3, name="hidden"),
            layers.Dense(2, name="head"),
        ]
    )
    if penalty:
        model = attach_penalty(model, "hidden", **penalty)
    model.compile("sgd", "mse", **QUICK)
    return model


def by_hand(model, x, y):
    """Hidden activations, and the gradient of the mean squared error."""
    x, y = x.astype("float64"), y.astype("float64")
    kernel, bias, head, head_bias = model.get_weights()
    h = x @ kernel + bias
    error = h @ head + head_bias - y
    return h, 2 * error / error.size @ head.T


def test_linear_model():
    model = attach_penalty(linear(l2=0.3), "hidden", l1=0.2)
    x, y = data()
    h, task = by_hand(model, x, y)
    found = penalty_gradient_share(model, x, y)
    assert found == pytest.approx(
        {
            "hidden/l2": np.linalg.norm(0.3 * 2 * h / 10)
            / np.linalg.norm(task),
            "hidden/l1": np.linalg.norm(0.2 * np.sign(h) / 10)
            / np.linalg.norm(task),
        },
        rel=1e-5,
    )


def test_follows_the_coefficient():
    model = linear(l2=0.3)
    x, y = data()
    before = penalty_gradient_share(model, x, y)["hidden/l2"]
    penalized_layers(model)["hidden"].coefficients["l2"] = 0.9
    after = penalty_gradient_share(model, x, y)["hidden/l2"]
    assert after == pytest.approx(3 * before, rel=1e-6)
    # What the loss of a strong penalty is does not count as task.
    penalized_layers(model)["hidden"].coefficients["l2"] = 3000.0
    strong = penalty_gradient_share(model, x, y)["hidden/l2"]
    assert strong == pytest.approx(1e4 * before, rel=1e-5)


def test_preactivation():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(3, "tanh", name="hidden"),
            layers.Dense(2, name="head"),
        ]
    )
    model = attach_penalty(model, "hidden", l2=0.3, on="preactivation")
    model = attach_penalty(model, "hidden", l1=0.3)
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    kernel, bias, head, head_bias = model.get_weights()
    z = x @ kernel + bias
    error = np.tanh(z) @ head + head_bias - y
    task = 2 * error / error.size @ head.T
    through = task * (1 - np.tanh(z) ** 2)
    assert penalty_gradient_share(model, x, y) == pytest.approx(
        {
            "hidden/l2": np.linalg.norm(0.06 * z) / np.linalg.norm(through),
            "hidden/l1": 0.03 * np.sqrt(30) / np.linalg.norm(task),
        },
        rel=1e-4,
    )


def test_all_calls_of_a_shared_layer():
    model = attach_penalty(shared(), "dense_4", l2=0.3)
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    kernel, bias, head, head_bias = model.get_weights()
    first = np.tanh(x @ kernel + bias)
    second = np.tanh(2 * first @ kernel + bias)
    error = second @ head + head_bias - y
    task_second = 2 * error / error.size @ head.T
    task_first = 2 * (task_second * (1 - second**2)) @ kernel.T
    task = np.hypot(np.linalg.norm(task_first), np.linalg.norm(task_second))
    own = 0.06 * np.hypot(np.linalg.norm(first), np.linalg.norm(second))
    found = penalty_gradient_share(model, x, y)["dense_4/l2"]
    assert found == pytest.approx(own / task, rel=1e-4)


def test_masked_steps_do_not_count():
    model = keras.Sequential(
        [
            keras.Input((3, 2)),
            layers.Masking(name="masking"),
            layers.Dense(2, name="hidden"),
            layers.GlobalAveragePooling1D(name="pool"),
        ]
    )
    attached = attach_penalty(model, "hidden", l2=1.0)
    for one in (model, attached):
        one.compile("sgd", "mse", **QUICK)
    x = np.ones((4, 3, 2), "float32")
    x[:, 1:] = 0.0
    model.set_weights([w + 0.5 for w in model.get_weights()])
    y = np.ones((4, 2), "float32")
    kernel, bias = model.get_weights()
    h = x[:, 0] @ kernel + bias
    task = 2 * (h - y) / 8
    expected = np.linalg.norm(2 * h / 4) / np.linalg.norm(task)
    found = penalty_gradient_share(attached, x, y)["hidden/l2"]
    assert found == pytest.approx(expected, rel=1e-5)
    # Without a wrapper the mask is found as well.
    assert suggest_coefficient(
        model, "hidden", "l2", x, y, share=0.5
    ) == pytest.approx(0.5 / expected, rel=1e-5)


def test_other_added_losses_belong_to_the_task():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(3, name="hidden"),
            layers.Dense(
                2, name="head", activity_regularizer=keras.regularizers.L2(0.7)
            ),
        ]
    )
    model = attach_penalty(model, "hidden", l2=0.3)
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    h, task = by_hand(model, x, y)
    _, _, head, head_bias = model.get_weights()
    task = task + 2 * 0.7 * (h @ head + head_bias) / 10 @ head.T
    assert penalty_gradient_share(model, x, y)["hidden/l2"] == pytest.approx(
        np.linalg.norm(0.06 * h) / np.linalg.norm(task), rel=1e-5
    )


def test_dictionaries_and_chosen_outputs():
    model = by_keys()
    model = attach_penalty(model, ["mean", "dense_4"], l2=0.3)
    model.compile("sgd", {"mean": "mse", "spread": "mae"}, **QUICK)
    left, target = data(targets=2)
    right, _ = data(seed=2)
    y = {"mean": target, "spread": target}
    found = penalty_gradient_share(model, {"left": left, "right": right}, y)
    output = ops.convert_to_numpy(model({"left": left, "right": right})["mean"])
    task = 2 * (output - y["mean"]) / output.size
    assert found["mean/l2"] == pytest.approx(
        np.linalg.norm(0.06 * output) / np.linalg.norm(task), rel=1e-4
    )
    assert found["dense_4/l2"] > 0


@pytest.mark.parametrize("share", [0.1, 3.0])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("architecture", "target", "on"),
    [
        (sequential, "dense_4", "output"),
        (sequential, "dense_4", "preactivation"),
        (nested, "encoder/dense_4", "output"),
    ],
    ids=["output", "preactivation", "nested"],
)
def test_suggestion_gives_the_share(architecture, target, on, training, share):
    model = architecture()
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    coefficient = suggest_coefficient(
        model,
        target,
        penalties.L2(7.0),
        x,
        y,
        share=share,
        on=on,
        training=training,
    )
    attached = attach_penalty(model, target, l2=coefficient, on=on)
    found = penalty_gradient_share(attached, x, y, training=training)
    assert found == pytest.approx({f"{target}/l2": share}, rel=1e-5)


def test_suggestion_for_several_layers():
    """The activations of all of them are one vector."""
    model = linear()
    x, y = data()
    h, task = by_hand(model, x, y)
    _, _, head, head_bias = model.get_weights()
    output = h @ head + head_bias
    task = np.hypot(
        np.linalg.norm(task), np.linalg.norm(2 * (output - y) / output.size)
    )
    own = np.hypot(np.linalg.norm(h), np.linalg.norm(output)) * 2 / 10
    assert suggest_coefficient(model, "*", "l2", x, y) == pytest.approx(
        0.1 * task / own, rel=1e-5
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(3, name="hidden")
        self.head = layers.Dense(2, name="head")
        self.unused = layers.Dense(2, name="unused")
        self.unused.build((None, 3))

    def call(self, x):
        return self.head(self.hidden(x))


def test_subclassed_model_and_uncalled_layer():
    model = Subclassed()
    model.compile("sgd", "mse", **QUICK)
    x, y = data()
    model(x)
    model.unused.trainable = False
    plain = linear()
    plain.set_weights(
        [w for layer in model.layers[:2] for w in layer.get_weights()]
    )
    assert suggest_coefficient(model, "hidden", "l2", x, y) == pytest.approx(
        suggest_coefficient(plain, "hidden", "l2", x, y), rel=1e-5
    )
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Invalid value received for argument `model`. Expected a model "
            "that calls layer 'unused'. Received: a model that does not call "
            "it on `x`"
        ),
    ):
        suggest_coefficient(model, "unused", "l2", x, y)


def test_nothing_of_the_model_changes():
    x, y = data()
    inputs = keras.Input((FEATURES,))
    h = layers.Dense(3, "relu", name="hidden")(inputs)
    h = layers.BatchNormalization()(h)
    h = layers.Dropout(0.5, seed=3)(h)
    plain = keras.Model(inputs, layers.Dense(2)(h))
    plain.compile("adam", "mse", metrics=["mae"], **QUICK)
    model = attach_penalty(plain, "hidden", l2=0.3)
    model.fit(x, y, verbose=0)
    before = [np.array(v) for v in model.variables]
    attributes = set(vars(model.get_layer("hidden").wrapped_layer))
    nodes = len(plain.get_layer("hidden")._inbound_nodes)
    shares = [penalty_gradient_share(model, x, y) for _ in range(2)]
    assert shares[0] == shares[1]  # the same dropout
    suggest_coefficient(plain, "hidden", "l1", x, y)
    after = [np.array(v) for v in model.variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert set(vars(model.get_layer("hidden").wrapped_layer)) == attributes
    assert len(plain.get_layer("hidden")._inbound_nodes) == nodes
    model.fit(x, y, verbose=0)


def test_half_precision():
    """Float16 gradients of 1e-8 are 0 without the optimizer's loss scale."""
    x, y = data()
    shares, weights = {}, None
    for dtype in ("mixed_float16", "float32"):
        model = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(3, name="hidden", dtype=dtype),
                layers.Dense(2, name="head", dtype=dtype),
                layers.Rescaling(3e-4, dtype="float32"),
            ]
        )
        optimizer = keras.optimizers.SGD()
        if dtype == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "mse", **QUICK)
        if weights is not None:
            model.set_weights(weights)
        weights = model.get_weights()
        shares[dtype] = suggest_coefficient(model, "hidden", "l2", x, 1e-3 * y)
    assert shares["mixed_float16"] == pytest.approx(shares["float32"], rel=5e-3)


def test_task_without_gradient():
    model = linear(l2=0.3)
    x, y = data()
    weights = model.get_weights()
    model.set_weights([weights[0], weights[1], 0 * weights[2], weights[3]])
    assert penalty_gradient_share(model, x, y) == {"hidden/l2": float("inf")}
    with pytest.raises(
        ValueError,
        match=re.escape(
            "Invalid value received for argument `x`. Expected data on "
            "which the penalty and the task loss both have a finite gradient "
            "other than 0 with respect to the activations of ['hidden']. "
            "Received: data on which the gradient of the task loss has the "
            "norm 0"
        ),
    ):
        suggest_coefficient(model, "hidden", "l2", x, y)
    model.set_weights([0 * w for w in weights])
    found = penalty_gradient_share(model, x, y)
    assert np.isnan(found["hidden/l2"])


def test_errors():
    x, y = data()
    model = linear(l2=0.3)
    for share in (0.0, -1.0, float("nan")):
        with pytest.raises(
            ValueError,
            match=re.escape(
                "Invalid value received for argument `share`. Expected a "
                "finite number > 0, for example share=0.1. Received: "
                f"share={share}"
            ),
        ):
            suggest_coefficient(model, "hidden", "l2", x, y, share=share)
    with pytest.raises(ValueError, match="Did you mean 'hidden'"):
        suggest_coefficient(model, "hiden", "l2", x, y)
    dropout = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(2),
            layers.Dropout(0.5, name="dropout"),
        ]
    )
    dropout.compile("sgd", "mse", **QUICK)
    with pytest.raises(
        ValueError, match=r"Expected on='output' for layer 'dropout'"
    ):
        suggest_coefficient(
            dropout, "dropout", "l2", x[:, :2], y, on="preactivation"
        )
    with pytest.raises(
        ValueError, match=r"Expected a model with penalized layers"
    ):
        penalty_gradient_share(linear(), x, y)
    for function in (
        lambda model: penalty_gradient_share(model, x, y),
        lambda model: suggest_coefficient(model, "*", "l2", x, y),
    ):
        with pytest.raises(
            ValueError,
            match=re.escape(
                "Expected a compiled model, whose loss the penalty is "
                "compared with: call `model.compile(optimizer, loss)` first. "
                "Received: the model 'sequential_model', which is not compiled"
            ),
        ):
            function(sequential())
        with pytest.raises(TypeError, match=r"Expected a built keras\.Model"):
            function("model")


def test_docstring_examples():
    results = doctest.testmod(gradient_share)
    assert results.attempted
    assert not results.failed
