"""Every way to train: Keras's own modes, custom loops, and when to attach."""

import keras
import numpy as np
import pytest
import topologies
from by_hand import first_batch, number, one_batch, one_step, state_kept
from gradients import unrecorded
from keras import layers, ops
from models import FEATURES, QUICK, assert_same_arrays, data

from keras_actpen import (
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_terms,
)

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax

BATCH, COEFFICIENT = 2, 0.05
JIT = []
if BACKEND == "torch":
    # Its compiler takes half a minute for every model, and itself does what
    # it warns of.
    JIT = [topologies.SLOW, pytest.mark.filterwarnings("default")]


def dense(**arguments):
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(6, activation="relu", name="target", **arguments),
            layers.Dense(2),
        ]
    )


def pair():
    """A model with the penalty attached, and one with the built-in."""
    built_in = dense(activity_regularizer=keras.regularizers.L2(COEFFICIENT))
    plain = dense()
    plain.set_weights(built_in.get_weights())
    return attach_penalty(plain, "target", l2=COEFFICIENT), built_in


def weighted(x, y):
    return {"sample_weight": np.arange(len(x), dtype="float32") % 3}


def by_class(x, y):
    return {"class_weight": {0: 0.5, 1: 2.0}}


MODES = {
    "jit": ({"jit_compile": True}, {}, None),
    "no_jit": ({"jit_compile": False}, {}, None),
    "eagerly": ({"run_eagerly": True, "jit_compile": False}, {}, None),
    "steps_per_execution": ({"steps_per_execution": 2}, {}, None),
    "accumulation": ({}, {"gradient_accumulation_steps": 2}, None),
    "clipping": ({}, {"global_clipnorm": 0.1}, None),
    "moving_average": ({}, {"use_ema": True}, None),
    "sample_weight": ({}, {}, weighted),
    "class_weight": (
        {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        {},
        by_class,
    ),
    "loss_weights": ({"loss_weights": [3.0]}, {}, None),
}


@pytest.mark.parametrize(
    "mode",
    [pytest.param(mode, marks=JIT if mode == "jit" else []) for mode in MODES],
)
def test_modes(mode):
    """Loss histories and weights are those of Keras's own regularizer."""
    compiling, optimizing, fitting = MODES[mode]
    x, y = data(8)
    if BACKEND == "torch" and mode == "steps_per_execution":
        refused = dense()
        refused.compile(loss="mse", **compiling)
        with pytest.raises(ValueError, match="`steps_per_execution` must be 1"):
            refused.fit(x, y, batch_size=BATCH, verbose=0)
        pytest.skip("Keras itself cannot: it refuses it on torch")
    if mode == "class_weight":
        y = (y[:, 0] > 0).astype("int32")
    more = fitting(x, y) if fitting else {}
    results = []
    for model in pair():
        optimizer = keras.optimizers.Adam(0.05, **optimizing)
        model.compile(optimizer, **{"loss": "mse", **QUICK, **compiling})
        more["validation_data"] = (x[:4], y[:4])
        history = model.fit(
            x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0, **more
        )
        results.append((history.history, model.get_weights()))
    (found, weights), (expected, others) = results
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6)
    assert_same_arrays(weights, others, rtol=1e-5, atol=1e-6)


def test_a_batch_without_weight_keeps_the_penalty():
    x, y = data(4)
    model, _ = pair()
    model.compile("sgd", "mse", **QUICK)
    (term,) = penalty_terms(model, x).values()
    loss = model.train_on_batch(x, y, sample_weight=np.zeros(4))
    assert loss == pytest.approx(term, rel=1e-6)
    assert term > 0.01


