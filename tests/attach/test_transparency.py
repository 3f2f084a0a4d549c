"""Attaching a penalty leaves the model the user's model."""

import contextlib
import io
import warnings

import keras
import numpy as np
import pytest
from gradients import unrecorded
from keras import layers, ops
from models import (
    FEATURES,
    GRAPH_MODELS,
    MODELS,
    QUICK,
    DoubledLoss,
    assert_same_arrays,
    data,
    data_for,
    functional,
    input_of,
    nested,
    of_users_class,
    outputs_of,
    sequential,
    shared,
    subclassed,
    up_to,
)

from keras_actpen import (
    PenalizedLayer,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_summary,
    penalty_terms,
    watch_activations,
)

graph_models = pytest.mark.parametrize("kind", GRAPH_MODELS)
all_models = pytest.mark.parametrize("kind", MODELS)


def terms(model, x):
    return penalty_terms(model, x)


def loss_of(model, x):
    """Sum of what the layers add to the loss in one plain call."""
    model(x)
    return float(sum(map(ops.convert_to_numpy, model.losses)))


def description(model):
    """What a trace of a penalty would change."""
    return {
        "config": None if kind_of(model) == "subclassed" else model.to_json(),
        "layers": [
            (type(layer), layer.name, id(layer))
            for layer in model._flatten_layers(include_self=False)
            if not isinstance(layer, keras.Model)
        ],
        "variables": [(v.path, id(v)) for v in model.variables],
        "trainable": [id(v) for v in model.trainable_variables],
        "weights": [id(v) for v in model.weights],
        "losses": len(model.losses),
        "metrics": [id(m) for m in model.metrics],
    }


def kind_of(model):
    return model.name.removesuffix("_model")


# Names, weights and structure ------------------------------------------------


@all_models
def test_outputs_are_unchanged(kind):
    model = MODELS[kind]()
    x, _ = data_for(model)
    before = outputs_of(model, x)
    attached = attach_penalty(model, "dense_4", l1=0.1, l2=0.2)
    assert_same_arrays(outputs_of(attached, x), before)
    assert set(terms(attached, x)) == {
        f"{path}/{term}"
        for path in penalized_layers(attached)
        for term in ("l1", "l2")
    }
    assert min(terms(attached, x).values()) > 0


@all_models
def test_weights_are_the_same_variables_in_the_same_order(kind):
    model = MODELS[kind]()
    names = ("weights", "trainable_weights", "non_trainable_weights")
    before = {name: [id(v) for v in getattr(model, name)] for name in names}
    before["trainable_variables"] = [id(v) for v in model.trainable_variables]
    paths = [v.path for v in model.weights]
    count = model.count_params()
    values = model.get_weights()
    attached = attach_penalty(model, "dense_4", l2=0.2)
    for name, ids in before.items():
        assert [id(v) for v in getattr(attached, name)] == ids, name
    assert [v.path for v in attached.weights] == paths
    assert attached.count_params() == count
    assert_same_arrays(attached.get_weights(), values)
    attached.set_weights([value + 1.0 for value in values])
    assert_same_arrays(model.get_weights(), [value + 1.0 for value in values])


@all_models
def test_state_of_the_wrapper_shows_in_variables_only(kind):
    model = MODELS[kind]()
    before = len(model.variables)
    attached = attach_penalty(model, "dense_4", l2=0.2)
    assert len(attached.variables) == before + 1
    assert len(attached.non_trainable_variables) == (
        len(attached.variables) - len(attached.trainable_variables)
    )


@all_models
def test_names_and_order_of_layers(kind):
    model = MODELS[kind]()
    names = [layer.name for layer in model.layers]
    model_name, inputs = model.name, getattr(model, "input_names", None)
    output_names = getattr(model, "output_names", None)
    attached = attach_penalty(model, "dense_4", l2=0.2)
    assert [layer.name for layer in attached.layers] == names
    assert attached.name == model_name
    assert type(attached) is type(model)
    assert getattr(attached, "input_names", None) == inputs
    assert getattr(attached, "output_names", None) == output_names


def test_attributes_read_and_set_through():
    model = sequential()
    dense = model.get_layer("dense_4")
    wrapper = attach_penalty(model, "dense_4", l2=0.2).get_layer("dense_4")
    assert isinstance(wrapper, PenalizedLayer)
    assert wrapper.kernel is dense.kernel
    assert (wrapper.units, wrapper.use_bias) == (8, True)
    assert wrapper.activation is keras.activations.relu
    wrapper.activation = keras.activations.tanh
    assert dense.activation is keras.activations.tanh
    wrapper.trainable = False
    assert not dense.trainable
    assert wrapper.trainable_weights == []
    dense.trainable = True
    assert wrapper.trainable
    assert [v.path for v in wrapper.trainable_weights] == [
        "sequential_model/dense_4/kernel",
        "sequential_model/dense_4/bias",
    ]
    assert wrapper.name == "dense_4"
    assert wrapper.path == dense.path
    assert wrapper.dtype_policy is dense.dtype_policy
    assert wrapper.input_spec is dense.input_spec
    assert wrapper.count_params() == dense.count_params()
    assert wrapper.compute_output_shape((3, FEATURES)) == (3, 8)
    with pytest.raises(
        AttributeError, match=r"^'Dense' object has no attribute 'nothing'$"
    ):
        _ = wrapper.nothing


def test_activity_regularizer_set_later_counts_once():
    model = sequential()
    attached = attach_penalty(model, "dense_4", l2=0.2)
    x, _ = data()
    without = loss_of(attached, x)
    wrapper = attached.get_layer("dense_4")
    assert wrapper.activity_regularizer is None
    wrapper.activity_regularizer = keras.regularizers.L2(0.2)
    assert (
        model.get_layer("dense_4").activity_regularizer
        is wrapper.activity_regularizer
    )
    assert loss_of(attached, x) == pytest.approx(2 * without, rel=1e-6)


