"""The demo's sweep, its Pareto front, and `--open`."""

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
import warnings

import event_logs
import hparams_page
import keras
import numpy as np
import PIL.Image
import pytest
from models import QUICK, data, sequential
from rich.console import Console

from keras_actpen import __main__, attach_penalty, penalized_layers
from keras_actpen.demo import demo, demo_sweep, pareto, server, sweep

pytestmark = pytest.mark.one_backend

COEFFICIENTS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
TAB = importlib.util.find_spec("keras_actpen_tensorboard")
PAGE = f"?smoothing=0{'#keras_actpen' if TAB else ''}"


def measured(accuracy, zero_fraction, mean_square):
    return sweep.Measured(
        accuracy=accuracy,
        task_loss=0.5,
        penalty=0.25,
        zero_fraction=zero_fraction,
        mean_square=mean_square,
    )


POINTS = {
    1e-3: measured(0.9, 0.5, 4.0),
    1e-2: measured(0.9, 0.6, 3.0),  # as accurate as the first, and sparser
    1e-1: measured(0.8, 0.9, 3.5),  # sparser than all, not smaller
    1.0: measured(0.7, 0.9, 1.0),  # smaller than all, not sparser
}


def test_coefficients_are_log_spaced():
    assert sweep.log_spaced(1e-3) == COEFFICIENTS
    assert sweep.log_spaced(0.02, 3) == [0.002, 0.02, 0.2]


@pytest.mark.parametrize(
    ("measure", "front"),
    [("zero_fraction", {1e-2, 1e-1}), ("mean_square", {1e-2, 1.0})],
)
def test_pareto_front(measure, front):
    assert pareto.pareto_front(POINTS, measure) == front


def test_equal_points_are_both_on_the_front():
    points = {0.1: POINTS[1.0], 0.2: POINTS[1.0]}
    assert pareto.pareto_front(points, "mean_square") == {0.1, 0.2}


def test_pareto_table_marks_the_front():
    console = Console(file=io.StringIO(), width=120)
    console.print(pareto.pareto_table(POINTS, "dense_4", "l1", "zero_fraction"))
    lines = console.file.getvalue().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in lines
        if line.startswith("│")
    ]
    assert rows == [
        ["0.001", "0.9000", "0.5000", "0.2500", "0.5000", "4.0000", ""],
        ["0.01", "0.9000", "0.5000", "0.2500", "0.6000", "3.0000", "*"],
        ["0.1", "0.8000", "0.5000", "0.2500", "0.9000", "3.5000", "*"],
        ["1", "0.7000", "0.5000", "0.2500", "0.9000", "1.0000", ""],
    ]
    assert lines[-1].strip() == "* test accuracy against share of zeros"


@pytest.mark.parametrize("measure", ["zero_fraction", "mean_square"])
def test_pareto_plot_is_a_picture(tmp_path, measure):
    pytest.importorskip("matplotlib")
    path = tmp_path / "pareto.png"
    pareto.plot_pareto(POINTS, "dense_4", "l1", measure, path)
    with PIL.Image.open(path) as image:
        assert image.size == (840, 540)
        # The points and their labels, not an empty frame.
        assert len(image.convert("RGB").getcolors(2**20)) > 50


class Traced:
    """A penalty that counts how often Keras reads its code."""

    def __init__(self):
        self.count = 0

    def __call__(self, activations):
        self.count += 1
        return keras.ops.sum(keras.ops.square(activations))


def histories(coefficients, log_dir):
    """Losses of each coefficient, and how often its penalty was traced."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    x, y = data(samples=12)
    penalty = Traced()
    model = attach_penalty(sequential(), "dense_4", penalty, name="l2")
    model.compile("adam", "mse", **QUICK)
    losses, traced = {}, []

    def fit(coefficient, callbacks):
        history = model.fit(
            x, y, batch_size=4, epochs=2, callbacks=callbacks, verbose=0
        )
        losses[coefficient] = history.history["loss"]
        traced.append(penalty.count)

    found = sweep.run_sweep(
        model,
        "dense_4",
        "l2",
        coefficients,
        log_dir=log_dir,
        seed=3,
        fit=fit,
        measure=lambda: len(losses),
    )
    assert found == {c: n for n, c in enumerate(coefficients, 1)}
    return losses, traced


def test_every_training_starts_from_the_same_state(tmp_path):
    """Weights, Adam's moments and iterations, the seed of dropout."""
    forward, traced = histories([0.01, 0.1, 1.0], tmp_path / "a")
    backward, _ = histories([1.0, 0.1, 0.01], tmp_path / "b")
    assert forward == backward
    assert len({tuple(losses) for losses in forward.values()}) == 3
    if keras.backend.backend() != "torch":  # which runs the code every time
        assert traced[0] == traced[-1]
    assert {
        run: tags["penalty.coefficient/dense_4/l2"].values[-1]
        for run, tags in event_logs.read(tmp_path / "a").items()
        if run.endswith("train")
    } == {
        "l2=0.01/actpen/train": np.float32(0.01),
        "l2=0.1/actpen/train": np.float32(0.1),
        "l2=1/actpen/train": np.float32(1.0),
    }