def test_batch_methods_and_predict():
    x, y = data(4)
    model, built_in = pair()
    plain = detach_penalty(model)
    for one in (model, built_in, plain):
        one.compile("sgd", "mse", metrics=["mae"], **QUICK)
    for method in ("test_on_batch", "train_on_batch", "test_on_batch"):
        found = getattr(model, method)(x, y, return_dict=True)
        expected = getattr(built_in, method)(x, y, return_dict=True)
        assert found == pytest.approx(expected, rel=1e-6)
    expected = plain.predict(x, verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    np.testing.assert_array_equal(model.predict_on_batch(x), expected)


def own_code():
    case = topologies.subclassed()
    case.model.blocks[1].rate = 0.0  # XLA draws other numbers
    return case


SHARED = {
    "twice": topologies.layer_called_twice,
    "three_times": topologies.layer_called_three_times,
    "nested": topologies.nested_called_twice,
    "own_code": own_code,
}


def attached(case):
    return attach_penalty(case.model, case.select, l1=case.l1, l2=case.l2)


@pytest.mark.parametrize(
    ("kind", "method", "compiling"),
    [
        pytest.param("twice", "fit", {"jit_compile": True}, marks=JIT),
        ("twice", "fit", {"jit_compile": False}),
        ("three_times", "fit", QUICK),
        ("nested", "fit", QUICK),
        ("own_code", "fit", QUICK),
        ("twice", "train_on_batch", QUICK),
        ("nested", "train_on_batch", QUICK),
    ],
    ids=[
        "twice_fit_jit",
        "twice_fit_no_jit",
        "three_times_fit",
        "nested_fit",
        "own_code_fit",
        "twice_train_on_batch",
        "nested_train_on_batch",
    ],
)
def test_shared_layers(kind, method, compiling):
    """Every call counts; Keras on JAX counts only the last one."""
    case = SHARED[kind]()
    x, y = first_batch(case)
    model = attached(case)
    expected, slopes = one_step(case, x, y)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), "mse", **compiling)
    if method == "fit":
        history = model.fit(
            x, y, batch_size=case.batch, shuffle=False, verbose=0
        )
        loss = history.history["loss"][0]
    else:
        loss = model.train_on_batch(x, y)
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    assert_same_arrays(
        [
            old - new
            for old, new in zip(before, model.get_weights(), strict=True)
            if old.dtype == "float32"
        ],
        slopes,
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", ["twice", "nested"])
def test_shared_layers_evaluate(kind):
    case = SHARED[kind]()
    x, y = first_batch(case)
    model = attached(case)
    expected = one_batch(case, x, y, training=False)
    model.compile(loss="mse", **QUICK)
    for method in (model.evaluate, model.test_on_batch):
        found = method(x, y, return_dict=True)
        assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)


def test_encoder_follows_its_autoencoder():
    """A model that shares the penalized layer: no penalty, the same weights."""
    case = topologies.autoencoder_and_encoder()
    (encoder,) = case.siblings
    x, y = first_batch(case)
    encoder.compile("sgd", "mse", **QUICK)
    before = encoder.predict(x, verbose=0)
    model = attached(case)
    model.compile(keras.optimizers.SGD(0.5), "mse", **QUICK)
    model.fit(x, y, epochs=2, verbose=0)
    kernel, bias = model.get_layer("target").get_weights()
    after = encoder.predict(x, verbose=0)
    np.testing.assert_allclose(
        after, np.maximum(x @ kernel + bias, 0.0), rtol=1e-5, atol=1e-6
    )
    assert np.max(np.abs(after - before)) > 0.01
    assert encoder.evaluate(x, after, verbose=0) == pytest.approx(0, abs=1e-9)


# Custom training loops: a step each, to hold against the gradient by hand.


def step_of_tensorflow(model, x, y):
    with tf.GradientTape() as tape:
        task = keras.losses.MeanSquaredError()(y, model(x, training=True))
        loss = task + sum(model.losses)
    return loss, tape.gradient(loss, [v.value for v in model.trainable_weights])


def step_of_jax(model, x, y):
    def loss(trainable, rest):
        outputs, rest, losses = model.stateless_call(
            trainable, rest, x, training=True, return_losses=True
        )
        task = keras.losses.MeanSquaredError()(y, outputs)
        return task + sum(losses), rest

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, _), slopes = step(
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
    )
    return value, slopes


def step_of_torch(model, x, y):
    task = keras.losses.MeanSquaredError()(y, model(x, training=True))
    loss = task + sum(model.losses)
    model.zero_grad()
    loss.backward()
    return loss, [v.value.grad for v in model.trainable_weights]