def test_users_attribute_on_the_layer_is_reached():
    model = sequential()
    model.get_layer("dense_4").note = "mine"
    wrapper = attach_penalty(model, "dense_4", l2=0.2).get_layer("dense_4")
    assert wrapper.note == "mine"
    wrapper.note = "ours"
    assert model.get_layer("dense_4").note == "ours"


def test_feature_extractor():
    model = functional()
    x, _ = data()
    expected = outputs_of(up_to(model, "add"), x)
    attached = attach_penalty(model, ["dense_4", "first"], l2=0.2)
    for name in ("add", "skip", "dense_4"):
        assert up_to(attached, name)(x).shape == (10, 8)
    assert_same_arrays(outputs_of(up_to(attached, "add"), x), expected)


def test_output_of_a_shared_layer_is_that_of_the_same_call():
    dense = layers.Dense(FEATURES, name="dense_4")
    inputs = keras.Input((FEATURES,))
    first, second = dense(inputs), dense(inputs * 2.0)
    model = keras.Model(inputs, [first, second])
    x, _ = data()
    attached = attach_penalty(model, "dense_4", l2=0.1)
    for one in (model, attached, detach_penalty(attached)):
        assert_same_arrays(
            outputs_of(up_to(one, "dense_4"), x), outputs_of(model, x)[:1]
        )


def test_losses_and_metrics_by_name():
    model = MODELS["by_keys"]()
    x, y = data_for(model)
    attached = attach_penalty(model, "dense_4", l2=0.2)
    for one in (model, attached):
        one.compile(
            "sgd",
            loss={"mean": "mse", "spread": "mae"},
            loss_weights={"mean": 2.0, "spread": 0.5},
            metrics={"spread": ["mae"]},
            **QUICK,
        )
    plain = model.evaluate(x, y, verbose=0, return_dict=True)
    found = attached.evaluate(x, y, verbose=0, return_dict=True)
    added = sum(terms(attached, x).values())
    assert list(found) == list(plain)
    np.testing.assert_allclose(
        found.pop("loss") - plain.pop("loss"), added, rtol=1e-5
    )
    assert found == plain


def test_summary_is_that_of_the_plain_model():
    model = nested()

    def printed(model):
        out = io.StringIO()
        model.summary(
            print_fn=lambda line: out.write(line + "\n"),
            expand_nested=True,
            show_trainable=True,
        )
        return out.getvalue()

    expected = printed(model)
    assert "dense_4 (Dense)" in expected
    found = printed(attach_penalty(model, "dense_4", l2=0.2)).splitlines()
    # What is attached has lines of its own, and nothing else is different.
    more = [line for line in found if line not in expected.splitlines()]
    assert [line for line in found if line not in more] == (
        expected.splitlines()
    )
    assert "penalty: l2" in " ".join(" ".join(more).replace("│", " ").split())


def test_penalty_summary(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    model = nested()
    model = attach_penalty(model, "encoder/dense_4", l1=0.1, l2=0.25)
    model = attach_penalty(model, "unfold", l2=3.0, on="preactivation")
    model = watch_activations(model, "code")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        penalty_summary(model)
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in out.getvalue().splitlines()
        if line.startswith("│")
    ]
    about = ["encoder/dense_4", "Dense", "(None, 6)", "output"]
    assert rows == [
        [*about, "l1", "0.1"],
        [*about, "l2", "0.25"],
        ["encoder/code", "Dense", "(None, 3)", "output", "watched", ""],
        ["decoder/unfold", "Dense", "(None, 6)", "preactivation", "l2", "3"],
    ]


# Sharing ---------------------------------------------------------------------


@graph_models
def test_model_passed_in_and_siblings_get_no_penalty(kind):
    model = GRAPH_MODELS[kind]()
    x, _ = data_for(model)
    sibling = keras.Model(input_of(model), model.layers[-1].output)
    before = description(model)
    attached = attach_penalty(model, "dense_4", l2=0.2)
    assert loss_of(attached, x) > 0
    assert loss_of(model, x) == 0
    assert loss_of(sibling, x) == 0
    assert penalized_layers(model) == {}
    assert description(model) == before


def test_training_the_attached_model_trains_the_one_passed_in():
    model = nested()
    x, y = data()
    attached = attach_penalty(model, "dense_4", l2=0.2)
    before = model.get_weights()
    attached.compile("sgd", "mse", **QUICK)
    attached.train_on_batch(x, y)
    changed = [
        not np.array_equal(one, other)
        for one, other in zip(model.get_weights(), before, strict=True)
    ]
    assert all(changed)
    assert_same_arrays(model.get_weights(), attached.get_weights())
    assert_same_arrays(outputs_of(model, x), outputs_of(attached, x))


def test_independent_copy():
    model = nested()
    x, y = data()
    model.compile(keras.optimizers.SGD(0.1), "mse", **QUICK)
    copied = attach_penalty(
        model, ["encoder/dense_4", "unfold"], l2=0.2, share_weights=False
    )
    assert list(penalized_layers(copied)) == [
        "encoder/dense_4",
        "decoder/unfold",
    ]
    before = model.get_weights()
    assert_same_arrays(copied.get_weights(), before)
    assert not {id(v) for v in copied.variables} & {
        id(v) for v in model.variables
    }
    assert copied.compiled
    copied.train_on_batch(x, y)
    assert_same_arrays(model.get_weights(), before)
    assert not np.array_equal(copied.get_weights()[0], before[0])
    assert loss_of(model, x) == 0


def test_independent_copy_of_a_penalized_layer_object():
    model = functional()
    dense = model.get_layer("dense_4")
    copied = attach_penalty(model, dense, l2=0.2, share_weights=False)
    assert list(penalized_layers(copied)) == ["dense_4"]
    assert copied.get_layer("dense_4").kernel is not dense.kernel


