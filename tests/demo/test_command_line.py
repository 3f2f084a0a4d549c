"""The command `keras-actpen layers`."""

import os
import subprocess
import sys
import textwrap

import keras
import pytest
from keras import layers
from models import FEATURES, GRAPH_MODELS, nested, subclassed

from keras_actpen import attach_penalty, watch_activations
from keras_actpen.__main__ import main
from keras_actpen.attach.layer_refs import layer_refs
from keras_actpen.demo.layers_command import layer_table, possible_paths

pytestmark = pytest.mark.one_backend


def cells(model):
    return {path: cells for path, cells in layer_table(model).rows}


def test_layers_of_a_saved_model(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    model = attach_penalty(nested(), "encoder/dense_4", l1=0.1, l2=0.25)
    model = attach_penalty(model, "unfold", l2=3.0, on="preactivation")
    model = watch_activations(model, "code")
    model.save(tmp_path / "model.keras")
    assert main(["layers", str(tmp_path / "model.keras")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in out.splitlines()
        if line.startswith("│")
    ]
    both = "output, preactivation"
    attached = ["l1 0.1, l2 0.25", "watched", "l2 3 on preactivation"]
    assert rows == [
        ["encoder", "Functional", "(None, 3)", "output", ""],
        ["encoder/dense_4", "Dense", "(None, 6)", both, attached[0]],
        ["encoder/code", "Dense", "(None, 3)", both, attached[1]],
        ["decoder", "Sequential", "(None, 2)", "output", ""],
        ["decoder/unfold", "Dense", "(None, 6)", both, attached[2]],
        ["decoder/head", "Dense", "(None, 2)", both, ""],
    ]


class CallsTwice(layers.Layer):
    """Has an activation, but not exactly one pre-activation."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.relu

    def call(self, inputs):
        return self.activation(inputs) + self.activation(inputs + 1.0)


def test_what_can_be_penalized_is_tried_out():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(4, name="dense")(inputs)
    x = CallsTwice(name="twice")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Activation("tanh", name="tanh")(x)
    numbers = layers.Discretization([0.0], name="buckets")(x)
    x = layers.Embedding(2, 3, name="embedding")(numbers)
    model = keras.Model(inputs, layers.LSTM(2, name="lstm")(x))
    assert {path: row[2] for path, row in cells(model).items()} == {
        "dense": "output, preactivation",
        "twice": "output",
        "relu": "output",
        "tanh": "output, preactivation",
        "buckets": "no float output",
        "embedding": "output",
        "lstm": "output",
    }


def test_why_a_layer_cannot_be_penalized():
    inputs = keras.Input((FEATURES,), sparse=True)
    x = layers.Identity(name="sparse")(inputs)
    counts = layers.Input((FEATURES,), dtype="int32", sparse=True)
    y = layers.Identity(name="counts", dtype="int32")(counts)
    model = keras.Model([inputs, counts], [layers.Dense(2, name="head")(x), y])
    assert {path: row[2] for path, row in cells(model).items()} == {
        "sparse": "no dense output",
        "counts": "no float output",
        "head": "output, preactivation",
    }


@pytest.mark.parametrize("kind", GRAPH_MODELS)
def test_every_listed_path_can_be_attached_to(kind):
    model = GRAPH_MODELS[kind]()
    for on in ("output", "preactivation"):
        possible = possible_paths(model, on)
        for ref in layer_refs(model):
            try:
                _ = attach_penalty(model, ref.path, l2=0.0, on=on)
                accepted = True
            except ValueError:
                accepted = False
            assert (ref.path in possible) == accepted, (ref.path, on)


def test_subclassed_model_is_left_as_it_is():
    model = subclassed()
    before = list(model.layers)
    assert list(cells(model)) == [layer.name for layer in before]
    assert {row[2] for row in cells(model).values()} == {
        "output, preactivation"
    }
    assert all(
        one is other for one, other in zip(model.layers, before, strict=True)
    )


def test_model_without_layers():
    inputs = keras.Input((2,))
    assert layer_table(keras.Model(inputs, inputs)).rows == [
        ("none", ("", "", "", ""))
    ]


OWN_CLASS = """
    import keras

    @keras.saving.register_keras_serializable(package="somebody")
    class Halved(keras.layers.Layer):
        def call(self, inputs):
            return inputs / 2.0
"""


@pytest.fixture
def somebody(tmp_path, monkeypatch):
    """A module of a user's own, and a model that needs it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody.py").write_text(textwrap.dedent(OWN_CLASS))
    script = (
        "import keras, somebody\n"
        "keras.Sequential([keras.Input((2,)), "
        "somebody.Halved(name='halved')]).save('own.keras')"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=300,
    )


def test_import_of_own_classes(somebody, capsys, monkeypatch):
    # Left as it was after the command has added the working directory.
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["layers", "own.keras"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "keras-actpen layers: cannot load 'own.keras' as a Keras model: it "
        "needs class 'Halved', which is not registered; name the module that "
        "registers it with --import\n"
    )

    assert main(["layers", "own.keras", "--import", "somebody"]) == 0
    assert "halved" in capsys.readouterr().out

    assert main(["layers", "own.keras", "--import", "nobody"]) == 2
    assert capsys.readouterr().err == (
        "keras-actpen layers: cannot import 'nobody': No module named "
        "'nobody'\n"
    )


def test_files_that_are_no_models(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def error(path):
        assert main(["layers", path]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        return err.removeprefix("keras-actpen layers: ").strip()

    assert error("absent.keras") == "there is no file 'absent.keras'"
    for name in ("text.keras", "text.h5"):
        (tmp_path / name).write_text("no model")
        assert error(name).startswith(f"cannot load {name!r} as a Keras model:")
    nested().save_weights("only.weights.h5")
    assert error("only.weights.h5").startswith(
        "cannot load 'only.weights.h5' as a Keras model:"
    )


def test_safe_mode_is_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    model = keras.Sequential(
        [keras.Input((2,)), layers.Lambda(lambda x: x + 1.0)]
    )
    model.save("lambda.keras")
    assert main(["layers", "lambda.keras"]) == 2
    assert "Lambda" in capsys.readouterr().err


def test_wrong_options(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["layers"])
    assert caught.value.code == 2
    assert "the following arguments are required: model" in (
        capsys.readouterr().err
    )
