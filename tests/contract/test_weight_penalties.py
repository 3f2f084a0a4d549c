"""Penalties on weights: what Keras's own weight regularizers add, by name."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from models import QUICK
from topologies import numbers

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_gradient_share,
    penalty_terms,
    suggest_coefficient,
    watch_activations,
)

SAMPLES, STEPS = 12, 5
L2 = keras.regularizers.L2(0.02)


def vectors(make, **arguments):
    inputs = keras.Input((4,))
    x = make(layers.Dense, 4, name="target", **arguments)(inputs)
    return keras.Model(inputs, layers.Dense(2)(x)), numbers(SAMPLES, 4)


def called_twice(make, **arguments):
    inputs = keras.Input((4,))
    target = make(layers.Dense, 4, name="target", **arguments)
    x = target(target(inputs))
    return keras.Model(inputs, layers.Dense(2)(x)), numbers(SAMPLES, 4)


def images(make, **arguments):
    inputs = keras.Input((5, 5, 1))
    x = make(layers.Conv2D, 3, 2, name="target", **arguments)(inputs)
    outputs = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs), numbers(SAMPLES, 5, 5, 1)


def tokens(make, **arguments):
    inputs = keras.Input((STEPS,), dtype="int32")
    x = make(layers.Embedding, 7, 3, name="target", **arguments)(inputs)
    outputs = layers.Dense(2)(layers.GlobalAveragePooling1D()(x))
    ids = np.random.default_rng(0).integers(0, 7, (SAMPLES, STEPS))
    return keras.Model(inputs, outputs), ids


def sequences(make, **arguments):
    inputs = keras.Input((STEPS, 3))
    x = make(layers.LSTM, 3, name="target", **arguments)(inputs)
    return keras.Model(inputs, layers.Dense(2)(x)), numbers(SAMPLES, STEPS, 3)


def plain(cls, *args, **arguments):
    return cls(*args, **arguments)


def trained(model, x):
    """Losses and weights of a training, from the same start every time."""
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    model.compile(keras.optimizers.SGD(0.05), "mse", **QUICK)
    y = numbers(SAMPLES, 2, seed=3)
    history = model.fit(
        x, y, batch_size=4, epochs=2, shuffle=False, verbose=0
    ).history
    evaluated = model.evaluate(x, y, batch_size=4, verbose=0)
    weights = [keras.ops.convert_to_numpy(w) for w in model.weights]
    return [*history["loss"], evaluated], weights


@pytest.mark.parametrize(
    ("build", "weight"),
    [
        (vectors, "kernel"),
        (vectors, "bias"),
        (called_twice, "kernel"),
        (images, "kernel"),
        (tokens, "embeddings"),
        (sequences, "recurrent_kernel"),
    ],
)
def test_equals_kerass_own_regularizer(build, weight):
    own = {weight.replace("recurrent_kernel", "recurrent") + "_regularizer": L2}
    expected, weights = trained(*build(plain, **own))
    model, x = build(plain)
    attached = attach_penalty(model, "target", l2=0.02, on=weight)
    losses, found = trained(attached, x)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    for one, other in zip(found, weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert detach_penalty(attached).losses == []


def test_by_glob_beside_a_penalty_on_activations(tmp_path):
    model, x = images(plain)
    model = attach_penalty(model, "target", l2=0.1)
    with pytest.warns(UserWarning, match="leaves out 1 of the 3 layers"):
        model = attach_penalty(model, "*", l2=0.02, on="kernel")
    target = model.get_layer("target")
    kernel = keras.ops.convert_to_numpy(target.kernel)
    terms = penalty_terms(model, x)
    assert list(terms) == ["target/l2", "target/kernel_l2", "dense/l2"]
    assert terms["target/kernel_l2"] == pytest.approx(
        0.02 * np.sum(np.square(kernel)), rel=1e-6
    )
    file = tmp_path / "model.keras"
    model.save(file)
    loaded = keras.saving.load_model(file)
    assert penalty_terms(loaded, x) == pytest.approx(terms, rel=1e-6)


@pytest.mark.parametrize(
    "regularizer",
    [keras.regularizers.OrthogonalRegularizer(0.3), keras.regularizers.L1(0.2)],
)
def test_a_regularizer_sees_the_weight_itself(regularizer):
    model, x = vectors(plain)
    model = attach_penalty(model, "target", regularizer, on="kernel")
    (value,) = penalty_terms(model, x).values()
    expected = regularizer(model.get_layer("target").kernel)
    expected = float(keras.ops.convert_to_numpy(expected))
    assert value == pytest.approx(expected, rel=1e-6)


def test_frozen_as_in_keras():
    model, x = vectors(plain)
    model = attach_penalty(model, "target", l2=0.02, on="kernel")
    model.get_layer("target").trainable = False
    assert list(map(float, model.losses)) == [0.0]
    found = []
    model.compile("sgd", "mse", **QUICK)
    with pytest.warns(UserWarning, match="nothing"):
        model.fit(
            x,
            numbers(SAMPLES, 2),
            verbose=0,
            callbacks=[
                PenaltyMonitor(
                    None, on_finding=lambda finding, _: found.append(finding)
                )
            ],
        )
    assert [finding.kind for finding in found] == ["frozen"]


def test_the_monitor_sees_it(tmp_path):
    model, x = vectors(plain)
    model = attach_penalty(model, "target", l2=0.02, on="kernel")
    kernel = keras.ops.convert_to_numpy(model.get_layer("target").kernel)
    model.compile(keras.optimizers.SGD(0.0), "mse", **QUICK)
    monitor = PenaltyMonitor(tmp_path)
    history = model.fit(
        x,
        numbers(SAMPLES, 2),
        batch_size=4,
        verbose=0,
        validation_data=(x, numbers(SAMPLES, 2)),
        callbacks=[monitor],
    ).history
    expected = 0.02 * np.sum(np.square(kernel))
    for key in ("penalty/target/l2", "val_penalty/target/l2"):
        assert history[key][0] == pytest.approx(expected, rel=1e-5)
    (snapshot,) = monitor._session.state.snapshots().values()
    assert snapshot.mean == pytest.approx(np.mean(kernel), abs=1e-6)
    assert snapshot.maximum == pytest.approx(np.max(kernel), rel=1e-6)


def test_share_of_the_gradient():
    model, x = vectors(plain)
    y = numbers(SAMPLES, 2)
    model.compile("sgd", "mse", **QUICK)
    coefficient = suggest_coefficient(
        model, "target", "l2", x, y, share=0.25, on="kernel", batch_size=5
    )
    model = attach_penalty(model, "target", l2=coefficient, on="kernel")
    model.compile("sgd", "mse", **QUICK)
    (share,) = penalty_gradient_share(model, x, y, batch_size=5).values()
    assert share == pytest.approx(0.25, rel=1e-5)


def refused(model, message, **arguments):
    with pytest.raises(ValueError, match=re.escape(message)):
        attach_penalty(model, "target", l2=0.1, **arguments)


def test_what_cannot_be_penalized():
    model, _ = vectors(plain)
    refused(
        model,
        "Expected one of 'output', 'preactivation', 'input' or the name of a "
        "weight, here ['kernel', 'bias']. Received: on='kernal' for layer "
        "'target' (of type Dense), a name that none of its weights has",
        on="kernal",
    )
    expected = "Expected the default, because on='kernel' names a single weight"
    refused(model, expected, on="kernel", output=1)
    model.get_layer("target").enable_lora(2)
    refused(model, "with LoRA these are 'lora_kernel_a'", on="kernel")
    lora = attach_penalty(model, "target", l2=0.1, on="lora_kernel_a")
    assert penalized_layers(lora)
    model, _ = vectors(plain)
    model.get_layer("target").quantize("int8")
    refused(model, "which has dtype int8", on="kernel")
    inputs = keras.Input((4, 3))
    layer = layers.MultiHeadAttention(1, 3, name="target")
    model = keras.Model(inputs, layer(inputs, inputs))
    refused(model, "a name that 4 of its weights have", on="kernel")
    inputs = keras.Input((4,))
    layer = layers.BatchNormalization(name="target")
    model = keras.Model(inputs, layer(inputs))
    refused(model, "a weight that is trained", on="moving_mean")


def test_weights_inside_a_layer():
    inputs = keras.Input((4, 3))
    layer = layers.MultiHeadAttention(1, 3, name="attention")
    model = keras.Model(inputs, layer(inputs, inputs))
    with pytest.warns(UserWarning, match="leaves out 2 of the 6"):
        model = attach_penalty(model, "attention/*", l2=1.0, on="kernel")
    found = penalty_terms(model, numbers(SAMPLES, 4, 3))
    assert {path.split("/")[1] for path in found} == {
        f"{name}_dense" for name in ("query", "key", "value", "output")
    }
    kernels = [w for w in model.weights if w.name == "kernel"]
    squares = [np.sum(keras.ops.convert_to_numpy(w) ** 2) for w in kernels]
    assert sum(found.values()) == pytest.approx(sum(squares), rel=1e-5)


# Further faults of their kind.


def test_a_scalar_is_refused():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="target")(inputs)

    class Mean(layers.Layer):
        def call(self, x):
            return keras.ops.mean(x)

    model = keras.Model(inputs, [x, Mean(name="mean")(x)])
    with pytest.raises(ValueError, match="whose output is a scalar"):
        attach_penalty(model, "mean", l2=0.1)


def test_a_pattern_leaves_out_what_cannot_be_watched():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="target")(inputs)
    bins = layers.Discretization([0.0, 1.0], name="bins")(x)
    model = keras.Model(inputs, [x, bins])
    with pytest.warns(UserWarning, match="'bins'.*has dtype int"):
        watched = watch_activations(model, "*")
    assert list(penalized_layers(watched)) == ["target"]
    with pytest.raises(ValueError, match="every layer that layers='bin"):
        watch_activations(model, "bin?")
    with pytest.raises(ValueError, match="has dtype int"):
        watch_activations(model, "bins")


def test_layers_of_one_path_are_told_apart():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            inputs = keras.Input((4,))
            outputs = layers.Dense(3, name="t")(inputs)
            self.online = keras.Model(inputs, outputs, name="net")
            self.ema = keras.models.clone_model(self.online)

        def call(self, x):
            return self.online(x) + self.ema(x)

    model = Two()
    x = numbers(SAMPLES, 4)
    model(x)
    model = attach_penalty(model, "*/t", l2=0.1)
    assert list(penalized_layers(model)) == ["online/net/t", "ema/net/t"]
    expected = sum(
        0.1 * np.sum(np.square(keras.ops.convert_to_numpy(net(x)))) / SAMPLES
        for net in (model.online, model.ema)
    )
    found = penalty_terms(model, x)
    assert sum(found.values()) == pytest.approx(expected, rel=1e-5)
