"""`PenalizedLayer` used by hand, in configs, summaries and exports."""

import contextlib
import io

import keras
import numpy as np
import pytest
from gradients import unrecorded
from keras import layers, ops
from models import FEATURES, QUICK, assert_same_arrays, data

from keras_actpen import (
    PenalizedLayer,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_terms,
    watch_activations,
)

BACKEND = keras.backend.backend()


def outputs_of(model, x=None):
    with unrecorded():
        outputs = model(data()[0] if x is None else x, training=False)
        return [
            ops.convert_to_numpy(one) for one in keras.tree.flatten(outputs)
        ]


# By hand ---------------------------------------------------------------------


def penalized_dense(units=3, **kwargs):
    return PenalizedLayer(layers.Dense(units, **kwargs), penalties.L2(0.1))


def test_build_builds():
    layer = penalized_dense(name="d")
    assert not layer.built
    layer.build((None, FEATURES))
    assert layer.built
    assert layer.wrapped_layer.built
    assert [v.path for v in layer.weights] == ["d/kernel", "d/bias"]
    assert layer.count_params() == 3 * FEATURES + 3


def test_a_model_has_the_weights_at_once(tmp_path):
    inputs = keras.Input((FEATURES,))
    layer = penalized_dense()
    model = keras.Model(inputs, layer(inputs))
    assert len(model.weights) == 2
    assert layer.output is model.outputs[0]
    model.save_weights(tmp_path / "model.weights.h5")
    expected = outputs_of(model)
    model.set_weights([w + 1.0 for w in model.get_weights()])
    model.load_weights(tmp_path / "model.weights.h5")
    assert_same_arrays(outputs_of(model), expected)


def test_in_a_sequential_model():
    for model in (
        keras.Sequential([keras.Input((FEATURES,)), penalized_dense()]),
        keras.Sequential([penalized_dense(), layers.Dense(2)]),
    ):
        model.build((None, FEATURES))
        assert len(model.weights) == 2 * len(model.layers)
        assert model.output_shape == (None, 3 if len(model.layers) == 1 else 2)
        x, _ = data()
        (term,) = penalty_terms(model, x).values()
        h = ops.convert_to_numpy(model.layers[0].wrapped_layer(x))
        assert term == pytest.approx(0.1 * np.sum(h**2) / len(x), rel=1e-5)


@keras.saving.register_keras_serializable(package="test_penalized_layer")
class Block(layers.Layer):
    """Builds its layers in its own `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = penalized_dense(6, activation="relu", name="hidden")
        self.out = layers.Dense(FEATURES, name="out")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.out.build((*input_shape[:-1], 6))

    def call(self, inputs):
        return inputs + self.out(self.hidden(inputs))


def test_in_the_build_of_a_block(tmp_path):
    inputs = keras.Input((FEATURES,))
    model = keras.Model(inputs, Block(name="block")(inputs))
    assert [v.path for v in model.weights] == [
        "block/hidden/kernel",
        "block/hidden/bias",
        "block/out/kernel",
        "block/out/bias",
    ]
    x, y = data(targets=FEATURES)
    model.compile("sgd", "mse", **QUICK)
    h = ops.convert_to_numpy(model.layers[1].hidden.wrapped_layer(x))
    task = np.mean((outputs_of(model)[0] - y) ** 2)
    expected = task + 0.1 * np.sum(h**2) / len(x)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_arrays(outputs_of(loaded), outputs_of(model))
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Attaching(keras.Model):
    """Attaches in its own `__init__`, and has a config of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.net = attach_penalty(small(), "target", l2=0.2)

    def call(self, inputs):
        return self.net(inputs)


def test_a_class_that_attaches_saves_without_a_warning(tmp_path):
    model = Attaching()
    x, _ = data()
    model(x)
    model.save(tmp_path / "model.keras")  # warnings are errors
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_arrays(outputs_of(loaded), outputs_of(model))
    assert penalty_terms(loaded, x) == pytest.approx(penalty_terms(model, x))
    attach_penalty(model, "small/head", l1=0.1)
    with pytest.warns(UserWarning, match="layer 'head' are not saved"):
        model.save(tmp_path / "model.keras")