# Layers that cannot be re-created --------------------------------------------


class Scale(layers.Layer):
    """Has no get_config that would re-create it."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.offset = self.add_weight(shape=(input_shape[-1],), name="offset")

    def call(self, inputs):
        return inputs * self.factor + self.offset


@pytest.mark.filterwarnings("ignore:The penalty on .* changes no weight")
def test_layers_that_cannot_be_recreated():
    x, _ = data()
    normalization = layers.Normalization(name="normalize")
    normalization.adapt(x * 3.0 + 1.0)
    factor = object()  # nothing that could be serialized
    inputs = keras.Input((FEATURES,))
    hidden = normalization(inputs)
    hidden = layers.Lambda(lambda x: x * (2.0 if factor else 0.0))(hidden)
    hidden = Scale(3.0, name="scale")(hidden)
    hidden = layers.Dense(8, name="dense_4", activation="relu")(hidden)
    outputs = layers.Dense(2)(hidden)
    model = keras.Model(inputs, outputs)
    expected = outputs_of(model, x)
    for target in ("dense_4", "scale", "lambda", "normalize"):
        attached = attach_penalty(model, target, l2=0.2)
        assert_same_arrays(outputs_of(attached, x), expected)
        h = outputs_of(up_to(model, target), x)[0].astype("float64")
        np.testing.assert_allclose(
            terms(attached, x)[f"{target}/l2"],
            0.2 * np.sum(h**2) / len(x),
            rtol=1e-6,
        )
        # Every layer has the very state of the one passed in; those in front
        # of the target are the very objects.
        index = model.layers.index(model.get_layer(target))
        assert attached.layers[:index] == model.layers[:index]
        assert all(
            vars(one) is vars(other)
            for one, other in zip(attached.layers, model.layers, strict=True)
        )


# Calls -----------------------------------------------------------------------


def test_layer_called_twice_counts_once_a_call():
    model = shared()
    x, _ = data()
    attached = attach_penalty(model, "dense_4", l2=0.2)
    dense = model.get_layer("dense_4")
    first = ops.convert_to_numpy(dense(x)).astype("float64")
    second = ops.convert_to_numpy(
        dense(np.asarray(first * 2.0, "float32"))
    ).astype("float64")
    expected = 0.2 * (np.sum(first**2) + np.sum(second**2)) / len(x)
    np.testing.assert_allclose(
        terms(attached, x)["dense_4/l2"], expected, rtol=1e-6
    )
    np.testing.assert_allclose(loss_of(attached, x), expected, rtol=1e-6)
    plain = outputs_of(model, x)
    attached.compile("sgd", "mse", **QUICK)
    loss = attached.evaluate(x, plain[0], verbose=0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    loss = attached.train_on_batch(x, plain[0])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_nested_model_called_twice():
    inputs = keras.Input((FEATURES,))
    inner = keras.Model(
        inputs, layers.Dense(FEATURES, name="dense_4")(inputs), name="inner"
    )
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, inner(inner(inputs)))
    x, _ = data()
    for target in ("dense_4", "inner"):
        attached = attach_penalty(model, target, l2=0.2)
        first = ops.convert_to_numpy(inner(x))
        second = ops.convert_to_numpy(inner(first))
        expected = 0.2 * (np.sum(first**2) + np.sum(second**2)) / len(x)
        attached.compile("sgd", "mse", **QUICK)
        loss = attached.evaluate(x, second, verbose=0)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert sum(terms(attached, x).values()) == pytest.approx(expected)


def test_predict_is_that_of_the_plain_model():
    model = nested()
    x, _ = data()
    expected = model.predict(x, verbose=0)
    attached = attach_penalty(model, "dense_4", l2=0.2)
    np.testing.assert_array_equal(attached.predict(x, verbose=0), expected)


def test_predict_computes_no_penalty():
    calls = []

    def counted(h):
        calls.append(1)
        return ops.sum(h)

    x, y = data()
    attached = attach_penalty(sequential(), "dense_4", counted)
    attached.compile("sgd", "mse", **QUICK)
    calls.clear()
    attached.predict(x, verbose=0)
    with unrecorded():
        attached(x)
    assert calls == []
    attached.evaluate(x, y, verbose=0)
    assert calls != []


def test_losses_after_a_compiled_step_are_no_error():
    x, _ = data()
    attached = attach_penalty(sequential(), "dense_4", l2=0.1)
    attached.compile("sgd", "mse", **QUICK)
    attached.predict(x, verbose=0)
    told = contextlib.nullcontext()
    if keras.backend.backend() == "tensorflow":
        told = pytest.warns(UserWarning, match="not among these `losses`")
    with told:
        first = len(attached.losses)
    assert first == (1 if keras.backend.backend() == "torch" else 0)
    attached(x)
    np.testing.assert_allclose(
        ops.convert_to_numpy(attached.losses[0]),
        terms(attached, x)["dense_4/l2"],
        rtol=1e-6,
    )


def test_keyword_arguments_and_several_inputs():
    query = keras.Input((3, 4))
    value = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    outputs, scores = attention(
        query=query, value=value, return_attention_scores=True
    )
    model = keras.Model([query, value], [outputs, scores])
    rng = np.random.default_rng(0)
    x = [
        rng.normal(size=(2, 3, 4)).astype("float32"),
        rng.normal(size=(2, 5, 4)).astype("float32"),
    ]
    expected = outputs_of(model, x)
    for output, chosen in (
        (0, expected[:1]),
        (1, expected[1:]),
        ("all", expected),
    ):
        attached = attach_penalty(model, "attention", l2=1.0, output=output)
        assert_same_arrays(outputs_of(attached, x), expected)
        np.testing.assert_allclose(
            terms(attached, x)["attention/l2"],
            sum(np.sum(h.astype("float64") ** 2) for h in chosen) / 2,
            rtol=1e-6,
        )


def test_training_argument_passes_through():
    model = sequential()
    x = np.ones((400, FEATURES), "float32")
    attached = attach_penalty(model, "drop", l1=1.0)
    expected = np.sum(outputs_of(up_to(model, "dense_4"), x)) / len(x)
    found = terms(attached, x)["drop/l1"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    dropped = penalty_terms(attached, x, training=True)["drop/l1"]
    assert abs(dropped / expected - 1.0) > 1e-6


def test_batch_size_of_unknown_shape():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.Dense(2, name="dense_4")(inputs))
    attached = attach_penalty(model, "dense_4", l2=1.0)
    for length in (2, 5):
        x = np.ones((4, length, 3), "float32")
        h = ops.convert_to_numpy(model(x))
        np.testing.assert_allclose(
            terms(attached, x)["dense_4/l2"], np.sum(h**2) / 4, rtol=1e-6
        )


class WithContext(layers.Layer):
    """Adds one where an argument says so that reaches it by context."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._register_call_context_args("shifted")

    def call(self, x, shifted=False):
        return x + float(shifted)


