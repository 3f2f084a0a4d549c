"""Models as users write them: what they hold, and what their code does."""

import collections
import logging

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import FEATURES, QUICK, assert_same_arrays, data

from keras_actpen import (
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_terms,
    watch_activations,
)

BACKEND = keras.backend.backend()


def value_of(model, x):
    """The sum of all terms, as the loss has them."""
    model(x)
    return float(ops.convert_to_numpy(sum(model.losses)))


def mean_of_squares(activations):
    """What `l2=1.0` is of activations of shape `(batch, ...)`."""
    found = ops.convert_to_numpy(activations).astype("float64")
    return float(np.square(found).sum() / len(found))


# Layers that another layer or model holds too


@keras.saving.register_keras_serializable(package="tests")
class Transposed(layers.Layer):
    """The decoder of a tied autoencoder."""

    def __init__(self, tied, **kwargs):
        super().__init__(**kwargs)
        self.tied = tied

    def build(self, shape):
        self.offset = self.add_weight(shape=(FEATURES,), name="offset")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.tied.kernel)) + self.offset


def tied():
    x = keras.Input((FEATURES,))
    dense = layers.Dense(3, name="code")
    return keras.Model(x, Transposed(dense, name="decoder")(dense(x)))


class Tied(keras.Model):
    def __init__(self):
        super().__init__()
        # The decoder comes first in a file.
        self.code = layers.Dense(3, name="code")
        self.back = Transposed(self.code, name="decoder")

    def call(self, x):
        return self.back(self.code(x))


@pytest.mark.parametrize("make", [tied, Tied])
@pytest.mark.parametrize("attach", [attach_penalty, watch_activations])
def test_weight_files_of_tied_layers(tmp_path, make, attach):
    path = str(tmp_path / "of.weights.h5")
    x, _ = data()
    rng = np.random.default_rng(1)
    terms = {"l2": 1.0} if attach is attach_penalty else {}
    models = [make(), make()]
    for model in models:
        model(x)
    models[1] = attach(models[1], "code", **terms)
    for source, target in (models, models[::-1], models[1:] * 2):
        for weight in source.weights:
            weight.assign(rng.normal(size=tuple(weight.shape)))
        source.save_weights(path)
        expected = [ops.convert_to_numpy(one) for one in source.weights]
        for weight in target.weights:
            weight.assign(np.zeros(tuple(weight.shape)))
        target.load_weights(path)
        found = [ops.convert_to_numpy(one) for one in target.weights]
        assert_same_arrays(found, expected)


class WithHead(keras.Model):
    """A Functional model with a second model on its layers."""

    def __init__(self, kind):
        x = keras.Input((FEATURES,))
        h = layers.Dense(4, activation="tanh", name="hidden")(x)
        out = layers.Dense(2, name="out")(h)
        super().__init__(x, out)
        other = layers.Dense(3, name="other")(h)
        if kind == "one output":
            self.second = keras.Model(x, other, name="second")
        elif kind == "both outputs":
            self.second = keras.Model(x, [out, other], name="second")
        else:
            self.second = [keras.Model(x, h, name="second")]

    def run(self, x):
        second = self.second
        return value_of(second[0] if isinstance(second, list) else second, x)


@pytest.mark.parametrize("kind", ["one output", "both outputs", "in a list"])
def test_second_model_on_the_same_layers(tmp_path, kind):
    x, _ = data()
    model = WithHead(kind)
    attached = attach_penalty(model, "hidden", l2=1.0)
    hidden = keras.Model(model.input, model.get_layer("hidden").output)
    expected = mean_of_squares(hidden(x))
    assert attached.run(x) == pytest.approx(expected, rel=1e-6)
    assert value_of(attached, x) == pytest.approx(expected, rel=1e-6)
    assert model.run(x) == 0.0
    assert [v.path for v in attached.weights] == [v.path for v in model.weights]
    model.save_weights(tmp_path / "plain.weights.h5")
    attached.load_weights(tmp_path / "plain.weights.h5")
    assert detach_penalty(attached, "hidden").run(x) == 0.0


# Calls of their own


class TwiceTheInput(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return super().call(2 * inputs, training=training, mask=mask)


class TwiceTheInputSequential(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return super().call(2 * inputs, training=training, mask=mask)


def functional_with_call():
    x = keras.Input((FEATURES,))
    h = layers.Dense(4, activation="tanh", name="hidden")(x)
    return TwiceTheInput(x, layers.Dense(2, name="out")(h), name="own")


def sequential_with_call():
    return TwiceTheInputSequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(4, activation="tanh", name="hidden"),
            layers.Dense(2, name="out"),
        ],
        name="own",
    )