STEP = {
    "tensorflow": step_of_tensorflow,
    "jax": step_of_jax,
    "torch": step_of_torch,
}[BACKEND]


@pytest.mark.parametrize("kind", ["twice", "nested", "own_code"])
def test_custom_loop(kind):
    case = SHARED[kind]()
    x, y = first_batch(case)
    model = attached(case)
    expected, slopes = one_step(case, x, y)
    loss, found = STEP(model, x, y)
    assert number(loss) == pytest.approx(expected.loss, rel=1e-5)
    assert_same_arrays(
        map(ops.convert_to_numpy, found), slopes, rtol=1e-4, atol=1e-6
    )


@keras.saving.register_keras_serializable(package="tests")
class OwnStep(keras.Model):
    """Computes its losses and gradients itself, on top of `STEP`."""

    def train_step(self, *args):
        if BACKEND == "jax":
            (trainable, rest, slots, metrics), (x, y) = args

            def loss(trainable):
                outputs, later, losses = self.stateless_call(
                    trainable, rest, x, training=True, return_losses=True
                )
                task = keras.losses.MeanSquaredError()(y, outputs)
                return task + sum(losses), later

            (value, rest), slopes = jax.value_and_grad(loss, has_aux=True)(
                trainable
            )
            trainable, slots = self.optimizer.stateless_apply(
                slots, slopes, trainable
            )
            return {"own": value}, (trainable, rest, slots, metrics)
        value, slopes = STEP(self, *args[0])
        with unrecorded():
            self.optimizer.apply(slopes, self.trainable_weights)
        return {"own": value}


def test_custom_train_step():
    case = topologies.layer_called_twice()
    case.model = OwnStep(case.model.input, case.model.output)
    x, y = first_batch(case)
    model = attached(case)
    assert type(model) is OwnStep
    expected, slopes = one_step(case, x, y)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1.0), "mse", **QUICK)
    history = model.fit(x, y, batch_size=case.batch, verbose=0).history
    assert history["own"][0] == pytest.approx(expected.loss, rel=1e-5)
    assert_same_arrays(
        [a - b for a, b in zip(before, model.get_weights(), strict=True)],
        slopes,
        rtol=1e-4,
        atol=1e-6,
    )


# When to attach


def trained(model, x, y, epochs=1):
    """Losses of some epochs with the optimizer the model has."""
    history = model.fit(
        x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0
    )
    return history.history["loss"]


def compiled(model):
    model.compile(keras.optimizers.Adam(0.05), "mse", **QUICK)
    return model


def before_compile(plain, x, y):
    return compiled(attach_penalty(plain, "target", l2=COEFFICIENT))


def after_compile(plain, x, y):
    return attach_penalty(compiled(plain), "target", l2=COEFFICIENT)


def in_two_steps(plain, x, y):
    half = attach_penalty(compiled(plain), "target", l2=COEFFICIENT / 2)
    return attach_penalty(half, "target", l2=COEFFICIENT / 2, name="again")


def again_after_detach(plain, x, y):
    once = attach_penalty(compiled(plain), "target", l2=1.0)
    return attach_penalty(detach_penalty(once), "target", l2=COEFFICIENT)


def in_a_remat_scope(plain, x, y):
    with keras.RematScope(mode="full"):
        return after_compile(plain, x, y)


@pytest.mark.parametrize(
    "attach",
    [
        before_compile,
        after_compile,
        in_two_steps,
        again_after_detach,
        in_a_remat_scope,
    ],
)
def test_when_to_attach(attach):
    x, y = data(8)
    _, built_in = pair()
    plain = dense()
    plain.set_weights(built_in.get_weights())
    model = attach(plain, x, y)
    expected = trained(compiled(built_in), x, y, 2)
    np.testing.assert_allclose(trained(model, x, y, 2), expected, rtol=1e-6)
    assert_same_arrays(
        model.get_weights(), built_in.get_weights(), rtol=1e-5, atol=1e-6
    )


def half_way(model, x, y):
    """Train one epoch with Adam, of which a second one depends."""
    trained(compiled(model), x, y)
    return model