class Around(layers.Layer):
    """Has a layer that takes an argument which it does not take itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = WithContext()

    def call(self, x):
        return self.inner(x)


def test_context_arguments_pass_through():
    layer = PenalizedLayer(Around(), penalties.L2(0.1))
    layer._register_call_context_args("shifted")
    x = np.zeros((2, 3), "float32")
    outputs = layer(x, shifted=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), x + 1)


def test_stateful_layer():
    inputs = keras.Input(batch_shape=(2, 3, 4))
    model = keras.Model(
        inputs, layers.LSTM(3, stateful=True, name="lstm")(inputs)
    )
    attached = attach_penalty(model, "lstm", l2=1.0)
    x = np.ones((2, 3, 4), "float32")
    first, second = (outputs_of(attached, x)[0] for _ in range(2))
    assert not np.array_equal(first, second)
    attached.get_layer("lstm").reset_states()
    assert_same_arrays(outputs_of(attached, x), [first])


# Masks and dtypes ------------------------------------------------------------

TOKENS = np.array([[3, 1, 0, 0], [2, 5, 4, 0], [1, 0, 0, 0]])
MASK = TOKENS != 0


def masked(layer, **embedding):
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(6, 3, mask_zero=True, name="embed")(inputs)
    return keras.Model(inputs, layer(x))


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda: layers.Dense(4, name="target"), True),
        (lambda: layers.LSTM(4, return_sequences=True, name="target"), True),
        (lambda: layers.LSTM(4, name="target"), False),
        (
            lambda: layers.Bidirectional(
                layers.GRU(2, return_sequences=True), name="target"
            ),
            True,
        ),
        (lambda: layers.TimeDistributed(layers.Dense(4), name="target"), True),
        (lambda: layers.MultiHeadAttention(1, 2, name="target"), True),
    ],
)
def test_masks_count_and_pass_through(make, steps):
    layer = make()
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(6, 3, mask_zero=True, name="embed")(inputs)
    arguments = (x, x) if isinstance(layer, layers.MultiHeadAttention) else (x,)
    model = keras.Model(inputs, layer(*arguments))
    expected = outputs_of(model, TOKENS)[0]
    attached = attach_penalty(model, "target", l2=1.0)
    assert_same_arrays(outputs_of(attached, TOKENS), [expected])
    h = expected.astype("float64")
    if steps:
        h = h[MASK]
    np.testing.assert_allclose(
        terms(attached, TOKENS)["target/l2"],
        np.sum(h**2) / len(TOKENS),
        rtol=1e-6,
    )
    mean = attach_penalty(model, "target", penalties.L2(1.0, reduction="mean"))
    np.testing.assert_allclose(
        terms(mean, TOKENS)["target/l2"], np.mean(h**2), rtol=1e-6
    )


def test_mask_reaches_the_layers_behind():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(6, 3, mask_zero=True, name="embed")(inputs)
    x = layers.Dense(3, name="dense_4")(x)
    model = keras.Model(inputs, layers.LSTM(2)(x))
    expected = outputs_of(model, TOKENS)
    attached = attach_penalty(model, ["embed", "dense_4"], l2=1.0)
    assert_same_arrays(outputs_of(attached, TOKENS), expected)
    unmasked = outputs_of(model, np.where(MASK, TOKENS, 5))
    assert not np.allclose(expected[0], unmasked[0])


@pytest.mark.parametrize("on", ["output", "preactivation"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy, on):
    inputs = keras.Input((4,), dtype="float32")
    dense = layers.Dense(64, activation="relu", name="dense_4", dtype=policy)
    outputs = layers.Dense(1, dtype="float32")(dense(inputs))
    model = keras.Model(inputs, outputs)
    x = np.full((4, 4), 500.0, "float32")
    spec = dense.output
    if on == "preactivation":
        dense.activation = keras.activations.linear
    h = keras.Model(inputs, spec)(x)
    assert keras.backend.standardize_dtype(h.dtype) == policy[6:]
    h = ops.convert_to_numpy(ops.cast(h, "float32")).astype("float64")
    dense.activation = keras.activations.relu
    assert np.sum(h**2) > 70000  # infinite in float16
    expected = 0.001 * np.sum(h**2) / 4
    attached = attach_penalty(model, "dense_4", l2=0.001, on=on)
    assert attached.get_layer("dense_4").dtype_policy.name == policy
    np.testing.assert_allclose(
        terms(attached, x)["dense_4/l2"], expected, rtol=1e-6
    )
    attached.compile(
        keras.optimizers.SGD(0.0), "mse", auto_scale_loss=False, **QUICK
    )
    target = outputs_of(model, x)[0]
    found = attached.train_on_batch(x, target)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_policy_of_the_layer_counts_not_the_global_one():
    model = sequential()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        attached = attach_penalty(model, "dense_4", l2=0.2)
    finally:
        keras.config.set_dtype_policy(before)
    assert attached.get_layer("dense_4").dtype_policy.name == "float32"
    x, _ = data()
    assert_same_arrays(outputs_of(attached, x), outputs_of(model, x))


# Training state --------------------------------------------------------------


def training_model():
    model = functional()
    x = layers.Dropout(0.3, name="drop")(model.get_layer("add").output)
    model = keras.Model(model.input, layers.Dense(2, name="end")(x))
    return model


def fit(model, x, y, **arguments):
    return model.fit(
        x, y, batch_size=4, shuffle=False, verbose=0, **arguments
    ).history


def test_compiled_model_trains_on_as_if_nothing_had_happened():
    x, y = data(8)

    def trained(between):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = training_model()
        model.compile(
            keras.optimizers.Adam(0.01),
            loss=lambda true, pred: ops.mean(ops.square(true - pred), axis=-1),
            metrics=["mae", keras.metrics.MeanSquaredError(name="error")],
            weighted_metrics=["mae"],
            # XLA rounds differently in programs that differ: 1e-7.
            jit_compile=False,
        )
        first = fit(model, x, y, epochs=2)
        model = between(model)
        second = fit(model, x, y, epochs=2, validation_data=(x, y))
        optimizer = [np.array(v.numpy()) for v in model.optimizer.variables]
        return first, second, model.get_weights(), optimizer

    def attach(model):
        return attach_penalty(model, ["dense_4", "first"], l2=0.0)

    expected = trained(lambda model: model)
    for between in (
        attach,
        lambda model: detach_penalty(attach(model)),
        lambda model: watch_activations(model, "*"),
    ):
        found = trained(between)
        assert found[:2] == expected[:2]
        assert_same_arrays(found[2], expected[2])
        assert_same_arrays(found[3], expected[3])
        assert found[3][0] == 8  # iterations


def test_compile_state_is_shared():
    model = functional()
    x, y = data()
    metric = keras.metrics.MeanAbsoluteError(name="error")

    def users_loss(true, pred):
        return ops.mean(ops.abs(true - pred), axis=-1)

    model.compile(
        keras.optimizers.Adam(0.01),
        users_loss,
        metrics=[metric],
        steps_per_execution=1,
        **QUICK,
    )
    model.train_on_batch(x, y)
    before = [(m.name, id(m)) for m in model.metrics[1:]]
    assert len(before) == 1
    paths = [v.path for v in model.optimizer.variables]
    attached = attach_penalty(model, "dense_4", l2=0.1)
    assert attached.optimizer is model.optimizer
    assert attached.loss is users_loss
    assert attached.jit_compile == model.jit_compile
    # The first one is the mean of the loss, of its own since `compile`.
    assert [(m.name, id(m)) for m in attached.metrics[1:]] == before
    assert [v.path for v in attached.optimizer.variables] == paths
    attached.train_on_batch(x, y)
    assert int(model.optimizer.iterations) == 2
    assert [v.path for v in attached.optimizer.variables] == paths
    assert list(attached.get_metrics_result()) == ["loss", "error"]
    assert attached.get_compile_config() == model.get_compile_config()


def test_uncompiled_model_stays_uncompiled():
    attached = attach_penalty(functional(), "dense_4", l2=0.1)
    assert not attached.compiled
    assert not hasattr(attached, "optimizer")


def test_coefficient_takes_effect_at_the_next_step():
    model = sequential()
    x, y = data()
    model.compile(keras.optimizers.SGD(0.0), "mse", **QUICK)
    model.get_layer("drop").rate = 0.0
    attached = attach_penalty(model, "dense_4", l2=0.1)
    plain = attached.train_on_batch(x, y) - terms(attached, x)["dense_4/l2"]
    coefficients = penalized_layers(attached)["dense_4"].coefficients
    for value in (0.0, 0.3):
        coefficients["l2"] = value
        expected = plain + terms(attached, x)["dense_4/l2"]
        attached.reset_metrics()  # Keras 3.14 does not
        found = attached.train_on_batch(x, y)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert dict(coefficients) == {"l2": 0.3}


@pytest.mark.filterwarnings("ignore:The penalty on .* changes no weight")
def test_frozen_layers_stay_frozen():
    model = nested()
    x, y = data()
    encoder = model.get_layer("encoder")
    encoder.trainable = False
    model.get_layer("decoder").get_layer("head").trainable = False
    model.compile("sgd", "mse", **QUICK)
    trainable = [v.path for v in model.trainable_variables]
    assert len(trainable) == 2
    attached = attach_penalty(model, ["encoder/dense_4", "unfold"], l2=0.1)
    assert [v.path for v in attached.trainable_variables] == trainable
    assert not attached.get_layer("encoder").trainable
    frozen = encoder.get_weights()
    attached.train_on_batch(x, y)
    assert_same_arrays(encoder.get_weights(), frozen)
    back = detach_penalty(attached)
    assert [v.path for v in back.trainable_variables] == trainable


def test_frozen_by_the_attached_model():
    model = functional()
    attached = attach_penalty(model, "dense_4", l2=0.1)
    attached.trainable = False
    assert attached.trainable_variables == []
    attached.trainable = True
    assert len(attached.trainable_variables) == len(model.trainable_variables)
    attached.get_layer("dense_4").trainable = False
    assert not model.get_layer("dense_4").trainable


# Models of the user's own class ----------------------------------------------


def test_users_class_keeps_attributes_and_methods():
    model = of_users_class()
    x, y = data()
    model.factor = 3.0
    model.extra = layers.Dense(1, name="spare")
    model.compile("sgd", "mse", run_eagerly=True)
    attached = attach_penalty(model, "dense_4", l2=0.1)
    assert type(attached) is DoubledLoss
    assert attached.factor == 3.0
    assert attached.notes == {"author": "a user"}
    assert attached.extra is model.extra
    # The task loss is 0: what remains is thrice the penalty.
    attached.get_layer("norm").trainable = False
    target = outputs_of(model, x)[0]
    loss = attached.evaluate(x, target, verbose=0)
    np.testing.assert_allclose(
        loss, 3.0 * terms(attached, x)["dense_4/l2"], rtol=1e-5
    )
    attached.train_on_batch(x, y)
    assert attached.steps_seen >= 1
    assert not hasattr(model, "steps_seen")


def test_users_class_keeps_a_list_that_holds_itself():
    model = of_users_class()
    model.ring = [1]
    model.ring.append(model.ring)
    attached = attach_penalty(model, "dense_4", l2=0.1)
    assert attached.ring[0] == 1
    assert attached.ring[1] is attached.ring
    back = detach_penalty(attached)
    assert back.ring[1] is back.ring


@keras.saving.register_keras_serializable(package="tests")
class Autoencoder(keras.Model):
    """Holds its parts as attributes and in containers."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.code = self.get_layer("dense_4")
        self.parts = {"all": [self.get_layer("dense_4"), self.layers[-1]]}


