"""The scripts of benchmarks/examples do what they show, with few steps."""

import importlib
import inspect
import runpy
import sys
from pathlib import Path

import documents
import pytest

from benchmarks.examples import command_line

pytestmark = pytest.mark.one_backend

EXAMPLES = Path(__file__).parents[2] / "benchmarks" / "examples"
NAMES = sorted(
    path.stem
    for path in EXAMPLES.glob("*.py")
    if path.stem not in ("__init__", "command_line")
)

SHARES = (
    "dead",
    "log10 of the rate < -3",
    "from -3 to -2",
    "from -2 to -1",
    "from -1 to 0",
)


def ran(name):
    """What an example measures without and with its penalty."""
    example = importlib.import_module(f"benchmarks.examples.{name}")
    plain, penalized = example.run(**example.QUICK).values()
    assert plain.keys() == penalized.keys()
    return plain, penalized


def test_every_example_is_tested():
    tests = [name for name in globals() if name.startswith("test_")]
    assert {f"test_{name}" for name in NAMES} <= set(tests)


def test_language_model():
    plain, penalized = ran("language_model")
    square, change, head, perplexity = plain
    # AR and TAR are 2 times the one plus the other: both fall.
    assert penalized[square] < 0.5 * plain[square]
    assert penalized[change] < 0.8 * plain[change]
    assert penalized[head] < 0.8 * plain[head]
    assert penalized[perplexity] < 1.1 * plain[perplexity]


def test_sparse_resnet():
    plain, penalized = ran("sparse_resnet")
    zeros, mean, loss = plain
    assert penalized[zeros] > plain[zeros] + 0.02
    assert penalized[mean] < 0.7 * plain[mean]
    assert penalized[loss] > plain[loss]


def test_z_loss():
    plain, penalized = ran("z_loss")
    log_z, accuracy = plain
    assert penalized[log_z] < 0.8 * plain[log_z]
    assert penalized[accuracy] > plain[accuracy] - 0.05


def test_sparse_autoencoder():
    plain, penalized = ran("sparse_autoencoder")
    activation, error, _, attached = plain
    rate = importlib.import_module(
        "benchmarks.examples.sparse_autoencoder"
    ).RATE
    assert abs(penalized[activation] - rate) < 0.2 * abs(
        plain[activation] - rate
    )
    # The encoder holds what the training taught, and no penalty.
    assert penalized[error] < 0.1
    assert penalized[attached] == plain[attached] == 0


def test_dead_features():
    example = importlib.import_module("benchmarks.examples.dead_features")
    plain, *remedies = example.run(**example.QUICK).values()
    dead, l0, variance = plain
    assert plain[dead] > 0.05
    assert len(remedies) == 2
    for one in remedies:
        assert one[dead] < 0.75 * plain[dead]
        assert one[l0] < 1.2 * plain[l0]
        assert one[variance] > plain[variance] - 0.05


def test_sparse_features():
    pytest.importorskip("keras_hub")
    example = importlib.import_module("benchmarks.examples.sparse_features")
    rows = example.run(**example.QUICK)
    measures, *columns = zip(*documents.table("", *rows), strict=True)
    for title, column in zip(rows, columns, strict=True):
        assert [*rows[title]] == [*measures]
        # What the docs say and what these few steps find.
        for found in (dict(zip(measures, column, strict=True)), rows[title]):
            shares = [float(found[one]) for one in SHARES]
            assert sum(shares) == pytest.approx(1.0, abs=1e-3)
            assert float(found["largest deviation"]) < 1e-5
            assert float(found["decoder rows, shortest"]) == pytest.approx(1.0)
            assert float(found["decoder rows, longest"]) == pytest.approx(1.0)


def test_bert_classifier():
    pytest.importorskip("keras_hub")
    plain, penalized = ran("bert_classifier")
    square, padded, _ = plain
    assert penalized[square] < 0.98 * plain[square]
    for row in (plain, penalized):
        # Another shape may add up in another order.
        assert row[padded] == pytest.approx(row[square], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_scripts(name, monkeypatch):
    if name in ("bert_classifier", "sparse_features"):
        pytest.importorskip("keras_hub")
    calls = []
    monkeypatch.setattr(command_line, "main", lambda *args: calls.append(args))
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    ((run, _, full, quick),) = calls
    parameters = set(inspect.signature(run).parameters)
    assert parameters == set(full) == set(quick)


@pytest.mark.parametrize(
    ("arguments", "shown"), [([], "0.25"), (["--quick"], "0.125")]
)
def test_command_line(arguments, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["example", *arguments])

    def run(steps):
        return {
            "plain": {"a measure": 1.0},
            "penalty": {"a measure": 1 / steps},
        }

    command_line.main(run, "An example.", {"steps": 4}, {"steps": 8})
    lines = capsys.readouterr().out.splitlines()
    assert [word for word in lines[1].split() if word.isalpha()] == [
        "plain",
        "penalty",
    ]
    assert [word for word in lines[3].split() if word != "|"] == [
        "a",
        "measure",
        "1",
        shown,
    ]
