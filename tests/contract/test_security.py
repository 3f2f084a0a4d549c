"""Files and names that someone else chose cannot do what they should not."""

import ast
import re
import socket
import warnings
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest
from event_logs import read
from keras import layers
from models import QUICK, data, sequential
from tensorboard.plugins.custom_scalar import layout_pb2

import keras_actpen
from keras_actpen import PenaltyMonitor, attach_penalty, penalties

pytestmark = pytest.mark.one_backend

with warnings.catch_warnings():
    # TensorBoard's copy of bleach imports what html5lib deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from tensorboard.plugins.text.text_plugin import process_event

PACKAGE = Path(keras_actpen.__file__).parent

# --- files -------------------------------------------------------------------

SAFE_MODE = (
    "Requested the deserialization of a Python lambda. This carries a "
    "potential risk of arbitrary code execution and thus it is disallowed by "
    "default. If you trust the source of the artifact, you can override this "
    "error by passing `safe_mode=False` to the loading function, or calling "
    "`keras.config.enable_unsafe_deserialization()."
)


@pytest.fixture
def foreign_file(tmp_path):
    """A `.keras` file whose penalty is a lambda."""
    model = attach_penalty(
        sequential(),
        "dense_4",
        lambda h: 0.5 * __import__("keras").ops.sum(h * h),
    )
    with warnings.catch_warnings():
        # Keras's own hint that the file will need `safe_mode=False`.
        warnings.simplefilter("ignore", UserWarning)
        model.save(tmp_path / "foreign.keras")
    return tmp_path / "foreign.keras"


def test_a_lambda_is_refused_in_safe_mode(foreign_file):
    path = foreign_file
    with pytest.raises(ValueError, match=f"^{re.escape(SAFE_MODE)}$"):
        keras.models.load_model(path)


def test_a_lambda_is_loaded_without_safe_mode(foreign_file):
    path = foreign_file
    loaded = keras.models.load_model(path, safe_mode=False)
    (function,) = (
        term.penalty.function
        for term in loaded.get_layer("dense_4").terms.values()
    )
    assert function(np.array([1.0, 3.0])) == 5.0
    assert loaded.get_layer("dense_4").coefficients == {"lambda": 1.0}


@pytest.mark.parametrize("read", [penalties.get, penalties.deserialize])
def test_a_lambda_in_a_description_is_refused(read):
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        config = penalties.serialize(penalties.get(lambda h: h.sum()))
    with pytest.raises(ValueError, match=f"^{re.escape(SAFE_MODE)}$"):
        read(config)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("keras.utils", "get_file")],
)
def test_functions_outside_keras_are_refused(module, name):
    config = {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }
    with pytest.raises(
        (TypeError, ValueError), match=r"Could not locate|Cannot"
    ):
        penalties.get(config)


# --- names -------------------------------------------------------------------

MARKUP = [
    "a|b",
    "<b>bold",
    "<script>alert(1)",
    "<img src=x onerror=alert(1)>",
    'it\'s "quoted"',
    "[link](javascript:alert(1))",
    "![image](x.png)",
    "**strong**",
    "_slanted_ __c__",
    "`code|span`",
    "&lt;b&gt; &amp; #h",
    "back\\slash\\|",
    "100%s {0} $HOME",
]
ODD_NAMES = [
    "..",
    "..\\..\\x",
    "a\nb",
    "a\n\n| x | y |\n|---|---|",
    "tab\tnul\0bell\a",
    "Größe 層 e\u0301",
    "\u202eright to left",
    "with some spaces",
    "x" * 1000,
    *MARKUP,
]
LAYER_NAMES = [*ODD_NAMES, "-", "_", "__dunder__", "con", "a..b"]
# What Keras itself can train on the backend.
if keras.backend.backend() == "tensorflow":
    LAYER_NAMES = [n for n in LAYER_NAMES if re.fullmatch(r"[\w.-]+", n, re.A)]
elif keras.backend.backend() == "torch":
    LAYER_NAMES = [n for n in LAYER_NAMES if "." not in n]


class Page(HTMLParser):
    """Cells of the table's rows, and the names of all tags and attributes."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.tags, self.attributes = [], set(), set()
        self.cell = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append("".join(self.cell))
            self.cell = None


def printed(name):
    """A name as the table shows it: control characters as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory):
    """Directory, paths of the terms, history of a model with odd names."""
    directory = tmp_path_factory.mktemp("outside")
    tensor = inputs = keras.Input((4,))
    for name in LAYER_NAMES:
        tensor = layers.Dense(2, name=name)(tensor)
    model = keras.Model(inputs, tensor)
    model.compile("sgd", "mse", **QUICK)
    named = [penalties.L2(0.1, name=name) for name in ODD_NAMES]
    terms = {name: [] for name in LAYER_NAMES}
    for i, penalty in enumerate(named):
        terms[LAYER_NAMES[i % len(LAYER_NAMES)]].append(penalty)
    terms = {name: given for name, given in terms.items() if given}
    model = attach_penalty(model, terms)
    x, y = data()
    monitor = PenaltyMonitor(directory / "logs", statistics_freq=1)
    history = model.fit(x, y, verbose=0, callbacks=[monitor]).history
    paths = [
        f"{layer}/{penalty.name}"
        for layer, given in terms.items()
        for penalty in given
    ]
    return directory, paths, history


