"""Bad input: the whole message, and a model that is left as it was."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import (
    FEATURES,
    assert_same_arrays,
    data,
    functional,
    nested,
    outputs_of,
    sequential,
    subclassed,
)

from keras_actpen import (
    PenalizedLayer,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_report,
    penalty_summary,
    penalty_terms,
    watch_activations,
)

BACKEND = keras.backend.backend()


def state_of(model, x):
    """Everything that a half-finished change would show in."""
    outputs = outputs_of(model, x)
    return {
        "arrays": [*outputs, *model.get_weights()],
        "config": model.to_json(),
        "layers": [id(layer) for layer in model.layers],
        "variables": [id(variable) for variable in model.variables],
        "losses": [float(ops.convert_to_numpy(one)) for one in model.losses],
        "penalties": {
            path: dict(layer.coefficients)
            for path, layer in penalized_layers(model).items()
        },
    }


def assert_refused(error, message, model, *args, **kwargs):
    """Attach, see the whole message, and find the model unchanged."""
    x, _ = data()
    before = state_of(model, x)
    with pytest.raises(error) as caught:
        attach_penalty(model, *args, **kwargs)
    assert str(caught.value) == message
    after = state_of(model, x)
    assert_same_arrays(after.pop("arrays"), before.pop("arrays"))
    assert after == before


FUNCTIONS = [
    lambda model: attach_penalty(model, "dense_4", l2=0.1),
    lambda model: watch_activations(model, "dense_4"),
    detach_penalty,
    penalty_summary,
    lambda model: penalty_terms(model, np.zeros((1, 4))),
    lambda model: penalty_report(model, np.zeros((1, 4))),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_not_a_keras_model(function):
    with pytest.raises(TypeError) as caught:
        function("model.keras")
    assert str(caught.value) == (
        "Invalid type received for argument `model`. Expected a built "
        "keras.Model. Received: model='model.keras' (of type str)"
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_unbuilt_model(function):
    model = keras.Sequential([layers.Dense(2, name="dense_4")], name="later")
    with pytest.raises(ValueError) as caught:
        function(model)
    assert str(caught.value) == (
        "Invalid value received for argument `model`. Expected a built "
        "model; call `model.build(input_shape)` or the model on data first. "
        "Received: the unbuilt model 'later'"
    )
    assert not model.built


def test_unknown_name():
    assert_refused(
        ValueError,
        "Invalid value received for argument `layers`. Expected one or more "
        "layers of model 'functional_model'. Received: layers='dense_5', "
        "which matches none. Did you mean 'dense_4'? The paths of its layers "
        "are: 'first', 'norm', 'dense_4', 'skip', 'add', 'head'.",
        functional(),
        "dense_5",
        l2=0.1,
    )


def test_unknown_name_beside_a_known_one():
    assert_refused(
        ValueError,
        "Invalid value received for argument `layers`. Expected one or more "
        "layers of model 'sequential_model'. Received: layers[1]='zzz', "
        "which matches none. The paths of its layers are: 'dense_4', 'drop', "
        "'head'.",
        sequential(),
        ["dense_4", "zzz"],
        l2=0.1,
    )


def test_ambiguous_name():
    inner = nested()
    inputs = keras.Input((FEATURES,))
    one = keras.Model(
        inputs, layers.Dense(2, name="code")(inputs), name="other"
    )
    model = keras.Model(inputs, layers.Add()([inner(inputs), one(inputs)]))
    assert_refused(
        ValueError,
        "Invalid value received for argument `layers`. Expected a name that "
        "one layer has. Received: layers='code', which 2 layers have: "
        "'nested_model/encoder/code', 'other/code'. Write one of these "
        "paths, or a list of several; layers='*/code' is all of them.",
        model,
        "code",
        l2=0.1,
    )


def test_input_layer():
    assert_refused(
        ValueError,
        "Invalid value received for argument `layers`. Expected a layer that "
        "computes something; inputs cannot be penalized. Received: "
        "layers='features', an input layer. Write the first layer after it: "
        "'first'.",
        functional(),
        "features",
        l2=0.1,
    )


NOTHING = (
    "Invalid value received for argument `penalty`. Expected a penalty, for "
    "example l2=0.01 or penalty='l1'; to log activations without a penalty "
    "use `watch_activations`. Received: "
)


@pytest.mark.parametrize(
    ("layers", "received", "arguments"),
    [
        ("dense_4", "no penalty", {}),
        ("dense_4", "no penalty", {"penalty": []}),
        ({"dense_4": None}, "no penalty", {}),
        ({}, "layers={}", {}),
    ],
)
def test_nothing_to_penalize(layers, received, arguments):
    assert_refused(
        ValueError, NOTHING + received, sequential(), layers, **arguments
    )


@pytest.mark.parametrize("argument", ["l1", "l2"])
@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf")])
def test_coefficient_out_of_range(argument, value):
    assert_refused(
        ValueError,
        f"Invalid value received for argument `{argument}`. Expected a "
        f"finite number >= 0, for example {argument}=0.01. Received: "
        f"{argument}={value}",
        sequential(),
        "dense_4",
        **{argument: value},
    )


@pytest.mark.parametrize(
    ("value", "kind"), [("0.1", "str"), (True, "bool"), ([0.1], "list")]
)
def test_coefficient_of_the_wrong_type(value, kind):
    assert_refused(
        TypeError,
        "Invalid type received for argument `l2`. Expected a finite number "
        f">= 0, for example l2=0.01. Received: l2={value!r} (of type {kind})",
        sequential(),
        "dense_4",
        l2=value,
    )


def test_coefficient_set_later():
    model = attach_penalty(sequential(), "dense_4", l2=0.1)
    coefficients = penalized_layers(model)["dense_4"].coefficients
    with pytest.raises(ValueError) as caught:
        coefficients["l2"] = -1.0
    assert str(caught.value) == (
        "Invalid value received for argument `coefficient`. Expected a "
        "finite number >= 0, for example coefficient=0.01. Received: "
        "coefficient=-1.0"
    )
    with pytest.raises(KeyError) as caught:
        coefficients["l1"] = 1.0
    assert caught.value.args[0] == (
        "No term is called 'l1'. Existing terms: ['l2']. Terms are added "
        "with `attach_penalty`."
    )
    with pytest.raises(TypeError) as caught:
        del coefficients["l2"]
    assert str(caught.value) == (
        "Cannot delete the coefficient 'l2'. Set it to 0, or remove the "
        "layer's penalties with `detach_penalty`."
    )
    assert dict(coefficients) == {"l2": 0.1}
    x, _ = data()
    value = penalty_terms(model, x)["dense_4/l2"]
    coefficients["l2"] = 0.0
    assert (value > 0, penalty_terms(model, x)["dense_4/l2"]) == (True, 0.0)


TAKEN = (
    "Invalid value received for argument `name`. Expected a name that no "
    "other term of layer 'dense_4' has: pass name='l2_2' to add a second "
    "term, set `penalized_layers(model)['dense_4'].coefficients['l2']` to "
    "change its coefficient, or call `detach_penalty(model, 'dense_4')` "
    "first to replace it. Received: a second term called 'l2'"
)


def test_name_taken():
    model = attach_penalty(sequential(), "dense_4", l2=0.1)
    assert_refused(ValueError, TAKEN, model, ["head", "dense_4"], l2=0.3)
    assert_refused(ValueError, TAKEN, sequential(), "dense_4", ["l2"], l2=0.3)
    assert_refused(
        ValueError,
        TAKEN,
        sequential(),
        {"dense_4": "l2", layers.Dense: penalties.L2(0.1)},
    )


def test_one_name_for_several_terms():
    assert_refused(
        ValueError,
        "Invalid value received for argument `name`. Expected a name only "
        "where one term is added; give each penalty its own, for example "
        "L2(0.01, name='energy'). Received: name='mine' for ['l1', 'l2']",
        sequential(),
        "dense_4",
        l1=0.1,
        l2=0.1,
        name="mine",
    )


def test_invalid_name():
    assert_refused(
        ValueError,
        "Invalid value received for argument `name`. Expected a non-empty "
        "string without '/', for example name='sparsity'. Received: "
        "name='a/b'",
        sequential(),
        "dense_4",
        l1=0.1,
        name="a/b",
    )


def test_name_of_a_term_does_not_change_the_penalty_passed_in():
    penalty = penalties.L2(0.1)
    model = attach_penalty(sequential(), "dense_4", penalty, name="energy")
    assert list(model.get_layer("dense_4").terms) == ["energy"]
    assert penalty.name == "l2"


def test_mapping_beside_a_penalty():
    assert_refused(
        ValueError,
        "Invalid value received for argument `penalty`. Expected `penalty`, "
        "`l1` and `l2` to be unset when `layers` is a mapping from layers to "
        "penalties. Received: penalty=None, l1=None, l2=0.1",
        sequential(),
        {"dense_4": "l2"},
        l2=0.1,
    )


def test_output_that_is_not_float():
    inputs = keras.Input((FEATURES,))
    x = layers.Discretization(bin_boundaries=[0.0, 1.0], name="bins")(inputs)
    x = layers.Embedding(3, 2, name="embed")(x)
    model = keras.Model(inputs, x, name="with_bins")
    assert_refused(
        ValueError,
        "Invalid value received for argument `layers`. Expected a layer with "
        "a float output; target the layer behind it. Received: layer 'bins' "
        "(of type Discretization), whose output has dtype int32",
        model,
        "bins",
        l2=0.1,
    )


def not_dense(layer, kind):
    return (
        "Invalid value received for argument `layers`. Expected a layer with "
        "a dense output; target the Dense or other layer behind it. Received: "
        f"layer 'target' (of type {layer}), whose output is a {kind} tensor"
    )


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no sparse ones there")
def test_sparse_output_that_the_graph_tells_of():
    inputs = keras.Input((FEATURES,), sparse=True)
    x = layers.Identity(name="target")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert_refused(
        ValueError, not_dense("Identity", "sparse"), model, "target", l2=0.1
    )


class Sparse(layers.Layer):
    """Puts out a sparse tensor, of which its graph does not tell."""

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, x):
        if BACKEND == "torch":
            return x.to_sparse()
        if BACKEND == "jax":
            from jax.experimental import sparse

            return sparse.BCOO.fromdense(x)
        import tensorflow as tf

        return tf.sparse.from_dense(x)


class Ragged(layers.Layer):
    """Puts out a ragged tensor."""

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, x):
        if BACKEND == "torch":
            import torch

            rows = [x[0], x[1][:2]]
            return torch.nested.nested_tensor(rows, layout=torch.jagged)
        import tensorflow as tf

        return tf.RaggedTensor.from_tensor(x, lengths=[FEATURES, 2])


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (Sparse, "sparse"),
        pytest.param(
            Ragged,
            "ragged",
            marks=pytest.mark.skipif(
                BACKEND == "jax", reason="JAX has no ragged tensors"
            ),
        ),
    ],
)
@pytest.mark.parametrize("output", [0, "all"])
def test_tensor_that_is_not_dense_in_a_call(layer, kind, output):
    penalized = PenalizedLayer(layer(name="target"), "l2", output=output)
    with pytest.raises(ValueError) as caught:
        penalized(data()[0][:2])
    assert str(caught.value) == not_dense(layer.__name__, kind)
    # A pass without a penalty is left to itself.
    penalized.wrapped_layer(data()[0][:2])


@pytest.mark.parametrize("build", [sequential, functional, subclassed])
def test_function_that_returns_no_scalar(build):
    model = build()
    before = state_of(model, data()[0])
    with pytest.raises(ValueError) as caught:
        attach_penalty(model, "dense_4", ops.square)
    message, _, shape = str(caught.value).rpartition(" shape ")
    assert message == (
        "Invalid value received for argument `penalty`. Expected a function "
        "that returns a scalar, for example `lambda h: keras.ops.sum(h ** 4)`"
        ". Received: square returned a tensor of"
    )
    # Backends write an unknown batch size in their own ways.
    assert re.fullmatch(r"\(\w+, 8\)", shape)
    after = state_of(model, data()[0])
    assert_same_arrays(after.pop("arrays"), before.pop("arrays"))
    assert after == before


def no_preactivation(name, kind):
    return (
        "Invalid value received for argument `on`. Expected on='output' for "
        f"layer '{name}' (of type {kind}), which has no `activation` that it "
        "applies once, to its whole output, as Dense does; if it is itself an "
        "activation, such as ReLU, target the layer in front of it. Received: "
        "on='preactivation'"
    )


def test_preactivation_of_a_layer_without_one():
    assert_refused(
        ValueError,
        no_preactivation("norm", "BatchNormalization"),
        functional(),
        ["dense_4", "norm"],
        l2=0.1,
        on="preactivation",
    )


def test_preactivation_of_a_layer_that_applies_it_more_than_once():
    inputs = keras.Input((3, FEATURES))
    model = keras.Model(inputs, layers.LSTM(2, name="lstm")(inputs))
    with pytest.raises(ValueError) as caught:
        attach_penalty(model, "lstm", l2=0.1, on="preactivation")
    assert str(caught.value) == no_preactivation("lstm", "LSTM")
    assert model.get_layer("lstm").activation is keras.activations.tanh


def test_preactivation_in_a_subclassed_model():
    class Flat(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense_4 = layers.Dense(3, name="dense_4")
            self.flat = layers.Flatten(name="flat")

        def call(self, inputs):
            return self.flat(self.dense_4(inputs))

        def get_config(self):
            return {}

    model = Flat()
    model(np.zeros((2, FEATURES), "float32"))
    assert_refused(
        ValueError,
        no_preactivation("flat", "Flatten"),
        model,
        ["dense_4", "flat"],
        l2=0.1,
        on="preactivation",
    )


def test_unknown_place():
    assert_refused(
        ValueError,
        "Invalid value received for argument `on`. Expected one of 'output', "
        "'preactivation', 'input' or the name of a weight, here ['kernel', "
        "'bias']. Received: on='outputs' for layer 'dense_4' (of type Dense), "
        "a name that none of its weights has",
        sequential(),
        "dense_4",
        l2=0.1,
        on="outputs",
    )


@pytest.mark.parametrize("output", [1, "scores", -1])
def test_unknown_output(output):
    assert_refused(
        ValueError,
        "Invalid value received for argument `output`. Expected 0, or 'all' "
        f"for layer 'dense_4' (of type Dense). Received: output={output!r}",
        sequential(),
        "dense_4",
        l2=0.1,
        output=output,
    )


def test_output_of_the_wrong_type():
    assert_refused(
        TypeError,
        "Invalid type received for argument `output`. Expected the index or "
        "the key of one output, or 'all'. Received: output=0.5 (of type "
        "float)",
        sequential(),
        "dense_4",
        l2=0.1,
        output=0.5,
    )


def test_penalty_that_does_not_suit_the_layer():
    assert_refused(
        ValueError,
        "Invalid value received for argument `layers`. Expected for "
        "TemporalActivationRegularization a layer whose output has the axes "
        "(batch, time, ..., units). Received: an output of shape (None, 8) "
        "(layer 'dense_4'). No layer of model 'sequential_model' suits.",
        sequential(),
        "dense_4",
        penalties.TemporalActivationRegularization(0.1),
    )


def test_penalty_that_does_not_suit_the_layer_names_those_that_do():
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            keras.layers.LSTM(2, return_sequences=True, name="steps"),
            keras.layers.LSTM(2, name="last"),
        ],
        name="recurrent",
    )
    with pytest.raises(ValueError) as caught:
        attach_penalty(model, "last", "temporal_activation_regularization")
    assert str(caught.value).endswith(
        "Received: an output of shape (None, 2) (layer 'last'). Layers of "
        "model 'recurrent' that suit: 'steps'."
    )


def test_penalty_of_logits_on_a_softmax_layer():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(3, name="scores"),
            layers.Dense(2, activation="softmax", name="classes"),
        ],
        name="classifier",
    )
    assert_refused(
        ValueError,
        "Invalid value received for argument `layers`. Expected for ZLoss "
        "logits, a layer with a linear activation. Received: an output after "
        "activation='softmax'. Write on='preactivation' for what this "
        "activation receives (layer 'classes'). Layers of model 'classifier' "
        "that suit: 'scores'.",
        model,
        "classes",
        penalties.ZLoss(),
    )


def test_penalty_of_the_wrong_type():
    assert_refused(
        TypeError,
        "Invalid type received for argument `penalty`. Expected a Penalty, "
        "its name, a keras Regularizer or a function f(activations) -> "
        "scalar. Received: penalty=0.01 (of type float). Write l2=0.01, or "
        "penalty=L2(0.01).",
        sequential(),
        "dense_4",
        0.01,
    )
    assert_refused(
        TypeError,
        "Invalid type received for argument `penalty`. Expected a Penalty, "
        "its name, a keras Regularizer or a function f(activations) -> "
        "scalar. Received: penalty=True (of type bool)",
        sequential(),
        "dense_4",
        True,
    )


@pytest.mark.parametrize(
    "penalty",
    ["l1_l2", "l1l2", "L1L2", penalties.L1L2, keras.regularizers.L1L2],
)
def test_penalty_that_is_always_0(penalty):
    expected = (
        "Invalid value received for argument `penalty`. Expected a penalty "
        f"that is not always 0. Received: penalty={penalty!r}, whose factors "
        "l1 and l2 are 0 unless they are given. Write penalty=L1L2(l1=0.01, "
        "l2=0.01)"
    )
    assert_refused(ValueError, expected, sequential(), "dense_4", penalty)
    with pytest.raises(ValueError) as caught:
        PenalizedLayer(layers.Dense(2), penalty)
    assert str(caught.value) == expected
    given = penalties.L1L2(l1=0.0, l2=0.0)  # one end of a sweep
    model = attach_penalty(sequential(), "dense_4", given)
    assert "l1_l2" in model.get_layer("dense_4").coefficients


def test_detach_without_penalties():
    with pytest.raises(ValueError) as caught:
        detach_penalty(sequential())
    assert str(caught.value) == (
        "Invalid value received for argument `layers`. Expected penalized or "
        "watched layers, which in model 'sequential_model' are []. Received: "
        "a model without any"
    )


def test_detach_a_plain_layer():
    model = attach_penalty(sequential(), "dense_4", l2=0.1)
    with pytest.raises(ValueError) as caught:
        detach_penalty(model, ["dense_4", "head"])
    assert str(caught.value) == (
        "Invalid value received for argument `layers`. Expected penalized or "
        "watched layers, which in model 'sequential_model' are ['dense_4']. "
        "Received: layers=['dense_4', 'head'], with the plain layers ['head']"
    )
    assert list(penalized_layers(model)) == ["dense_4"]


def test_terms_of_a_model_without_penalties():
    with pytest.raises(ValueError) as caught:
        penalty_terms(watch_activations(sequential(), "dense_4"), data()[0])
    assert str(caught.value) == (
        "Invalid value received for argument `model`. Expected a model with "
        "penalized layers: call `attach_penalty(model, ...)` first and use "
        "the model that it returns. Received: 'sequential_model'"
    )


def test_copy_of_a_model_that_cannot_be_copied():
    inputs = keras.Input((2,))

    class Stubborn(layers.Layer):
        def __init__(self, needed, **kwargs):
            super().__init__(**kwargs)
            self.lock = needed

        def call(self, inputs):
            return inputs

        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    model = keras.Model(inputs, Stubborn(1, name="dense_4")(inputs))
    with pytest.raises(
        ValueError,
        match="^Invalid value received for argument `share_weights`. Expected "
        "share_weights=True, because a copy is made by saving and loading the "
        r"model, which fails here. Received: share_weights=False \(",
    ):
        attach_penalty(model, "dense_4", l2=0.1, share_weights=False)


def test_wrapper_of_no_layer():
    with pytest.raises(TypeError) as caught:
        PenalizedLayer("dense", "l2")
    assert str(caught.value) == (
        "Invalid type received for argument `layer`. Expected a "
        "keras.layers.Layer. Received: layer='dense' (of type str)"
    )


def test_sequential_model_without_a_graph():
    model = keras.Sequential([layers.Add(name="add"), layers.Dense(2)])
    model([np.ones((1, 2), "float32")] * 2)
    assert model.built
    for call in (
        lambda: attach_penalty(model, "add", l2=0.1),
        lambda: watch_activations(model, "add"),
        lambda: detach_penalty(model),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == (
            "Invalid value received for argument `model`. Expected a "
            "Sequential model with one input tensor, on which Keras builds a "
            "graph; write it as `keras.Model(inputs, outputs)` instead. "
            f"Received: the Sequential model {model.name!r} without a graph"
        )


def test_wrapper_in_a_wrapper():
    layer = PenalizedLayer(layers.Dense(2, name="dense_4"), "l2")
    with pytest.raises(ValueError) as caught:
        PenalizedLayer(layer, "l1")
    assert str(caught.value) == (
        "Invalid value received for argument `layer`. Expected a layer "
        "without penalties; use `attach_penalty(model, 'dense_4', ...)` to "
        "add penalties to a penalized layer. Received: "
        "layer=<Dense name=dense_4, built=False>"
    )


def test_two_terms_of_one_name_in_a_wrapper():
    with pytest.raises(ValueError) as caught:
        PenalizedLayer(layers.Dense(2, name="dense_4"), ["l2", "l2"])
    assert str(caught.value) == (
        "Invalid value received for argument `penalties`. Expected terms "
        "with different names; give one of them another, for example "
        "name='l2_2'. Received: two terms called 'l2' on layer 'dense_4'"
    )
