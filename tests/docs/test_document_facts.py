"""What the tables and words of README and docs say is what the code does."""

import ast
import contextlib
import csv
import importlib.util
import inspect
import operator
import re
import shlex
import tomllib
from types import SimpleNamespace

import documents
import event_logs
import hparams_page
import keras
import keras_tuner
import numpy as np
import pytest
import support_table
from hypothesis import settings
from models import QUICK, data, sequential
from paths import ROOT, TESTS
from tensorboard.plugins.custom_scalar import layout_pb2

import keras_actpen
from keras_actpen import (
    PenaltyMonitor,
    __main__,
    attach_penalty,
    penalties,
    penalty_terms,
)
from keras_actpen.demo import sweep
from keras_actpen.statistics.findings import SAMPLES_TO_BE_DEAD
from keras_actpen.statistics.optional import STATES
from keras_actpen.statistics.thresholds import FACTS, THRESHOLDS

pytestmark = pytest.mark.one_backend

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CLASSES = {
    name
    for name in penalties.__all__
    if name[0].isupper() and name not in ("Penalty", "FunctionPenalty")
}


def changelog():
    """What is not released yet, then this version and those before it."""
    text = (ROOT / "CHANGELOG.md").read_text()
    titles = re.findall(r"^## \[(.*)\](?: - [\d-]{10})?$", text, re.M)
    assert titles[:2] == ["Unreleased", keras_actpen.__version__]
    return text


# Tables


def test_penalties():
    named = [
        span
        for _, names in documents.table("for", "penalties")
        for span in documents.spans(names)
    ]
    assert len(named) == len(CLASSES)
    assert {*named} == CLASSES


@pytest.fixture(scope="module")
def hidden():
    """A model, inputs, and what its layer `dense_4` makes of them."""
    keras.utils.set_random_seed(7)
    model = sequential()
    x, _ = data()
    layer = model.get_layer("dense_4")
    h = keras.ops.convert_to_numpy(layer(x)).astype("float64")
    assert (h > 0).any()
    return model, x, h


def test_what_is_added(hidden):
    model, x, h = hidden
    names = {"sum": np.sum, "abs": np.abs, "h": h, "batch": len(h), "c": 0.03}
    names["f"] = lambda h: 0.03 * np.sum(h**4)
    for given, formula in documents.table("", "added to the loss"):
        (argument,) = documents.spans(given)
        if argument == "f":
            arguments = {"penalty": lambda h: 0.03 * keras.ops.sum(h**4)}
        else:
            arguments = eval(f"dict({argument})", names)
        penalized = attach_penalty(model, "dense_4", **arguments)
        (term,) = penalty_terms(penalized, x).values()
        (formula,) = documents.spans(formula)
        assert term == pytest.approx(eval(formula, names), rel=1e-5)


def test_what_is_replaced_adds_the_same(hidden):
    """Of the first three rows; test_usual_answers.py trains them."""
    model, x, h = hidden
    h = h.astype("float32")
    names = {
        "Dense": lambda _, activity_regularizer: (
            activity_regularizer(h) / len(h)
        ),
        "self": SimpleNamespace(add_loss=lambda value: value),
        "h": h,
        "keras": keras,
        "ops": keras.ops,
    }
    for there, here in documents.table("there", "here")[:3]:
        *_, code = documents.spans(there)
        value = np.mean(keras.ops.convert_to_numpy(eval(code, names)))
        (call,) = documents.spans(here)
        call = call.removeprefix("model = ")
        penalized = eval(call, {**vars(keras_actpen), "plain": model})
        (term,) = penalty_terms(penalized, x).values()
        assert term == pytest.approx(value, rel=1e-5)