def test_in_wrappers_of_keras():
    inputs = keras.Input((5, FEATURES))
    inner = penalized_dense(3)
    model = keras.Model(inputs, layers.TimeDistributed(inner)(inputs))
    x = np.random.default_rng(0).normal(size=(2, 5, FEATURES))
    x = x.astype("float32")
    model.compile("sgd", "mse", **QUICK)
    y = outputs_of(model, x)[0]
    # One call a time step, each divided by the batch.
    expected = 0.1 * np.sum(y**2) / len(x)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_stateless_call():
    layer = penalized_dense()
    layer.build((None, FEATURES))
    x, _ = data()
    outputs, state, losses = layer.stateless_call(
        [v.value for v in layer.trainable_variables],
        [v.value for v in layer.non_trainable_variables],
        ops.convert_to_tensor(x),
        return_losses=True,
    )
    h = ops.convert_to_numpy(outputs)
    assert len(state) == 1
    assert [float(ops.convert_to_numpy(one)) for one in losses] == [
        pytest.approx(0.1 * np.sum(h**2) / len(x), rel=1e-5)
    ]


def test_twins_of_layers_that_add_losses_in_bare_calls():
    """What `call` adds is the twin's, and the plain layer keeps nothing."""

    class Adds(layers.Layer):
        def call(self, inputs):
            self.add_loss(ops.sum(inputs))
            return inputs * 2.0

    plain = Adds()
    layer = PenalizedLayer(plain, penalties.L2(0.5))
    layer.build((None, 2))
    x = ops.ones((1, 2))
    for call in (layer, layer.call):
        layer._clear_losses()
        call(x)
        found = [float(ops.convert_to_numpy(one)) for one in layer.losses]
        assert found == [2.0, 4.0]
        assert plain.losses == []
    *_, losses = layer.stateless_call(
        [], [v.value for v in layer.variables], x, return_losses=True
    )
    assert [float(ops.convert_to_numpy(one)) for one in losses] == [2.0, 4.0]


# Configs ---------------------------------------------------------------------


def small():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(6, activation="relu", name="target")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="small")


def test_clone_function_that_edits_configs():
    attached = attach_penalty(small(), "target", l2=0.1)
    penalized_layers(attached)["target"].coefficients["l2"] = 0.3

    def edited(layer):
        config = layer.get_config()
        config["name"] += "_copy"
        if isinstance(layer, layers.Dense):
            config["activation"] = "tanh"
        return layer.__class__.from_config(config)

    clone = keras.models.clone_model(attached, clone_function=edited)
    names = ["target_copy", "head_copy"]
    assert [layer.name for layer in clone.layers[1:]] == names
    assert list(penalized_layers(clone)) == ["target_copy"]
    layer = clone.get_layer("target_copy")
    assert layer.activation is keras.activations.tanh
    assert dict(layer.coefficients) == {"l2": 0.3}
    clone.set_weights(attached.get_weights())
    x, _ = data()
    h = np.tanh(x @ attached.get_weights()[0] + attached.get_weights()[1])
    assert penalty_terms(clone, x)["target_copy/l2"] == pytest.approx(
        0.3 * np.sum(h**2) / len(x), rel=1e-5
    )


def test_clone_function_that_reuses_layers():
    """As feature extractors and callbacks are written that ask for classes."""
    attached = attach_penalty(small(), "target", l2=0.1)
    seen = []

    def reused(layer):
        if isinstance(layer, layers.Dense):
            seen.append(layer.name)
        return layer

    clone = keras.models.clone_model(attached, clone_function=reused)
    assert seen == ["target", "head"]
    assert_same_arrays(outputs_of(clone), outputs_of(attached))
    assert list(penalized_layers(clone)) == ["target"]


def test_config_has_that_of_the_layer():
    plain = small()
    layer = attach_penalty(plain, "target", l2=0.1).get_layer("target")
    config = layer.get_config()
    terms = config.pop("actpen")
    config["dtype"] = config["dtype"]["config"]["name"]
    expected = plain.get_layer("target").get_config()
    expected["dtype"] = expected["dtype"]["config"]["name"]
    assert config == expected
    assert terms["terms"]["l2"]["coefficient"] == 0.1


