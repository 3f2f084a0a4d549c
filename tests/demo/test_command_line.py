"""The commands `keras-actpen layers` and `report`, and what is refused."""

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
    GRAPH_MODELS,
    QUICK,
    data,
    nested,
    sequential,
    subclassed,
)

import keras_actpen
from keras_actpen import attach_penalty, penalty_report, watch_activations
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


def test_layers_inside_layers():
    inputs = keras.Input((5, FEATURES))
    layer = layers.MultiHeadAttention(2, 3, name="attention")
    x = layers.LSTM(2, name="lstm")(layer(inputs, inputs))
    model = attach_penalty(
        keras.Model(inputs, x), "attention/query", l1=0.5, on="kernel"
    )
    assert [path for path, _ in layer_table(model).rows] == [
        "attention",
        "lstm",
    ]
    rows = {path: row for path, row in layer_table(model, depth=1).rows}
    assert list(rows) == [
        "attention",
        *(
            f"attention/{name}"
            for name in (
                "query_dense",
                "key_dense",
                "value_dense",
                "softmax",
                "dropout_layer",
                "output_dense",
            )
        ),
        "lstm",
        "lstm/cell",
    ]
    assert rows["attention"][3] == ""
    assert rows["attention/query_dense"][3] == "l1 0.5 on kernel"
    assert rows["attention/query_dense"][2] == "output, preactivation"
    assert rows["lstm/cell"][2] == "no"


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


def lines_of_error(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("layers", "the following arguments are required: model"),
        (
            "layers model.keras --backend cntk",
            "argument --backend: invalid choice: 'cntk' (choose from "
            "'tensorflow', 'jax', 'torch')",
        ),
        *(
            (
                f"demo --epochs {value}",
                "argument --epochs: expected an integer >= 1, received "
                f"{value!r}",
            )
            for value in ("0", "-3", "2.5")
        ),
        *(
            (
                f"demo --l1 {value}",
                "argument --l1: expected a finite number >= 0, received "
                f"{value!r}",
            )
            for value in ("-1", "nan", "much")
        ),
    ],
)
def test_wrong_values_are_one_line(arguments, message, capsys):
    command, *rest = arguments.split()
    assert lines_of_error([command, *rest], capsys) == [
        f"keras-actpen {command}: error: {message}"
    ]


LAYERS = (
    "['conv_1', 'conv_2', 'pool_3', 'dropout', 'flatten', 'dense_4', "
    "'dropout_1', 'probabilities']"
)


def test_demo_of_a_layer_that_is_not_there(capsys):
    assert lines_of_error(["demo", "--layer", "nope"], capsys) == [
        "keras-actpen: error: Invalid value received for argument `layers`. "
        "Expected one or more layers of model 'mnist_cnn'. Received: "
        "layers='nope', which matches none. The paths of its layers are: "
        f"{LAYERS[1:-1]}."
    ]
    keras.utils.clear_session(free_memory=False)
    assert lines_of_error(["demo", "--layer", "conv_*"], capsys) == [
        "keras-actpen: error: No such layer: conv_*. Existing layers are: "
        f"{LAYERS}."
    ]


def test_demo_with_a_log_dir_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "logs")
    (line,) = lines_of_error(["demo", "--log-dir", path], capsys)
    assert line.startswith(
        "keras-actpen: error: Invalid value received for argument `log_dir`."
    )


def started(*arguments, program=("-m", "keras_actpen"), **environment):
    """The command in a process of its own, without the tests' settings."""
    given = {**os.environ, **environment}
    given.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, *program, *arguments],
        env=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


SCRIPT = """
import sys
sys.argv[0] = "bin/keras-actpen"
from keras_actpen.__main__ import main
try:
    main()
finally:
    print(sorted({"keras", "numpy", "rich"} & {*sys.modules}))
"""