def test_layers_held_as_attributes_are_those_of_the_new_model():
    plain = functional()
    model = Autoencoder(plain.input, plain.outputs)
    attached = attach_penalty(model, "dense_4", l2=0.1)
    wrapper = attached.get_layer("dense_4")
    assert isinstance(wrapper, PenalizedLayer)
    assert attached.code is wrapper
    assert attached.parts["all"][0] is wrapper
    assert attached.parts["all"][1] is attached.layers[-1]
    assert model.parts["all"][1] is model.layers[-1]
    assert model.code is wrapper.wrapped_layer
    assert model.parts["all"][0] is model.code
    assert [v.path for v in attached.weights] == [v.path for v in model.weights]
    back = detach_penalty(attached)
    assert back.code is model.code


class Wide(keras.Sequential):
    """A Sequential of the user's own class."""

    def __init__(self, units, name=None):
        super().__init__(
            [
                keras.Input((FEATURES,)),
                layers.Dense(units, name="dense_4"),
                layers.Dense(2),
            ],
            name=name,
        )
        self.units = units


def test_users_sequential_class():
    model = Wide(5)
    attached = attach_penalty(model, "dense_4", l2=0.1)
    assert type(attached) is Wide
    assert attached.units == 5
    x, _ = data()
    assert_same_arrays(outputs_of(attached, x), outputs_of(model, x))


