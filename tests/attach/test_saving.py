"""Files and copies keep the penalties, and weight files know none."""

import copy
import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import layers
from models import (
    FEATURES,
    MODELS,
    QUICK,
    assert_same_arrays,
    data,
    data_for,
    functional,
    nested,
    outputs_of,
    sequential,
)

from keras_actpen import (
    PenalizedLayer,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_terms,
    watch_activations,
)

weight_files = pytest.mark.parametrize("kind", [*MODELS, "attention"])


def run(script, *arguments, **environment):
    """Run a script in a fresh process on the same backend."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def attention():
    """Layers with sub-layers of their own: attention and recurrence."""
    inputs = keras.Input((3, FEATURES))
    x = layers.MultiHeadAttention(2, 2, name="dense_4")(inputs, inputs)
    x = layers.Bidirectional(layers.GRU(2), name="both_ways")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="attend")


def build(kind):
    return attention() if kind == "attention" else MODELS[kind]()


def batch_for(model):
    if model.name == "attend":
        return np.ones((2, 3, FEATURES), "float32")
    return data_for(model)[0]


def attach_some(model):
    model = attach_penalty(model, "dense_4", l1=0.1, l2=0.2)
    if model.name == "attend":
        model = attach_penalty(model, "both_ways", l2=0.3)
    return model


def penalties_of(model):
    """Path -> name, on, output, coefficient and description of each term."""
    return {
        path: [
            [
                name,
                term.spec.on,
                term.spec.output,
                layer.coefficients[name],
                json.loads(json.dumps(penalties.serialize(term.penalty))),
            ]
            for name, term in layer.terms.items()
        ]
        for path, layer in penalized_layers(model).items()
    }


# Weight files ----------------------------------------------------------------


@weight_files
@pytest.mark.parametrize("writer", ["plain", "attached"])
def test_weight_files_both_ways(kind, writer, tmp_path):
    path = tmp_path / "of.weights.h5"
    source, target = build(kind), build(kind)
    source.set_weights([value + 0.5 for value in source.get_weights()])
    if writer == "attached":
        source = attach_some(source)
    else:
        target = attach_some(target)
    assert not np.allclose(target.get_weights()[0], source.get_weights()[0])
    source.save_weights(path)
    target.load_weights(path)
    assert_same_arrays(target.get_weights(), source.get_weights())


@weight_files
def test_weight_files_are_the_same_inside(kind, tmp_path):
    h5py = pytest.importorskip("h5py")

    def content(model, name):
        model.save_weights(tmp_path / name)
        found = {}
        with h5py.File(tmp_path / name) as file:
            file.visititems(
                lambda path, item: found.update(
                    {path: item[()] if isinstance(item, h5py.Dataset) else ""}
                )
            )
        return found

    model = build(kind)
    plain = content(model, "plain.weights.h5")
    attached = content(attach_some(model), "attached.weights.h5")
    assert list(attached) == list(plain)
    for path, value in plain.items():
        np.testing.assert_array_equal(attached[path], value)


def test_checkpoints_of_a_training(tmp_path):
    path = tmp_path / "checkpoint.weights.h5"
    x, y = data()
    model = attach_penalty(nested(), ["dense_4", "unfold"], l2=0.1)
    model.compile("sgd", "mse", **QUICK)
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model.fit(x, y, batch_size=5, verbose=0, callbacks=[checkpoint])
    plain = nested()
    plain.load_weights(path)
    assert_same_arrays(plain.get_weights(), model.get_weights())


# Whole models ----------------------------------------------------------------


def rich_model():
    """Terms of every sort: places, outputs, names, coefficients set later."""
    model = attach_penalty(
        nested(), "encoder/dense_4", l2=0.25, on="preactivation"
    )
    model = attach_penalty(model, "encoder/dense_4", l1=0.5, name="sparse")
    model = attach_penalty(
        model, "decoder", penalties.L2(0.125, reduction="mean"), output="all"
    )
    model = attach_penalty(model, "unfold", keras.regularizers.L2(0.5))
    model = watch_activations(model, "code")
    penalized_layers(model)["encoder/dense_4"].coefficients["sparse"] = 0.75
    return model


EXPECTED = [
    ("encoder/dense_4", "l2", "preactivation", 0, 0.25),
    ("encoder/dense_4", "sparse", "output", 0, 0.75),
    ("decoder", "l2", "output", "all", 0.125),
    ("decoder/unfold", "l2", "output", 0, 1.0),
]


def assert_kept(found, model):
    """`found` has the penalties of `rich_model` and computes the same."""
    x, _ = data()
    terms = penalties_of(found)
    assert terms == penalties_of(model)
    assert [
        (path, *term[:4]) for path, ones in terms.items() for term in ones
    ] == EXPECTED
    assert terms["encoder/code"] == []
    assert_same_arrays(outputs_of(found, x), outputs_of(model, x))
    assert penalty_terms(found, x) == penalty_terms(model, x)
    # Its coefficients are its own.
    found.get_layer("decoder").coefficients["l2"] = 9.0
    assert model.get_layer("decoder").coefficients["l2"] == 0.125


def test_keras_file(tmp_path):
    model = rich_model()
    model.save(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras")
    assert_kept(found, model)
    assert type(found.get_layer("encoder").get_layer("dense_4")).__name__ == (
        "Dense"
    )


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_h5_file(tmp_path):
    model = rich_model()
    model.save(tmp_path / "model.h5")
    found = keras.models.load_model(tmp_path / "model.h5", compile=False)
    assert_kept(found, model)


def test_deepcopy():
    model = rich_model()
    found = copy.deepcopy(model)
    assert not {id(v) for v in found.variables} & {
        id(v) for v in model.variables
    }
    assert_kept(found, model)


def test_clone_model():
    model = rich_model()
    found = keras.models.clone_model(model)
    assert not {id(v) for v in found.variables} & {
        id(v) for v in model.variables
    }
    found.set_weights(model.get_weights())
    assert_kept(found, model)


def test_json():
    model = rich_model()
    text = model.to_json()
    found = keras.models.model_from_json(text)
    found.set_weights(model.get_weights())
    assert found.to_json() == text
    assert_kept(found, model)


def test_compiled_model_comes_back_in_mid_training(tmp_path):
    x, y = data()
    model = attach_penalty(functional(), "dense_4", l2=0.1)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], **QUICK)
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras")
    assert int(found.optimizer.iterations) == 1
    model.reset_metrics()  # Keras 3.14 does not
    assert found.train_on_batch(x, y) == model.train_on_batch(x, y)
    assert_same_arrays(found.get_weights(), model.get_weights())


def test_variable_paths_of_a_reloaded_model():
    # Reloading shortens the paths in Keras's own Sequential models.
    plain = keras.models.model_from_json(nested().to_json())
    found = keras.models.model_from_json(rich_model().to_json())
    assert [v.path for v in found.weights] == [v.path for v in plain.weights]


def test_classes_do_not_take_each_others_place():
    """All wrappers share one registered name."""
    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 2, name="conv")(inputs)
    x = layers.Dense(3, name="dense")(layers.Flatten()(x))
    model = attach_penalty(keras.Model(inputs, x), ["conv", "dense"], l2=0.1)
    # The class that was made last is that of neither.
    PenalizedLayer(layers.GRU(2), "l2")
    found = keras.models.model_from_json(model.to_json())
    for name, cls in (("conv", layers.Conv2D), ("dense", layers.Dense)):
        layer = found.get_layer(name)
        assert isinstance(layer.wrapped_layer, cls)
        assert type(layer).__name__ == cls.__name__
        assert isinstance(layer, PenalizedLayer)


@pytest.mark.parametrize("kind", MODELS)
def test_detached_model_saves_as_the_plain_one(kind, tmp_path):
    model = MODELS[kind]()
    plain = model.get_config()
    detached = detach_penalty(attach_some(model))
    assert detached.get_config() == plain
    detached.save(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras")
    assert penalized_layers(found) == {}
    assert_same_arrays(found.get_weights(), model.get_weights())
    x = batch_for(model)
    assert_same_arrays(outputs_of(found, x), outputs_of(model, x))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_fresh_process(tmp_path):
    model = rich_model()
    x, _ = data()
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    np.save(tmp_path / "x.npy", x)
    printed = run(
        """
        import json, sys
        import keras
        import keras_actpen
        import numpy as np

        x = np.load(sys.argv[1] + "/x.npy")
        found = []
        for name in ("model.keras", "model.h5"):
            path = f"{sys.argv[1]}/{name}"
            model = keras.models.load_model(path, compile=False)
            found.append([
                keras_actpen.penalty_terms(model, x),
                {
                    path: [
                        [name, t.spec.on, t.spec.output, l.coefficients[name]]
                        for name, t in l.terms.items()
                    ]
                    for path, l in keras_actpen.penalized_layers(model).items()
                },
            ])
        print(json.dumps(found))
        """,
        tmp_path,
    )
    expected = {
        path: [term[:4] for term in terms]
        for path, terms in penalties_of(model).items()
    }
    for terms, described in json.loads(printed):
        assert described == expected
        assert terms == pytest.approx(penalty_terms(model, x), rel=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Rebuilds(keras.Model):
    """Its own get_config re-creates its layers."""

    def __init__(self, units, **kwargs):
        inputs = keras.Input((FEATURES,))
        hidden = layers.Dense(units, name="dense_4")(inputs)
        super().__init__(inputs, layers.Dense(2)(hidden), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


def lost(name):
    return (
        rf"^The penalties of layer '{name}' are not saved: the model's own "
        "`get_config` re-creates its layers without them. The weights are. "
        "After loading, call `attach_penalty` again.$"
    )


def test_save_that_loses_the_penalty_warns(tmp_path):
    model = attach_penalty(Rebuilds(3), "dense_4", l2=0.1)
    path = tmp_path / "model.keras"
    for _ in range(2):
        with pytest.warns(UserWarning, match=lost("dense_4")):
            model.save(path)
    found = keras.models.load_model(path)
    assert penalized_layers(found) == {}
    x, _ = data()
    assert_same_arrays(outputs_of(found, x), outputs_of(model, x))
    again = attach_penalty(found, "dense_4", l2=0.1)
    assert list(penalized_layers(again)) == ["dense_4"]


def test_subclassed_save_that_loses_the_penalty_warns(tmp_path):
    model = attach_penalty(MODELS["subclassed"](), "dense_4", l2=0.1)
    with pytest.warns(UserWarning, match=lost("dense_4")):
        model.save(tmp_path / "model.keras")


def test_config_read_before_a_save_does_not_hide_the_warning(tmp_path):
    model = attach_penalty(Rebuilds(3), "dense_4", l2=0.1)
    model.get_layer("dense_4").get_config()
    with pytest.warns(UserWarning, match=lost("dense_4")):
        model.save(tmp_path / "model.keras")


# Lambdas ---------------------------------------------------------------------


def test_lambda_needs_safe_mode_off(tmp_path):
    x, _ = data()
    model = attach_penalty(
        sequential(),
        "dense_4",
        lambda h: __import__("keras").ops.sum(h**4),
        name="fourth",
    )
    with pytest.warns(UserWarning, match="includes a `lambda`. This is unsafe"):
        model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="deserialization of a Python lambda"):
        keras.models.load_model(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras", safe_mode=False)
    assert penalty_terms(found, x) == penalty_terms(model, x)
    assert list(penalty_terms(found, x)) == ["dense_4/fourth"]


# Export ----------------------------------------------------------------------

tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow only"
)


@tensorflow_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_export(tmp_path, capsys):
    model = rich_model()
    x, _ = data()
    plain = nested()
    model.export(str(tmp_path / "served"), verbose=False)
    plain.export(str(tmp_path / "plain"), verbose=False)
    np.save(tmp_path / "x.npy", x)
    printed = run(
        """
        import sys
        sys.modules["keras_actpen"] = sys.modules["keras"] = None
        import json
        import numpy as np
        import tensorflow as tf

        x = np.load(sys.argv[1] + "/x.npy")

        def ops_of(function):
            graph = function.graph.as_graph_def()
            nodes = list(graph.node)
            for one in graph.library.function:
                nodes += one.node_def
            return sorted(
                node.op for node in nodes
                if node.op
                not in ("NoOp", "Identity", "StatefulPartitionedCall")
            )

        found = {}
        for name in ("served", "plain"):
            loaded = tf.saved_model.load(f"{sys.argv[1]}/{name}")
            serve = loaded.signatures["serve"]
            found[name] = {
                "outputs": loaded.serve(x).numpy().tolist(),
                "ops": ops_of(serve),
                "variables": sorted(v.name for v in loaded.variables),
            }
        print(json.dumps(found))
        """,
        tmp_path,
    )
    found = json.loads(printed)
    np.testing.assert_allclose(
        found["served"]["outputs"], outputs_of(model, x)[0], rtol=1e-6
    )
    assert found["served"]["ops"] == found["plain"]["ops"]
    # Keras tracks every variable of the model, those that nothing reads too.
    assert found["served"]["variables"] == found["plain"]["variables"]
    assert found["plain"]["ops"].count("MatMul") == 4
    assert len(found["plain"]["variables"]) == 8