@pytest.mark.every_backend
def test_names_stay_in_the_log_directory(odd_names):
    directory, paths, history = odd_names
    found = {path.relative_to(directory) for path in directory.rglob("*")}
    folders = ["logs", "logs/actpen", "logs/actpen/train"]
    folders += ["logs/actpen/hparams"]
    assert found > {Path(folder) for folder in folders}
    files = found - {Path(folder) for folder in folders}
    assert {str(file.parent) for file in files} <= set(folders)
    assert all(".tfevents." in file.name for file in files)
    assert {f"penalty/{path}" for path in paths} <= set(history)


@pytest.mark.every_backend
def test_names_in_tags(odd_names):
    directory, paths, history = odd_names
    train = read(directory / "logs")["actpen/train"]
    for path in paths:
        (value,) = train[f"penalty/{path}"].values
        assert float(value) == pytest.approx(history[f"penalty/{path}"][0])
        assert f"penalty.coefficient/{path}" in train
    for path in {path.partition("/")[0] for path in paths}:
        assert train[f"activation.mean/{path}"].plugin == "scalars"
        assert train[f"activation.values/{path}"].plugin == "histograms"
    # The charts match by regular expressions.
    layout = layout_pb2.Layout()
    (content,) = train["custom_scalars__config__"].values
    layout.ParseFromString(content.item())
    charts = {
        pattern: [tag for tag in train if re.match(pattern, tag)]
        for category in layout.category
        for chart in category.chart
        for pattern in chart.multiline.tag
    }
    # A chart shows one layer: one tag, or those of its terms.
    for found in charts.values():
        assert len({tag.rpartition("/")[0] for tag in found}) == 1
        assert len(found) == 1 or found[0].startswith("penalty")
    shown = {tag for found in charts.values() for tag in found}
    assert shown >= {f"penalty/{path}" for path in paths}


@pytest.mark.every_backend
def test_names_on_the_text_page(odd_names):
    directory, paths, _ = odd_names
    (text,) = read(directory / "logs")["actpen/train"]["actpen/attached"].values
    page = Page(process_event(0, 0, text, enable_markdown=True)["text"])
    head, *rows = page.rows
    assert all(len(row) == len(head) == 6 for row in rows)
    shown = [f"{layer}/{term}" for layer, _, _, _, term, *_ in rows]
    # Leading and trailing white space is no part of a cell.
    assert shown == [printed(path) for path in paths]
    # Nothing that a name could have brought.
    assert page.tags == {
        *("p", "table", "thead", "tbody", "tr", "th", "td"),
        *("ul", "li", "strong", "code"),
    }
    assert not page.attributes


# --- the code ----------------------------------------------------------------

# Importing one of these is how code, or the network, would come in.
FORBIDDEN = {
    *("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"),
    *("socket", "ssl", "http", "urllib", "requests", "ftplib", "smtplib"),
    *("ctypes", "subprocess", "multiprocessing"),
}
ALLOWED = {
    # For the name of the machine alone.
    "event_file": {"socket"},
    "hparams_row": {"socket"},
    # The command line starts TensorBoard and asks whether it answers.
    "server": {"subprocess", "urllib"},
    # The demo in a process of its own, for a backend of its own.
    "__main__": {"subprocess"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_code_from_data_and_no_network(path):
    tree = ast.parse(path.read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert imported & FORBIDDEN == ALLOWED.get(path.stem, set())
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile", "__import__"}
    of_socket = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) == "socket"
    }
    assert of_socket <= {"gethostname"}


def test_no_network(tmp_path, monkeypatch):
    opened = []

    def refuse(*args, **kwargs):
        opened.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model = sequential()
    model.compile("sgd", "mse", **QUICK)
    model = attach_penalty(model, "dense_4", l2=0.1)
    x, y = data()
    model.fit(
        *(x, y),
        validation_data=(x, y),
        verbose=0,
        callbacks=[PenaltyMonitor(tmp_path)],
    )
    with pytest.raises(OSError, match="no network"):
        socket.socket()
    assert len(opened) == 1
    assert "penalty/dense_4/l2" in read_back(tmp_path)


def read_back(directory):
    return read(directory)["actpen/train"]
