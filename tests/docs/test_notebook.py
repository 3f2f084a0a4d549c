"""The cells of the notebook in docs run, and show what they should."""

import ast
import json

import keras
import pytest
from paths import ROOT

import keras_actpen

pytestmark = pytest.mark.one_backend

CELLS = json.loads((ROOT / "docs" / "ten_cells.ipynb").read_text())["cells"]


def shown(source, namespace):
    """Run a cell; what its last line is, as a notebook shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


def test_cells_run_in_order(tmp_path, monkeypatch, capsys):
    assert len(CELLS) == 10
    monkeypatch.chdir(tmp_path)
    namespace = {}
    outputs = [
        shown("".join(cell["source"]), namespace)
        for cell in CELLS
        if cell["cell_type"] == "code"
    ]
    assert "hidden" in capsys.readouterr().out
    _, before, l1, _, after, report, figure, detached = outputs
    assert namespace["l1"] == l1 > 0
    assert after["accuracy"] > before["accuracy"] - 0.02
    assert "<pre" in report._repr_html_()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert detached["accuracy"] == pytest.approx(after["accuracy"])
    loaded = keras.models.load_model("sparse_digits.keras")
    assert not keras_actpen.penalized_layers(loaded)


def test_cells_hold_no_output():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code)