def with_dropout():
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(6, activation="relu", name="target"),
            layers.Dropout(0.5, seed=1),
            layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    "jit", [False, pytest.param(True, marks=JIT)], ids=["no_jit", "jit"]
)
def test_coefficient_0_changes_no_later_number(jit):
    x, y = data(8)
    undisturbed, disturbed = with_dropout(), with_dropout()
    disturbed.set_weights(undisturbed.get_weights())
    for model in (undisturbed, disturbed):
        model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=jit)
        trained(model, x, y)
    model = attach_penalty(disturbed, "target", l2=0.0)
    assert int(model.optimizer.iterations) == 4
    assert model.optimizer is disturbed.optimizer
    found, expected = trained(model, x, y, 2), trained(undisturbed, x, y, 2)
    # Compilers may fuse, hence round, another program in other ways.
    within = {"rtol": 1e-5, "atol": 1e-6} if jit else {}
    assert_same_arrays(found, expected, **within)
    assert_same_arrays(model.get_weights(), undisturbed.get_weights(), **within)


def from_a_file(model, path):
    model.save(path / "model.keras")
    return keras.models.load_model(path / "model.keras")


@pytest.mark.parametrize("way", ["at_once", "loaded", "penalized_and_loaded"])
def test_attach_in_mid_training(way, tmp_path):
    """As if it had been there from the start with coefficient 0."""
    x, y = data(8)
    plain = dense()
    reference = dense()
    reference.set_weights(plain.get_weights())
    reference = half_way(attach_penalty(reference, "target", l2=0.0), x, y)
    model = half_way(plain, x, y)
    if way == "loaded":
        model = from_a_file(model, tmp_path)
    model = attach_penalty(model, "target", l2=COEFFICIENT)
    if way == "penalized_and_loaded":
        model = from_a_file(model, tmp_path)
    penalized_layers(reference)["target"].coefficients["l2"] = COEFFICIENT
    expected = trained(reference, x, y, 2)
    np.testing.assert_allclose(trained(model, x, y, 2), expected, rtol=1e-6)
    assert_same_arrays(
        model.get_weights(), reference.get_weights(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("mode", ["full", "activations"])
def test_model_built_in_a_remat_scope(mode):
    with keras.RematScope(mode=mode):
        model = dense()
    plain = dense()
    plain.set_weights(model.get_weights())
    x, y = data(8)
    if BACKEND == "tensorflow" and mode == "full":
        # Keras 3.15 cannot compile any such model on TensorFlow.
        with pytest.raises(ValueError, match="custom_gradient decorator"):
            trained(compiled(model), x, y)
        pytest.skip("Keras itself cannot: it compiles no such model")
    model = compiled(attach_penalty(model, "target", l2=COEFFICIENT))
    plain = compiled(attach_penalty(plain, "target", l2=COEFFICIENT))
    found, expected = trained(model, x, y), trained(plain, x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert_same_arrays(
        model.get_weights(), plain.get_weights(), rtol=1e-5, atol=1e-6
    )


def test_loss_scale():
    """The penalty is scaled with the loss, and so is its gradient."""
    case = topologies.mixed_float16()
    x, y = first_batch(case)
    model = attached(case)
    expected, slopes = one_step(case, x, y)
    before = model.get_weights()
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1.0), initial_scale=1024.0
    )
    model.compile(optimizer, "mse", **QUICK)
    loss = model.train_on_batch(x, y)
    assert loss == pytest.approx(expected.loss, rel=5e-3)
    assert_same_arrays(
        [a - b for a, b in zip(before, model.get_weights(), strict=True)],
        slopes,
        rtol=1e-2,
        atol=2e-3,
    )


def test_loss_scale_falls_when_a_gradient_overflows():
    case = topologies.mixed_float16_overflow()
    x, y = first_batch(case)
    case.model.compile("sgd", "mse", **QUICK)
    model = attached(case)
    optimizer = model.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    with state_kept(model):
        expected = one_batch(case, x, y, training=True)
    before = model.get_weights()
    assert model.train_on_batch(x, y) == pytest.approx(expected.loss, rel=5e-3)
    assert number(optimizer.dynamic_scale) == 2.0**14
    assert_same_arrays(model.get_weights(), before)