def test_what_is_logged_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs, overview, terms, statistics, metrics, *pages = documents.table(
        "where", "what"
    )
    histograms, images, layout, texts, hparams = pages

    def spans(cell):
        return [
            span.replace("<path>", "dense_4").replace("<term>", "l2")
            for span in documents.spans(cell)
        ]

    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    model = attach_penalty(model, "head", l1=0.02, on="preactivation")
    model.compile("sgd", "mse", metrics=["mae"], **QUICK)
    x, y = data(SAMPLES_TO_BE_DEAD)
    _, logger, stopping = spans(logs[0])
    callbacks = {**vars(keras.callbacks)}
    with pytest.warns(UserWarning, match="% of units"):
        history = model.fit(
            x,
            y,
            batch_size=len(x),
            epochs=2,
            validation_data=(x, y),
            verbose=0,
            callbacks=[
                eval(logger, callbacks)("logs.csv"),
                eval(stopping, callbacks),
                PenaltyMonitor("logs", alerts={"dead": 0.0}, images=True),
            ],
        ).history
    with open("logs.csv") as file:
        (header, *_) = csv.reader(file)
    assert {*spans(logs[1])} <= {*history} & {*header}

    log = event_logs.read("logs")
    assert {*log} == {"actpen/hparams", "actpen/train", "actpen/validation"}
    train = log["actpen/train"]

    def written(plugin, start=""):
        return {
            tag
            for tag, series in train.items()
            if series.plugin == plugin and tag.startswith(start)
        }

    both = {"dense_4/l2", "head/l1"}
    scalars = written("scalars")
    expected = {
        group + name
        for group in spans(overview[0])
        for name in spans(overview[1])
    }
    for group in spans(terms[0]):
        expected |= {group + name for name in both}
    (group,) = spans(metrics[0])
    (rate,) = spans(metrics[1])
    expected |= {f"{group}{name}" for name in ("loss", "mae", rate)}
    mean, *others = spans(statistics[0])
    of_output = {mean, *(mean.replace("mean", name) for name in others)}
    (before,) = spans(statistics[1])
    start = before.removesuffix("....")
    for tag in of_output:
        _, _, name = tag.partition(".")
        expected |= {tag, f"{start}.{name.replace('dense_4', 'head')}"}
    # Those that the page Custom Scalars draws around the mean.
    bands = {tag for tag in scalars if "std_band" in tag}
    assert scalars - bands == expected

    of_output = spans(histograms[0])
    assert written("histograms") == {*of_output} | {
        f"pre{tag.replace('dense_4', 'head')}" for tag in of_output
    }
    argument, *tags = spans(images[0])
    assert argument == "images=True"
    assert written("images") == {*tags}
    assert written("text") == {*spans(texts[0])}
    shown = layout_pb2.Layout()
    shown.ParseFromString(train["custom_scalars__config__"].values[0].item())
    assert [one.title for one in shown.category] == [
        "overview",
        "dense_4",
        "head",
    ]
    for one in shown.category[1:]:
        titles = [chart.title.split(": ")[-1] for chart in one.chart]
        assert titles == [
            "penalty terms",
            "share of the loss",
            "mean and standard deviation",
            "zeros and dead units",
        ]
    assert layout[1] == (
        "one group per layer: its terms, their shares, mean with standard "
        "deviation, zeros and dead units"
    )
    (row,) = hparams_page.rows("logs")
    assert {*row} >= both | {"val_loss", "val_mae", "zeros dense_4"}
    assert hparams[1].startswith(
        "the coefficients, the final metrics and the share of zeros"
    )


def test_alerts():
    rows = documents.table("kind", "found")
    assert [documents.spans(kind) for kind, _ in rows] == [
        [kind] for kind in THRESHOLDS
    ]
    for kind, found in rows:
        if kind.strip("`") in FACTS:
            continue
        limit = THRESHOLDS[kind.strip("`")]
        sign = "<" if kind == "`negligible`" else ">="
        assert f"{sign} {np.format_float_positional(limit, trim='-')}" in (
            found.replace("any", f"{sign} 0")
        )
    dead = dict(rows)["`dead`"]
    (judged,) = re.findall(r"judged by (\d+) positions", dead)
    assert int(judged) == SAMPLES_TO_BE_DEAD


def test_distribution():
    """Each strategy is that of a test, which does what the row says."""
    tested = (ROOT / "tests" / "contract/test_distribution.py").read_text()
    script = (ROOT / "tests/support/distributed.py").read_text()
    for strategies, holds in documents.table("", "what holds"):
        module = ""
        for name in documents.spans(strategies):
            module = name.rpartition(".")[0] or module
            assert f"{module}.{name.rpartition('.')[2]}" in tested
        for code in documents.spans(holds):
            assert code == "fit" or code in script


def test_support():
    """As it is if all tests pass, which are those of the suite."""
    contract = support_table.contract_table(
        support_table.predicted, support_table.refused
    )
    assert contract in documents.TEXT


@pytest.mark.every_backend
def test_support_of_training():
    """As it is on this backend if all tests pass, none of which is run."""
    backend = keras.backend.backend()
    rows = documents.table("Training", *support_table.BACKENDS.values())
    notes = re.findall(
        r"^\d+\. (.*)$", documents.TEXT.partition("| Training |")[2], re.M
    )
    column = 1 + list(support_table.BACKENDS).index(backend)
    expected = support_table.training_tests(backend)
    assert [row[0] for row in rows] == [*map(support_table.label, expected)]
    source = "".join(
        (support_table.TESTS / file.partition("::")[0]).read_text()
        for file in support_table.TRAINING
    )
    for row, (failed, skipped) in zip(rows, expected.values(), strict=True):
        short, _, note = row[column].partition(" ")
        reason = notes[int(note.strip("()")) - 1] if note else ""
        assert not failed
        if skipped:
            assert (short, [reason]) == ("-", skipped), row
        elif short == "-":
            # After the test has shown that Keras itself fails.
            assert f'pytest.skip("{reason}")' in source, row
        else:
            assert (short, reason) == ("yes", ""), row