def shared_with_a_wrapper():
    first, second = keras.Input((FEATURES,)), keras.Input((3, FEATURES))
    shared = layers.Dense(2, name="shared")
    return keras.Model(
        [first, second], [shared(first), layers.TimeDistributed(shared)(second)]
    )


def test_shared_weights_stay_tied_through_a_file(tmp_path):
    plain = shared_with_a_wrapper()
    attached = attach_penalty(plain, "shared", l2=0.1)
    assert len(attached.weights) == len(plain.weights) == 2
    attached.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == 2
    inner = loaded.get_layer("time_distributed").layer
    assert inner is loaded.get_layer("shared").wrapped_layer
    x = [
        np.ones((2, FEATURES), "float32"),
        np.ones((2, 3, FEATURES), "float32"),
    ]
    assert_same_arrays(outputs_of(loaded, x), outputs_of(plain, x))
    detached = detach_penalty(loaded)
    assert len(detached.weights) == 2
    detached.save(tmp_path / "plain.keras")
    loaded = keras.models.load_model(tmp_path / "plain.keras")
    assert len(loaded.weights) == 2
    assert_same_arrays(outputs_of(loaded, x), outputs_of(plain, x))


# Summaries and exports -------------------------------------------------------


def summary_of(model):
    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        model.summary(print_fn=lambda line, **_: lines.write(line))
    return lines.getvalue()


def test_summary_shows_output_shapes():
    plain = small()
    attached = attach_penalty(plain, "target", l2=0.1)
    assert "(None, 6)" in summary_of(attached)
    # One line more, and nothing else.
    lines = summary_of(attached).splitlines()
    (note,) = (line for line in lines if "penalty: l2" in line)
    lines.remove(note)
    assert lines == summary_of(plain).splitlines()
    assert attached.count_params() == plain.count_params()
    watched = watch_activations(attach_penalty(plain, "target", "l1"), "*")
    assert "watched" in summary_of(watched)
    watched = attach_penalty(watched, "target", l2=0.1)
    assert "penalties:" in summary_of(watched)
    target = repr(watched.get_layer("target"))
    assert target == (
        f"{repr(plain.get_layer('target'))[:-1]}, penalties: l1, l2>"
    )
    by_hand = keras.Sequential([keras.Input((4,)), penalized_dense(6)])
    assert "(None, 6)" in summary_of(by_hand)


@pytest.mark.skipif(BACKEND != "torch", reason="a format of torch")
def test_torch_export_holds_no_variable_of_ours(tmp_path):
    """The only format that Keras (3.15) writes on torch by itself."""
    import torch

    plain = small()
    attached = attach_penalty(plain, "target", l2=0.1)
    attached.export(tmp_path / "model.pt2", format="torch", verbose=False)
    loaded = torch.export.load(tmp_path / "model.pt2")
    assert {*loaded.state_dict} == {*plain.state_dict()}
    assert len(loaded.constants) == len(plain.weights)
    x = data()[0][:1]
    with unrecorded():
        outputs = loaded.module()(torch.as_tensor(x))
    assert_same_arrays([outputs.numpy()], outputs_of(plain, x))
    # Nor does what torch saves.
    assert [*attached.state_dict()] == [*plain.state_dict()]


@pytest.mark.skipif(
    BACKEND == "torch", reason="Keras (3.15) exports no SavedModel from torch"
)
@pytest.mark.filterwarnings("ignore:The `native_serialization` parameter")
def test_export_holds_no_variable_of_ours(tmp_path):
    tf = pytest.importorskip("tensorflow")
    plain = small()
    attached = attach_penalty(plain, "target", l2=0.1)
    with contextlib.redirect_stdout(io.StringIO()):
        attached.export(tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    shapes = [tuple(v.shape) for v in loaded.variables]
    assert shapes == [tuple(v.shape) for v in plain.weights]
    names = [
        name
        for name, _ in tf.train.list_variables(
            str(tmp_path / "model/variables/variables")
        )
    ]
    assert not any("penalty" in name for name in names)
    x, _ = data()
    np.testing.assert_allclose(
        loaded.serve(x), outputs_of(plain)[0], rtol=1e-5, atol=1e-6
    )
    # The archive and the model know no state of the export afterwards.
    assert len(attached.variables) == 5
    archive = keras.export.ExportArchive()
    archive.track(attached)
    assert len(attached.variables) == 5
