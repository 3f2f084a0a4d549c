"""README's code blocks run, and its commands are those of the package."""

import pathlib
import re

import keras
import numpy as np
import pytest
import support_table
from by_hand import number

import keras_actpen
from keras_actpen import attach_penalty, demo, penalty_terms

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.S)


def backend_of(block):
    """The backend that a training loop is written for, or None."""
    first = block.split()[:2]
    for name in support_table.BACKENDS:
        if first == ["import", name]:
            return name
    return None


@pytest.fixture
def digits(tmp_path, monkeypatch):
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
    (x, y), (x_val, y_val) = demo.load_sample()
    model.train_on_batch(x[:8], y[:8])
    model.save("mnist_cnn.keras")
    return {"x": x[:64], "y": y[:64], "x_val": x_val[:32], "y_val": y_val[:32]}


# Keras Tuner 1.4 asks for the name of its thread in the old way.
@pytest.mark.filterwarnings("ignore:currentThread.* is deprecated")
@pytest.mark.filterwarnings("ignore:getName.* is deprecated")
def test_python_blocks_run_in_order(digits, tmp_path):
    namespace = dict(digits)
    for block in blocks("python"):
        if backend_of(block):
            continue
        exec(compile(block, str(README), "exec"), namespace)
    assert (tmp_path / "logs" / "actpen" / "train").is_dir()
    assert (tmp_path / "logs" / "actpen" / "validation").is_dir()
    terms = namespace["penalty_terms"](namespace["model"], digits["x"][:32])
    assert set(terms) == {"dense_4/l1", "dense_4/l2"}
    assert all(np.isfinite(list(terms.values())))


def test_training_loop(digits):
    """Each step's loss is the task's and the terms; README's loop trains."""
    backends = [backend_of(block) for block in blocks("python")]
    assert sorted(filter(None, backends)) == sorted(support_table.BACKENDS)
    loop = blocks("python")[backends.index(keras.backend.backend())]
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
    # On its lines of the file, as AutoGraph reads the source there.
    above = README.read_text().partition(loop)[0].count("\n")
    exec(compile("\n" * above + loop, str(README), "exec"), namespace)
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


def rows_of(heading):
    """Cells of the rows of the table whose first column has this heading."""
    table = README.read_text().partition(f"| {heading} |")[2]
    lines = table.partition("\n\n")[0].splitlines()[2:]
    return [
        [one.strip() for one in line.strip("|").split("|")] for line in lines
    ]


def test_support_table_is_that_of_the_tests():
    """As far as it can be known without running them all on each backend."""
    contract = support_table.contract_table(
        support_table.predicted, lambda row, backend: support_table.REFUSED
    )
    assert contract in README.read_text()
    rows = rows_of("Training")
    expected = map(support_table.label, support_table.training_tests())
    assert [label for label, *_ in rows] == list(expected)
    for label, *cells in rows:
        shown = {cell.partition(" ")[0] for cell in cells}
        assert "yes" in shown, label
        assert shown <= {"yes", "-"}, label


def calls(section):
    """Last cells of the rows of the table in a section: code to run."""
    text = README.read_text().partition(f"\n## {section}...\n")[2]
    rows = re.findall(r"^\| .* \| `([^`]+)` \|$", text.split("\n## ")[0], re.M)
    assert len(rows) >= 10
    return rows


@pytest.mark.parametrize("section", ["I want to", "Coming from"])
def test_tables_of_calls(digits, section):
    plain = keras.models.load_model("mnist_cnn.keras")
    sequences = keras.layers.LSTM(4, return_sequences=True, name="lstm")
    namespace = {
        **vars(keras_actpen),
        "keras": keras,
        "schedules": keras.optimizers.schedules,
        "plain": plain,
        "lstm": keras.Sequential([keras.Input((6, 2)), sequences]),
        "sparse": keras_actpen.attach_penalty(plain, "dense_4", l1=1e-3),
        "x": digits["x"],
        "y": digits["y"],
    }
    for call in calls(section):
        # An assignment gives the later calls its name, as in a notebook.
        name, _, expression = call.rpartition(" = ")
        if not name.isidentifier():
            name, expression = "_", call
        result = eval(expression, namespace)
        namespace[name] = result
        if call.startswith("detach"):
            assert not keras_actpen.penalized_layers(result)
        elif isinstance(result, keras.Model):
            # Not only watched: something is penalised.
            assert any(
                layer.terms
                for layer in keras_actpen.penalized_layers(result).values()
            )
        else:
            assert result.history["loss"]


def test_first_two_commands_run_the_demo_and_the_tests():
    run, test = blocks("sh")[:2]
    assert run.rstrip().endswith("keras-actpen demo")
    assert test.rstrip().endswith("python -m pytest -n 2")


def test_pictures_exist():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text())
    assert [pathlib.Path(picture).name for picture in pictures] == [
        "scalars.png",
        "histograms.png",
        "hparams.png",
    ]
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 0