def test_help_needs_no_backend():
    as_script = started("--help", program=("-c", SCRIPT))
    assert as_script.stdout.splitlines()[-1] == "[]"
    for option in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-Ximporttime", "-m", "keras_actpen", option],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        imported = {
            line.rpartition("|")[2].strip().partition(".")[0]
            for line in done.stderr.splitlines()
        }
        assert "keras_actpen" in imported
        assert not imported & {"keras", "numpy", "rich", "tensorflow"}
    assert done.stdout == f"keras-actpen {keras_actpen.__version__}\n"


@pytest.mark.parametrize("command", ["layers", "report", "demo"])
def test_help_names_no_default_of_none(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "None" not in shown
    assert "False" not in shown


HIDE = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hide())
"""


def test_backend_that_is_not_there(tmp_path):
    done = started("layers", "model.keras", KERAS_BACKEND="cntk")
    assert done.returncode == 2
    assert done.stderr == (
        "keras-actpen: error: Unable to import backend : cntk (KERAS_BACKEND)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = started(
        *("layers", "model.keras", "--backend", "tensorflow"),
        PYTHONPATH=path,
        KERAS_BACKEND="jax",
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "keras-actpen: error: Keras's backend 'tensorflow' is not installed. "
    )


def test_nothing_but_the_table_is_printed(tmp_path, monkeypatch):
    """No messages of TensorFlow's; an own module has all public names."""
    (tmp_path / "mine.py").write_text(
        "import keras\n"
        "from keras_actpen import attach_penalty, penalties\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Mine(penalties.Penalty):\n"
        "    def unreduced(self, activations):\n"
        "        return activations**4\n"
        "def save():\n"
        "    model = keras.Sequential([keras.Input((2,)), "
        "keras.layers.ReLU(name='relu')])\n"
        "    attach_penalty(model, 'relu', Mine()).save('mine.keras')\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.chdir(tmp_path)
    made = started(
        program=("-c", "import mine; mine.save()"),
        PYTHONPATH=path,
    )
    assert made.returncode == 0, made.stderr
    done = started("layers", "mine.keras", "--import", "mine", PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "relu" in done.stdout
    assert "mine" in done.stdout


# report ----------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A penalized model, a plain one and data, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "140")
    plain = sequential()
    plain.compile("sgd", "mse", **QUICK)
    plain.save("plain.keras")
    model = attach_penalty(plain, "dense_4", l2=0.1)
    model.save("penalized.keras")
    x, y = data(120)
    np.savez("data.npz", x=x, y=y)
    np.savez("inputs.npz", x=x)
    np.savez("others.npz", a=x, y=y)
    np.savez("sizes.npz", x=x, y=y[:30])
    return model


def test_report_of_a_saved_model(saved, capsys):
    assert main(["report", "penalized.keras", "data.npz"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    with np.load("data.npz") as arrays:
        report = penalty_report(saved, **arrays, verbose=0)
    assert out == f"{report}\n"
    assert main(["report", "plain.keras", "inputs.npz"]) == 0
    out, _ = capsys.readouterr()
    for name in ("dense_4", "drop", "head", "watched", "120 samples"):
        assert name in out


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ("absent.keras", "data.npz", "there is no file 'absent.keras'"),
        (
            "plain.keras",
            "absent.npz",
            "cannot load 'absent.npz' as a .npz file of arrays: [Errno 2] No "
            "such file or directory: 'absent.npz'",
        ),
        (
            "plain.keras",
            "plain.keras",
            "'plain.keras' has the arrays ['config.json', 'metadata.json', "
            "'model.weights.h5'] instead of x and, optionally, y and "
            "sample_weight; write it with numpy.savez('data.npz', x=x, y=y)",
        ),
        (
            "plain.keras",
            "others.npz",
            "'others.npz' has the arrays ['a', 'y'] instead of x and, "
            "optionally, y and sample_weight; write it with "
            "numpy.savez('data.npz', x=x, y=y)",
        ),
    ],
)
def test_report_of_what_is_not_there(saved, model, file, message, capsys):
    assert main(["report", model, file]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"keras-actpen report: {message}\n")


def test_report_of_sizes_that_do_not_fit(saved, capsys):
    assert main(["report", "penalized.keras", "sizes.npz"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keras-actpen report: Invalid values received")
