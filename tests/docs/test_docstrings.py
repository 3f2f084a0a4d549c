"""Every example in a docstring runs, and public ones say all they should."""

import ast
import doctest
import importlib
import inspect
import math
import re
import textwrap
from pathlib import Path

import keras
import pytest
from models import QUICK, data, sequential

import keras_actpen
from keras_actpen import attach_penalty, penalties

pytestmark = pytest.mark.one_backend

PACKAGE = Path(keras_actpen.__file__).parent
FILES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__main__"  # runs the command line
)


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def docstrings(path):
    """Docstrings of a file's module, classes and functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def fenced(path):
    """Blocks of code between fences in the docstrings of a file."""
    for text in docstrings(path):
        for block in re.findall(r"```python\n(.*?)```", text, re.S):
            yield textwrap.dedent(block)


WITH_PROMPTS = [
    path for path in FILES if any(">>> " in text for text in docstrings(path))
]
BLOCKS = [(name_of(path), block) for path in FILES for block in fenced(path)]


@pytest.mark.parametrize("path", WITH_PROMPTS, ids=name_of)
def test_examples_with_prompts(path):
    module = importlib.import_module(name_of(path))
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize(
    ("module", "block"),
    BLOCKS,
    ids=[f"{module}-{i}" for i, (module, _) in enumerate(BLOCKS)],
)
def test_examples_between_fences(module, block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = data()
    model = sequential()
    model.compile("sgd", "mse", **QUICK)
    if "attach_penalty(" not in block:
        model = attach_penalty(model, "dense_4", l2=0.1)
    namespace = {
        **{name: getattr(keras_actpen, name) for name in keras_actpen.__all__},
        "keras_actpen": keras_actpen,
        "keras": keras,
        "math": math,
        "schedules": keras.optimizers.schedules,
        "model": model,
        "x": x,
        "y": y,
    }
    exec(compile(block, module, "exec"), namespace)


@pytest.mark.parametrize("name", keras_actpen.__all__)
def test_public_names_have_an_example(name):
    one = getattr(keras_actpen, name)
    if inspect.ismodule(one):
        return
    text = inspect.getdoc(one)
    assert ">>> " in text or "```python" in text


PUBLIC = {
    one.__name__: one
    for module in (keras_actpen, penalties)
    for one in map(vars(module).get, module.__all__)
    if callable(one)
}


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - {"Finding"}))
def test_public_names_say_what_they_take_and_raise(name):
    text = inspect.getdoc(PUBLIC[name])
    assert "\nArgs:\n" in text
    assert "\nRaises:\n" in text


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, one in PUBLIC.items()
        if isinstance(one, type)
        and issubclass(one, penalties.Penalty)
        and name not in ("Penalty", "FunctionPenalty")
    ],
)
def test_penalties_have_a_formula_and_a_source(name):
    text = inspect.getdoc(PUBLIC[name])
    assert re.search(r"`-?coefficient \*", text)
    paper = re.search(r"[A-Z].* (19|20)\d\d, \"[A-Z]", " ".join(text.split()))
    assert paper or "no paper of its own" in text