def test_sequential_without_input_layer():
    model = keras.Sequential([layers.Dense(3, name="dense_4"), layers.Dense(2)])
    x, _ = data()
    model.build((None, FEATURES))
    attached = attach_penalty(model, "dense_4", l2=0.1)
    assert_same_arrays(outputs_of(attached, x), outputs_of(model, x))
    assert model.get_config() == detach_penalty(attached).get_config()


# Subclassed models -----------------------------------------------------------


def test_subclassed_model_is_changed_in_place():
    model = subclassed()
    x, y = data()
    dense = model.dense_4
    before = description(model)
    model.compile(keras.optimizers.SGD(0.0), "mse", **QUICK)
    plain = model.train_on_batch(x, y)
    predicted = model.predict(x, verbose=0)
    attached = attach_penalty(model, ["dense_4", "second_block"], l2=0.1)
    assert attached is model
    assert isinstance(model.dense_4, PenalizedLayer)
    assert isinstance(model.blocks[1], PenalizedLayer)
    assert list(penalized_layers(model)) == ["dense_4", "second_block"]
    added = sum(terms(model, x).values())
    assert added > 0
    model.reset_metrics()  # Keras 3.14 does not
    np.testing.assert_allclose(
        model.train_on_batch(x, y), plain + added, rtol=1e-5
    )
    np.testing.assert_array_equal(model.predict(x, verbose=0), predicted)
    assert detach_penalty(model) is model
    assert model.dense_4 is dense
    np.testing.assert_allclose(model.train_on_batch(x, y), plain, rtol=1e-6)
    after = description(model)
    for key in ("layers", "weights", "trainable"):
        assert after[key] == before[key], key