@pytest.fixture
def few_digits(monkeypatch):
    """The demo with a network and data that take no time."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(24, 28, 28, 1)).astype("float32")
    y = rng.integers(10, size=24)

    def build_model():
        keras.utils.set_random_seed(demo.SEED)
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                keras.layers.MaxPooling2D(7),
                keras.layers.Flatten(),
                keras.layers.Dense(8, activation="relu", name="dense_4"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        loss = "sparse_categorical_crossentropy"
        model.compile("adam", loss, metrics=["accuracy"], **QUICK)
        return model

    monkeypatch.setattr(demo, "build_model", build_model)
    monkeypatch.setattr(
        demo, "load_sample", lambda: ((x[:16], y[:16]), (x[16:], y[16:]))
    )


def test_demo_from_the_command_line(few_digits, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["demo", "--l2", "10", "--epochs", "3", "--log-dir", "logs"]
    with warnings.catch_warnings():
        # A penalty that is most of the loss is meant here.
        warnings.simplefilter("ignore", UserWarning)
        assert __main__.main(arguments) == 0
    printed = capsys.readouterr().out
    (smaller,) = re.findall(
        r"the mean square of dense_4 is (.*) times smaller", printed
    )
    assert float(smaller) > 1
    command = f"{sys.executable} -m tensorboard.main --logdir logs\n"
    assert command in printed
    log = event_logs.read("logs")
    assert {*log} >= {"actpen/train", "plain/actpen/train"}
    mean_squares = [
        log[run]["activation.rms/dense_4"].values[-1] ** 2
        for run in ("plain/actpen/train", "actpen/train")
    ]
    assert mean_squares[0] > mean_squares[1]
    saved = keras.models.load_model("mnist_cnn.keras")
    assert not penalized_layers(saved)
    rate = log["plain/actpen/train"]["metric/accuracy"].values
    assert len(rate) == 3


def test_sweep_from_the_command_line(few_digits, tmp_path, capsys):
    logs = tmp_path / "logs"
    arguments = ["demo", "--sweep", "--epochs", "1", "--log-dir", str(logs)]
    assert __main__.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Pareto" in printed
    command = f"{sys.executable} -m tensorboard.main --logdir {logs}\n"
    assert command in printed
    assert f"Plot: {logs / 'pareto.png'}\n" in printed
    with PIL.Image.open(logs / "pareto.png") as image:
        assert image.size == (840, 540)
    for column in ("val_accuracy", "zeros dense_4"):
        rows = hparams_page.rows(logs, sort_by=column, descending=True)
        values = [row[column] for row in rows]
        assert values == sorted(values, reverse=True)
        assert sorted(row["dense_4/l1"] for row in rows) == pytest.approx(
            COEFFICIENTS, rel=1e-6
        )
    names = {row["name"].partition("/")[0] for row in rows}
    assert names == {f"l1={c:g}" for c in COEFFICIENTS}


def test_sweep_without_matplotlib_says_so(
    few_digits, tmp_path, capsys, monkeypatch
):
    missing = types.SimpleNamespace(find_spec=lambda name: None)
    importlib = types.SimpleNamespace(util=missing)
    monkeypatch.setattr(demo_sweep, "importlib", importlib)
    demo_sweep.run(
        epochs=1,
        log_dir=str(tmp_path),
        layer="dense_4",
        l1=None,
        l2=0.1,
        on="output",
        load=demo.load_sample,
    )
    printed = capsys.readouterr().out
    line = "No plot: it needs matplotlib (pip install matplotlib).\n"
    assert printed.endswith(line)
    assert sorted(os.listdir(tmp_path)) == sorted(
        f"l2={c:g}" for c in sweep.log_spaced(0.1)
    )


def test_sweep_of_two_terms_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["demo", "--sweep", "--l1", "1", "--l2", "2"])
    assert capsys.readouterr().err.endswith(
        "error: --sweep compares coefficients of --l1 or of --l2\n"
    )
    with pytest.raises(ValueError) as caught:  # noqa: PT011, compared with ==
        demo_sweep.run(
            epochs=1,
            log_dir="unused",
            layer="dense_4",
            l1=1.0,
            l2=2.0,
            on="output",
            load=demo.load_sample,
        )
    assert str(caught.value) == (
        "Invalid value received for arguments `l1` and `l2`. Expected one of "
        "them, the middle of the coefficients to compare. Received: l1=1.0, "
        "l2=2.0"
    )


def test_open_is_asked_for_on_the_command_line(monkeypatch):
    opened = []
    monkeypatch.setattr(demo, "run", lambda **options: None)
    monkeypatch.setattr(server, "stay_open", opened.append)
    assert __main__.main(["demo", "--open", "--log-dir", "there"]) == 0
    assert opened == ["there"]


def test_open_serves_until_interrupted(tmp_path):
    # A process started in the background of a shell ignores the signal.
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from keras_actpen.demo import server\n"
        f"server.stay_open({str(tmp_path)!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        # A group of its own, to see that nothing of it is left.
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "\n"
        line = process.stdout.readline()
        assert line.startswith("TensorBoard: http://127.0.0.1:")
        assert line.endswith(f"/{PAGE}\n")
        url = line.split()[1].removesuffix(PAGE)
        assert process.stdout.readline() == "Press Ctrl-C to stop it.\n"
        with urllib.request.urlopen(f"{url}data/runs") as response:
            assert json.load(response) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=180) == 0
    finally:
        process.stdout.close()
        process.kill()
        process.wait()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url)
    # TensorBoard's own child ends once TensorBoard has.
    deadline = time.monotonic() + 180
    while _is_running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_running(process.pid)


def _is_running(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_that_fails_is_an_error_with_its_words(tmp_path):
    with (
        pytest.raises(RuntimeError, match=r"(?s)did not start.*--no_such"),
        server.tensorboard_server(tmp_path, "--no_such_thing"),
    ):
        pass