# Words


# What stands in backticks and is no name of this package or of Keras.
OTHER_WORDS = {
    # README's own
    "(batch, ..., units)",
    "dense_4",
    '"encoder/dense_4"',
    '"block/hidden"',
    '"encoder/self_attention_layer/query"',
    '"*/feedforward_intermediate_dense"',
    '"a/shared"',
    '"b/shared"',
    '"*/shared"',
    '"bias"',
    "unroll=True",
    "h",
    "logs",
    "loss == task loss + sum of all terms + other regularizers",
    "lstm",
    "n",
    "3/n",
    "plain",
    "refused",
    # runs and tags, see test_what_is_logged_where
    "actpen/hparams",
    "actpen/train",
    "actpen/validation",
    "actpen-2/...",
    "monitor/",
    # of others
    "http://localhost:6006",
    "inf",
    "KERAS_BACKEND",
    ".keras",
    "mixed_float16",
    "padding_mask",
    "python -m tensorboard.main --logdir logs",
    "tensorboard --logdir logs/sweep",
    "tf.distribute",
    "val_accuracy",
    "wandb sync",
}
PLACES = (
    keras_actpen,
    penalties,
    keras,
    keras.Model,
    keras.layers,
    keras.callbacks,
    keras_tuner,
    SimpleNamespace(keras=keras, keras_actpen=keras_actpen),
)
PARAMETERS = {
    parameter
    for one in (
        *map(vars(keras_actpen).get, keras_actpen.__all__),
        *map(vars(penalties).get, CLASSES),
        keras.layers.Dense,
        keras.Model.evaluate,
        keras.Model.fit,
        keras.Model.stateless_call,
    )
    if callable(one)
    for parameter in inspect.signature(one).parameters
}


def named(path):
    """All that a dotted name can stand for."""
    for spec in PLACES:
        with contextlib.suppress(AttributeError):
            yield operator.attrgetter(path)(spec)


def is_right(expression):
    """Whether all names in an expression exist, arguments included."""
    calls = [
        node
        for node in ast.walk(ast.parse(expression))
        if isinstance(node, ast.Call)
    ]
    for call in calls:
        used = {keyword.arg for keyword in call.keywords}
        if not any(
            used <= {*inspect.signature(one).parameters}
            for one in named(ast.unparse(call.func))
        ):
            return False
    return bool(calls) or any(named(expression)) or expression in STATES


def is_command(span):
    """Whether there is what a command calls, with its options."""
    words = shlex.split(span)
    if assignment := re.fullmatch(r"([A-Z_]+)=\w+", words[0]):
        if f'"{assignment[1]}"' not in (TESTS / "conftest.py").read_text():
            return False
        words = words[1:]
    match words:
        case ["--depth", depth]:
            arguments = ["layers", "mnist_cnn.keras", "--depth", depth]
            return bool(__main__._parser().parse_args(arguments))
        case ["--import", module]:
            # Which argparse would refuse, were it unknown.
            arguments = ["layers", "mnist_cnn.keras", "--import", module]
            return __main__._parser().parse_args(arguments).modules == [module]
        case ["python", "-m", "pytest", path] | ["python", path]:
            return (ROOT / path).is_file()
        case ["python", "-m", module]:
            name = module.removesuffix(".NAME")
            return importlib.util.find_spec(name) is not None
        case ["keras-actpen", *arguments]:
            return bool(__main__._parser().parse_args(arguments))
        case ["pip", "install", package]:
            return is_extra(package.removeprefix("."))
        case ["import", name]:
            return name == keras_actpen.__name__
    return is_extra(span)


def is_extra(text):
    extra = re.fullmatch(r"\[(\w+)\]", text)
    return bool(extra) and extra[1] in EXTRAS


def is_known(span):
    if span in OTHER_WORDS | PARAMETERS | {*EXTRAS}:
        return True
    example = ROOT / "benchmarks" / "examples" / f"{span}.py"
    if example.is_file() or (ROOT / span).is_file():
        return True
    if re.fullmatch(r"[\w.]+(\(.*\))?", span):
        return is_right(span)
    if argument := re.fullmatch(r"([a-z][a-z_\d]*)=(.*)", span):
        name, value = argument.groups()
        has_call = re.search(r"\w\(", value)
        return name in PARAMETERS and (not has_call or is_right(value))
    return is_command(span)