@pytest.mark.parametrize("make", [functional_with_call, sequential_with_call])
@pytest.mark.parametrize("is_nested", [False, True])
def test_call_that_runs_the_graph_on_other_inputs(make, is_nested):
    x, y = data()
    model = inner = make()
    expected = mean_of_squares(model.get_layer("hidden")(2 * x))
    if is_nested:
        inputs = keras.Input((FEATURES,))
        model = keras.Model(inputs, inner(inputs))
    outputs = ops.convert_to_numpy(model(x))
    model.compile(keras.optimizers.SGD(0.0), "mse", **QUICK)
    task = model.evaluate(x, y, verbose=0)
    attached = attach_penalty(model, "*hidden", l2=1.0)
    assert type(attached) is type(model)
    assert_same_arrays([ops.convert_to_numpy(attached(x))], [outputs])
    assert value_of(attached, x) == pytest.approx(expected, rel=1e-6)
    loss = attached.evaluate(x, y, verbose=0)
    assert loss - task == pytest.approx(expected, rel=1e-5)  # a difference
    assert value_of(detach_penalty(attached, "*hidden"), x) == 0.0


class BuildConfig(layers.Layer):
    """A block whose `get_build_config` is its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4, name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)

    def get_build_config(self):
        return {"mine": 1}


@pytest.mark.parametrize("path", ["block", "block/inner"])
def test_build_config_of_the_users_own(path):
    class Holder(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = BuildConfig(name="block")

        def call(self, x):
            return self.block(x)

        def get_build_config(self):
            return {"other": 2}

    x, _ = data()
    model = Holder()
    expected = mean_of_squares(model(x))
    attached = attach_penalty(model, path, l2=1.0)
    assert value_of(attached, x) == pytest.approx(expected, rel=1e-6)


# Attributes of their own


Pair = collections.namedtuple("Pair", "first second")


@pytest.mark.parametrize("target", ["a", "c"])
def test_named_tuple_of_layers(target):
    class Holder(keras.Model):
        def __init__(self):
            super().__init__()
            self.pair = Pair(layers.Dense(3, name="a"), layers.Dense(2))
            self.last = layers.Dense(2, name="c")

        def call(self, x):
            return self.last(self.pair.second(self.pair.first(x)))

    x, _ = data()
    model = Holder()
    model(x)
    attached = attach_penalty(model, target, l2=1.0)
    assert isinstance(attached.pair, Pair)
    assert value_of(attached, x) > 0
    assert value_of(detach_penalty(attached, target), x) == 0.0


class Ordered(keras.Model):
    def __init__(self):
        x = keras.Input((FEATURES,))
        h = layers.Dense(3, name="hidden")(x)
        super().__init__(x, h)
        self.last = collections.OrderedDict(a=1, b=2)
        one = self.add_weight(shape=(), name="one", initializer="ones")
        two = self.add_weight(shape=(), name="two", initializer="zeros")
        # In another order than they were made in.
        self.two, self.one = two, one


def test_attributes_and_weights_of_the_users_class(tmp_path):
    model = Ordered()
    attached = attach_penalty(model, "hidden", l2=1.0)
    attached.last.move_to_end("a")
    assert list(attached.last) == ["b", "a"]
    assert list(model.last) == ["a", "b"]
    assert list(map(id, attached.weights)) == list(map(id, model.weights))
    model.save_weights(tmp_path / "plain.weights.h5")
    attached.load_weights(tmp_path / "plain.weights.h5")
    values = [ops.convert_to_numpy(v) for v in (attached.one, attached.two)]
    assert values == [1.0, 0.0]


def test_state_tree():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.hidden = layers.Dense(FEATURES, name="hidden")

        def call(self, x):
            return self.hidden(x)

    x = keras.Input((FEATURES,))
    model = keras.Model(x, Block(name="b2")(Block(name="b1")(x)))
    model.compile("sgd", "mse", **QUICK)
    plain = model.get_state_tree()
    attached = attach_penalty(model, "*/hidden", l2=1.0)
    tree = attached.get_state_tree()
    assert tree["trainable_variables"] == plain["trainable_variables"]
    paths = [
        layer.coefficients.variable.path
        for layer in penalized_layers(attached).values()
    ]
    assert paths == [f"{b}/hidden/penalty_coefficients" for b in ("b1", "b2")]


# What layers compute


def test_steps_of_an_rnn_that_goes_backwards():
    """Keras puts the mask of the inputs on outputs in another order."""
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    x[0, 3:] = x[1, 2:] = 0
    seen = np.any(x != 0, axis=-1)
    inputs = keras.Input((5, 4))
    masked = layers.Masking()(inputs)
    both = layers.Bidirectional(
        layers.LSTM(3, return_sequences=True), name="both"
    )
    back = layers.GRU(2, return_sequences=True, go_backwards=True, name="back")
    outputs = [both(masked), back(masked)]
    model = keras.Model(inputs, outputs)
    targets = ["both/forward_layer", "both/backward_layer", "both", "back"]
    attached = attach_penalty(model, targets, l2=1.0)
    two_ways, backwards = map(ops.convert_to_numpy, model(x))
    parts = {
        "both/forward_layer": two_ways[..., :3],
        "both/backward_layer": two_ways[..., 3:],
        "both": two_ways,
        "back": backwards[:, ::-1],
    }
    for key, found in penalty_terms(attached, x).items():
        part = parts[key.removesuffix("/l2")][seen].astype("float64")
        expected = np.square(part).sum() / len(x)
        assert found == pytest.approx(expected, rel=1e-5), key


def test_activation_that_is_a_layer():
    x, _ = data()
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(4, activation=layers.LeakyReLU(), name="hidden"),
        ]
    )
    attached = attach_penalty(model, "hidden", l2=1.0, on="preactivation")
    kernel = model.get_layer("hidden").kernel
    expected = mean_of_squares(ops.matmul(x, kernel))
    assert value_of(attached, x) == pytest.approx(expected, rel=1e-5)
    assert isinstance(model.get_layer("hidden").activation, layers.LeakyReLU)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's tapes")
def test_losses_for_a_log_leave_the_gradient():
    import tensorflow as tf

    x, _ = data()
    layer = layers.Dense(4, name="hidden")
    model = keras.Sequential([keras.Input((FEATURES,)), layer])
    attached = attach_penalty(model, "hidden", l2=1.0)
    found = []
    for asks in (False, True):
        with tf.GradientTape() as tape:
            attached(x)
            if asks:
                with tape.stop_recording():
                    sum(attached.losses)
            loss = sum(attached.losses)
        found.append(tape.gradient(loss, layer.kernel.value))
    assert np.any(found[0])
    assert_same_arrays(found[1:], found[:1])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's AutoGraph")
def test_autograph_reads_the_code(caplog):
    import tensorflow as tf

    x = keras.Input((3, FEATURES))
    layer = layers.MultiHeadAttention(2, 2, name="attention")
    model = attach_penalty(keras.Model(x, layer(x, x)), "attention", l2=1.0)

    @tf.function
    def step(x):
        model(x, training=True)
        return tf.add_n(model.losses)

    with caplog.at_level(logging.WARNING):
        step(tf.ones((2, 3, FEATURES)))
    assert "AutoGraph" not in caplog.text


class ByFunction(keras.Model):
    """Calls a layer by a function that was made in `__init__`."""

    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(4, name="a"), layers.Dense(2, name="b")
        self.forward = lambda x, a=self.a, b=self.b: b(a(x))

    def call(self, x):
        return self.forward(x)


@pytest.mark.skipif(BACKEND != "torch", reason="refused when attached")
def test_penalty_that_the_code_goes_round_is_told():
    x, y = data()
    model = ByFunction()
    model(x)
    attached = attach_penalty(model, "a", l2=1.0)
    attached.compile("sgd", "mse")
    with pytest.warns(
        UserWarning, match="layer .a. is not in the loss"
    ) as told:
        attached.fit(x, y, epochs=2, batch_size=5, verbose=0)
    ours = [one for one in told if "not in the loss" in str(one.message)]
    assert [one.filename for one in ours] == [__file__]


def test_layer_that_is_not_called_every_time_is_no_fault():
    class Sometimes(keras.Model):
        def __init__(self):
            super().__init__()
            self.a = layers.Dense(FEATURES, name="a")
            self.b = layers.Dense(2, name="b")
            self.uses_a = True

        def call(self, x):
            return self.b(self.a(x) if self.uses_a else x)

    x, _ = data()
    model = Sometimes()
    model(x)
    attached = attach_penalty(model, ["a", "b"], l2=1.0)
    assert len(attached.losses) == 0
    assert value_of(attached, x) > 0
    attached.uses_a = False
    expected = mean_of_squares(attached(x))
    assert value_of(attached, x) == pytest.approx(expected, rel=1e-6)


def test_losses_after_calls_of_the_plain_model():
    """A penalty that was not asked for anew is not missing."""
    x, _ = data()
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, layers.Dense(4, name="hidden")(inputs))
    attached = attach_penalty(model, "hidden", l2=1.0)
    around = keras.Model(inputs, attached(inputs))
    model(x)
    # pytest makes an error of any warning.
    assert len(attached.losses) == len(around.losses) == 0
    assert value_of(attached, x) > 0
    model(x)
    assert len(attached.losses) == 1