class Outer(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = subclassed()
        self.graph = sequential()

    def call(self, inputs):
        return self.inner(inputs) + self.graph(inputs)


def test_models_nested_in_a_subclassed_one():
    x, _ = data()
    model = Outer()
    expected = outputs_of(model, x)
    graph, inner = model.graph, model.inner
    names = ["subclassed_model/dense_4", "sequential_model/dense_4"]
    attach_penalty(model, names, l2=0.1)
    assert sorted(penalized_layers(model)) == sorted(names)
    assert_same_arrays(outputs_of(model, x), expected)
    assert model.inner is inner
    assert model.graph is not graph
    assert penalized_layers(graph) == {}
    detach_penalty(model)
    assert penalized_layers(model) == {}
    assert_same_arrays(outputs_of(model, x), expected)


# Detach, attach again, order -------------------------------------------------


@all_models
def test_detach_leaves_no_trace(kind):
    model = MODELS[kind]()
    x, _ = data_for(model)
    outputs = outputs_of(model, x)
    before = description(model)
    weights = model.get_weights()
    attached = attach_penalty(model, "dense_4", l2=0.1)
    attached = (
        attach_penalty(attached, "head", l1=0.1, name="more")
        if (kind != "by_keys")
        else attached
    )
    assert len(penalized_layers(attached)) > 0
    detached = detach_penalty(attached)
    assert_same_arrays(outputs_of(detached, x), outputs)
    assert description(detached) == before
    assert_same_arrays(detached.get_weights(), weights)
    if keras.backend.backend() == "torch":
        assert list(detached.state_dict()) == list(model.state_dict())


def test_detach_some_layers():
    model = attach_penalty(nested(), ["dense_4", "unfold"], l2=0.1)
    left = detach_penalty(model, "dense_4")
    assert list(penalized_layers(left)) == ["decoder/unfold"]
    assert list(penalized_layers(model)) == [
        "encoder/dense_4",
        "decoder/unfold",
    ]
    assert penalized_layers(left)["decoder/unfold"].coefficients["l2"] == 0.1


def test_attach_twice_makes_one_wrapper_with_both_terms():
    model = functional()
    x, _ = data()
    once = attach_penalty(model, "dense_4", l2=0.1)
    penalized_layers(once)["dense_4"].coefficients["l2"] = 0.4
    twice = attach_penalty(once, "dense_4", l1=0.2, on="preactivation")
    wrapper = twice.get_layer("dense_4")
    assert wrapper.wrapped_layer is model.get_layer("dense_4")
    assert dict(wrapper.coefficients) == {"l2": 0.4, "l1": 0.2}
    found = terms(twice, x)
    assert found["dense_4/l2"] == terms(once, x)["dense_4/l2"]
    kernel, bias = model.get_layer("dense_4").get_weights()
    linear = outputs_of(up_to(model, "norm"), x)[0] @ kernel + bias
    np.testing.assert_allclose(
        found["dense_4/l1"], 0.2 * np.abs(linear).sum() / len(x), rtol=1e-5
    )
    # Coefficients of one model are not those of the other.
    wrapper.coefficients["l2"] = 0.7
    assert once.get_layer("dense_4").coefficients["l2"] == 0.4


@graph_models
def test_order_of_attaching_does_not_matter(kind):
    model = GRAPH_MODELS[kind]()
    x, _ = data_for(model)
    last = "mean" if kind == "by_keys" else "head"

    def attached(names):
        result = model
        for name in names:
            result = attach_penalty(result, name, l2=0.1)
        return result

    one, other = attached(["dense_4", last]), attached([last, "dense_4"])
    both = attach_penalty(model, ["dense_4", last], l2=0.1)
    assert terms(one, x) == terms(other, x) == terms(both, x)
    assert len(terms(one, x)) == 2
    assert one.to_json() == other.to_json() == both.to_json()


def test_mapping_of_layers_to_penalties():
    model = nested()
    x, _ = data()
    attached = attach_penalty(
        model,
        {
            "dense_4": penalties.L2(0.3),
            "decoder/*": ["l1", penalties.L2(0.2, name="energy")],
        },
    )
    assert list(terms(attached, x)) == [
        "encoder/dense_4/l2",
        "decoder/unfold/l1",
        "decoder/unfold/energy",
        "decoder/head/l1",
        "decoder/head/energy",
    ]


def test_penalty_on_a_nested_model_and_inside_it():
    model = nested()
    x, _ = data()
    attached = attach_penalty(model, ["encoder", "encoder/dense_4"], l2=0.1)
    encoder = model.get_layer("encoder")
    code = ops.convert_to_numpy(encoder(x))
    hidden = ops.convert_to_numpy(encoder.get_layer("dense_4")(x))
    assert terms(attached, x) == pytest.approx(
        {
            "encoder/l2": 0.1 * np.sum(code**2) / len(x),
            "encoder/dense_4/l2": 0.1 * np.sum(hidden**2) / len(x),
        }
    )
    assert loss_of(attached, x) == pytest.approx(
        sum(terms(attached, x).values())
    )
    inner = detach_penalty(attached, "encoder")
    assert list(terms(inner, x)) == ["encoder/dense_4/l2"]
    assert [v.path for v in attached.weights] == [v.path for v in model.weights]
    attached_code = attached.get_layer("encoder").get_layer("code")
    assert vars(attached_code) is vars(encoder.get_layer("code"))


def test_watched_layer_adds_nothing():
    model = functional()
    x, _ = data()
    watched = watch_activations(model, "dense_4")
    assert loss_of(watched, x) == 0
    assert watched.losses == []
    assert len(watched.variables) == len(model.variables)
    penalized = attach_penalty(watched, "dense_4", l2=0.1, on="preactivation")
    assert [str(p) for p in penalized.get_layer("dense_4").actpen.specs] == [
        "preactivation"
    ]


def test_zero_coefficient_skips_an_infinite_value():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Identity(name="identity")(inputs))
    attached = attach_penalty(model, "identity", l2=0.0)
    x = np.full((1, 2), 1e30, "float32")
    assert terms(attached, x) == {"identity/l2": 0.0}
    attached.get_layer("identity").coefficients["l2"] = 0.5
    assert terms(attached, x) == {"identity/l2": np.inf}


# penalty_terms ---------------------------------------------------------------


def test_penalty_terms_has_no_side_effect():
    model = training_model()
    x, y = data()
    model.compile("sgd", "mse", **QUICK)
    model.train_on_batch(x, y)
    attached = attach_penalty(model, ["dense_4", "drop"], l2=0.1)

    def state():
        return [np.array(v.numpy()) for v in attached.variables]

    before = state()
    plain = penalty_terms(attached, x)
    training = penalty_terms(attached, x, training=True)
    assert_same_arrays(state(), before)
    assert plain["dense_4/l2"] != training["dense_4/l2"]  # batch statistics
    assert penalty_terms(attached, x, training=True) == training  # same seed
    assert penalty_terms(attached, x) == plain
    assert all(isinstance(value, float) for value in plain.values())


def test_penalty_terms_of_inputs_in_lists():
    left, right = keras.Input((2,)), keras.Input((3,))
    x = layers.Concatenate()([left, right])
    model = keras.Model([left, right], layers.Dense(2, name="dense_4")(x))
    attached = attach_penalty(model, "dense_4", l2=1.0)
    x = [np.ones((4, 2), "float32"), np.ones((4, 3), "float32")]
    expected = np.sum(outputs_of(model, x)[0] ** 2) / 4
    assert terms(attached, x)["dense_4/l2"] == pytest.approx(expected)


# PenalizedLayer by itself ----------------------------------------------------