def test_names_in_the_text_exist():
    lines = [
        line
        for line in documents.text().splitlines()
        if not line.startswith("|")
    ]
    found = {*documents.spans("\n".join(lines))}
    assert {span for span in found if not is_known(span)} == set()
    assert found >= OTHER_WORDS


@pytest.mark.parametrize(
    "span",
    [
        "attach_penalties",
        "penalties.L3",
        "PI(gains=1.0)",
        "rule=GECO(rates=0.5)",
        "logs_dir=None",
        "tests/test_nothing.py",
        "python -m benchmarks.nothing",
        'pip install ".[nothing]"',
        "HYPOTHESIS_NOTHING=1 python -m pytest tests/contract/"
        "test_random_models.py",
    ],
)
def test_wrong_names_are_found(span):
    assert not is_known(span)


def test_what_saelens_has():
    """Names in the column that says what to take here exist."""
    plain = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, name="dense_4")]
    )
    for _, here, _ in documents.table("in SAELens", "here", "why"):
        for span in documents.spans(here):
            if span.startswith("keras.Model("):
                found = eval(span, {"keras": keras, "plain": plain})
                assert found.output_shape == (None, 3)
            else:
                assert is_known(span)


def test_lists_of_names_are_whole():
    below = documents.text().partition("The names are ")[2].partition("\n")[0]
    assert [*map(str, documents.spans(below))] == [*STATES]
    examples = documents.text().partition("benchmarks.examples.NAME`")[2]
    named = documents.spans(examples.partition("\n")[0])
    files = {path.stem for path in (ROOT / "benchmarks/examples").glob("*.py")}
    assert {*named} - {"keras.applications"} == files - {
        "__init__",
        "command_line",
    }


def test_numbers_in_the_text():
    """Those that no table and no command above has."""

    def said(pattern):
        (found,) = {*re.findall(pattern, documents.text())}
        return found

    assert said(r"Python ([\d.]+) or newer") == (
        PROJECT["requires-python"].removeprefix(">=")
    )
    oldest = said(r"Keras ([\d.]+) or newer")
    assert f"keras>={oldest}" in PROJECT["dependencies"]
    default = inspect.signature(PenaltyMonitor).parameters["statistics_freq"]
    assert int(said(r"`statistics_freq=(\d+)`")) == default.default
    assert said(r"with (\w+) coefficients from") == "five"
    assert len(sweep.log_spaced(1e-3)) == 5
    for profile, graphs in (
        ("ci", said(r"random graphs, (\d+) on each")),
        ("nightly", said(r"tries ([\d,]+) of them").replace(",", "")),
    ):
        assert settings.get_profile(profile).max_examples == int(graphs)


def test_changelog_has_all_that_is_public():
    text = changelog()
    for name in keras_actpen.__all__:
        assert f"`{name}`" in text
    (commands,) = [
        action.choices
        for action in __main__._parser()._actions
        if isinstance(action.choices, dict)
    ]
    for command, parser in commands.items():
        assert f"`keras-actpen {command}" in text
        for option in parser._option_string_actions:
            if option not in ("-h", "--help"):
                assert f"{option}`" in text or f"{option} " in text
    (first,) = re.findall(r"(\d+) penalties of the", text)
    later = {*re.findall(r"^- `penalties\.([A-Z]\w*)`", text, re.M)}
    assert later < CLASSES
    assert int(first) + len(later) == len(CLASSES)


def test_contributing_names_what_there_is():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = {
        *re.findall(r"(?:tests|keras_actpen|benchmarks|docs)/[\w./]+", text)
    }
    assert len(named) > 20
    assert {path for path in named if not (ROOT / path).exists()} == set()
    markers = re.findall(r"^\| `(\w+)` \|", text, re.M)
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    registered = tools["pytest"]["ini_options"]["markers"]
    assert {*markers} == {one.partition(":")[0] for one in registered}
    (each,) = re.findall(r'`EACH="(.*)"`', text)
    assert f'EACH_BACKEND="{each}"' in (ROOT / ".ci" / "run").read_text()
    for profile, said in (
        ("ci", r"`ci`, the default, ([\d,]+) in a test"),
        ("nightly", r"`nightly` ([\d,]+), other ones"),
    ):
        (examples,) = re.findall(said, text)
        expected = settings.get_profile(profile).max_examples
        assert int(examples.replace(",", "")) == expected