def test_penalized_layer_in_a_model_as_it_is_written():
    inputs = keras.Input((FEATURES,))
    x = PenalizedLayer(
        layers.Dense(8, name="dense_4"), [penalties.L2(0.1), "l1"]
    )(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    x, _ = data()
    h = ops.convert_to_numpy(model.get_layer("dense_4").wrapped_layer(x))
    assert terms(model, x) == pytest.approx(
        {
            "dense_4/l2": 0.1 * np.sum(h**2) / 10,
            "dense_4/l1": 0.01 * np.sum(np.abs(h)) / 10,
        }
    )
    assert [v.path for v in model.weights][:2] == [
        "dense_4/kernel",
        "dense_4/bias",
    ]


def test_torch_state_dict_loads_both_ways():
    if keras.backend.backend() != "torch":
        pytest.skip("torch only")
    import torch

    model, other = nested(), nested()
    attached = attach_penalty(model, "dense_4", l2=0.1)
    assert {id(p) for p in attached.parameters()} >= {
        id(p) for p in model.parameters() if p.requires_grad
    }
    buffer = io.BytesIO()
    torch.save(attached.state_dict(), buffer)
    copied = attach_penalty(other, "dense_4", l2=0.1)
    for loading in (other, copied):
        other.set_weights([w * 0.0 for w in other.get_weights()])
        buffer.seek(0)
        loading.load_state_dict(torch.load(buffer))
        assert_same_arrays(other.get_weights(), model.get_weights())


def test_torch_hooks_on_a_penalized_layer():
    if keras.backend.backend() != "torch":
        pytest.skip("torch only")
    attached = attach_penalty(sequential(), "dense_4", l2=0.2)
    wrapper, seen = attached.get_layer("dense_4"), []
    handle = wrapper.register_forward_hook(
        lambda layer, inputs, output: seen.append((layer, output))
    )
    x, _ = data()
    attached(x)
    (layer, output), *others = seen
    assert layer is wrapper
    assert not others
    assert tuple(output.shape) == (len(x), 8)
    handle.remove()
    attached(x)
    assert len(seen) == 1


def test_torch_module_put_in_the_place_of_one_of_the_layers():
    """As torch's quantization does."""
    if keras.backend.backend() != "torch":
        pytest.skip("torch only")
    inputs = keras.Input((3, FEATURES))
    each = layers.TimeDistributed(layers.Dense(8), name="each")
    attached = attach_penalty(keras.Model(inputs, each(inputs)), "each", l2=0.2)
    wrapper = attached.get_layer("each")
    other = layers.Dense(8, bias_initializer="ones")
    other.build((None, FEATURES))
    wrapper._modules["layer"] = other
    zeros = np.zeros((2, 3, FEATURES), "float32")
    for layer in (wrapper, each):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(layer(zeros)), np.ones((2, 3, 8))
        )


def test_torch_differentiates_a_term_when_it_reaches_its_layer():
    if keras.backend.backend() != "torch":
        pytest.skip("torch only")
    seen = []

    def noted(h):
        value = ops.sum(ops.square(h))
        if value.requires_grad:  # not while it is attached
            value.register_hook(lambda gradient: seen.append("term"))
        return value

    attached = attach_penalty(sequential(), "dense_4", noted)
    x, _ = data()
    outputs = attached(x)
    outputs.register_hook(lambda gradient: seen.append("outputs"))
    (outputs.sum() + sum(attached.losses)).backward()
    assert seen == ["outputs", "term"]


# What torch itself uses, and advises against.
@pytest.mark.filterwarnings(
    "ignore:`torch.jit.* is deprecated:DeprecationWarning"
)
def test_torch_func_goes_through_a_penalized_model():
    if keras.backend.backend() != "torch":
        pytest.skip("torch only")
    import torch

    plain = sequential()
    attached = attach_penalty(plain, "dense_4", l1=0.1, l2=0.2)
    x = ops.convert_to_tensor(data()[0])

    def penalty(x):
        attached(x)
        return sum(attached.losses)

    x.requires_grad_()
    (expected,) = torch.autograd.grad(penalty(x), x)
    x = x.detach()
    torch.testing.assert_close(torch.func.grad(penalty)(x), expected)
    torch.testing.assert_close(
        torch.func.hessian(lambda x: attached(x).square().sum())(x),
        torch.func.hessian(lambda x: plain(x).square().sum())(x),
    )


def test_torch_exports_no_penalty():
    if keras.backend.backend() != "torch":
        pytest.skip("torch only")
    import torch

    calls = []

    def counted(h):
        calls.append(1)
        return ops.sum(h)

    attached = attach_penalty(sequential(), "dense_4", counted)
    x = ops.convert_to_tensor(data()[0])
    expected = attached(x)
    calls.clear()
    exported = torch.export.export(attached, (x,), strict=False).module()
    assert calls == []
    torch.testing.assert_close(exported(x), expected)
    with warnings.catch_warnings():
        # Deprecated, and it tells of each size that it takes for constant.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(attached, x)
    torch.testing.assert_close(traced(x), expected)


# torch's own look at a tensor while it compiles.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_torch_compile_of_a_penalized_layer():
    if keras.backend.backend() != "torch":
        pytest.skip("torch only")
    compiled = []

    def backend(graph, examples):
        compiled.append(graph)
        return graph.forward

    attached = attach_penalty(sequential(), "dense_4", l2=0.2)
    x, _ = data()
    plain = loss_of(attached, x)
    attached.get_layer("dense_4").compile(backend=backend)
    assert loss_of(attached, x) == pytest.approx(plain, rel=1e-6)
    assert compiled
    # Other models are none of its concern.
    compiled.clear()
    loss_of(attach_penalty(sequential(), "dense_4", l2=0.2), x)
    assert loss_of(attached, x) == pytest.approx(plain, rel=1e-6)
    assert not compiled
