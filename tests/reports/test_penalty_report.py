"""Tables for terminals and notebooks: penalty_summary and penalty_report."""

import builtins
import contextlib
import io
import math
import re
import sys
import types

import keras
import numpy as np
import pytest
from keras import layers
from models import (
    MODELS,
    QUICK,
    data,
    data_for,
    nested,
    sequential,
)
from rich.console import Console

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    penalized_layers,
    penalty_gradient_share,
    penalty_report,
    penalty_summary,
    penalty_terms,
    suggest_coefficient,
    watch_activations,
)
from keras_actpen.reports.tables import LayerTable


def printed(function, *args):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        function(*args)
    return out.getvalue()


def penalized(model, **compiled):
    model = attach_penalty(model, "dense_4", l1=0.01, l2=0.02)
    model.compile("sgd", "mse", **compiled, **QUICK)
    return model


# Values ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["nested", "shared", "by_keys", "users_class", "subclassed"]
)
def test_values_are_those_of_evaluate(kind):
    model = penalized(MODELS[kind]())
    x, y = data_for(model, samples=10)
    expected = model.evaluate(
        x,
        y,
        batch_size=4,
        verbose=0,
        return_dict=True,
        callbacks=[PenaltyMonitor(None)],
    )
    report = penalty_report(model, x, y, batch_size=4)
    assert report.samples == 10
    np.testing.assert_allclose(report.loss, expected["loss"], rtol=1e-5)
    (layer,) = report.layers
    for term in layer.terms:
        value = expected[f"penalty/{layer.path}/{term.name}"]
        np.testing.assert_allclose(term.value, value, rtol=1e-5)
        np.testing.assert_allclose(
            term.loss_share, value / expected["loss"], rtol=1e-5
        )
    first = penalty_gradient_share(
        model,
        *keras.tree.map_structure(lambda array: array[:4], (x, y)),
        training=False,
    )
    assert {
        f"{layer.path}/{term.name}": term.gradient_share for term in layer.terms
    } == pytest.approx(first, rel=1e-5)


def test_statistics_are_those_of_all_activations():
    model = watch_activations(sequential(), "dense_4")
    x, _ = data(50)
    inner = keras.Model(model.inputs, model.get_layer("dense_4").output)
    h = np.asarray(inner.predict(x, verbose=0), "float64")
    (layer,) = penalty_report(model, x, batch_size=16).layers
    assert (layer.path, layer.layer_class, layer.output_shape) == (
        "dense_4",
        "Dense",
        "(None, 8)",
    )
    assert layer.terms == ()
    statistics = layer.statistics["output"]
    expected = {
        "mean": h.mean(),
        "std": h.std(),
        "min": h.min(),
        "max": h.max(),
        "rms": np.sqrt((h**2).mean()),
        "zero_fraction": (h == 0).mean(),
        "dead_fraction": (h == 0).all(axis=0).mean(),
        "nonfinite": 0.0,
    }
    assert {name: statistics[name] for name in expected} == pytest.approx(
        expected, rel=1e-5
    )


def test_training_of_dropout_and_nothing_is_changed():
    model = attach_penalty(sequential(), "drop", l2=0.1)
    model.compile("sgd", "mse", **QUICK)
    x, y = data(64)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    # At rate 0.25: relu's zeros stay, a quarter of the others is added.
    quiet = penalty_report(model, x, y).layers[0].statistics["output"]
    noisy = penalty_report(model, x, y, training=True)
    zeros = noisy.layers[0].statistics["output"]["zero_fraction"]
    assert zeros > quiet["zero_fraction"] + 0.05
    after = [keras.ops.convert_to_numpy(v) for v in model.variables]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_masked_steps_are_left_out():
    inputs = keras.Input((3, 2))
    x = layers.Masking()(inputs)
    outputs = layers.Dense(1, name="dense_4")(x)
    model = attach_penalty(keras.Model(inputs, outputs), "dense_4", l1=1.0)
    x = np.ones((4, 3, 2), "float32")
    x[:, 2] = 0
    (layer,) = penalty_report(model, x).layers
    h = keras.ops.convert_to_numpy(model(x))[:, :2]
    statistics = layer.statistics["output"]
    assert statistics["mean"] == pytest.approx(h.mean(), rel=1e-6)
    terms = penalty_terms(model, x)
    assert layer.terms[0].value == pytest.approx(terms["dense_4/l1"], rel=1e-6)


@pytest.mark.parametrize("why", ["not compiled", "no targets"])
def test_shares_that_are_not_known(why):
    model = attach_penalty(sequential(), "dense_4", l2=0.1)
    x, y = data()
    if why == "no targets":
        y = None
        model.compile("sgd", "mse")
    report = penalty_report(model, x, y)
    ((term,),) = (layer.terms for layer in report.layers)
    assert math.isnan(report.loss)
    assert math.isnan(term.loss_share)
    assert math.isnan(term.gradient_share)
    expected = penalty_terms(model, x)["dense_4/l2"]
    assert term.value == pytest.approx(expected, rel=1e-6)
    assert " ".join(str(report).split()).endswith(
        "Shares of the loss and of the gradient are not known: they need a "
        "compiled model, the targets `y` and a loss that is not NaN. There "
        "are too few samples to judge which units are dead: it takes 100 per "
        "unit. No other findings."
    )


# Findings --------------------------------------------------------------------


def with_dead_units(dead):
    model = sequential()
    dense = model.get_layer("dense_4")
    kernel, bias = dense.get_weights()
    bias[:] = 10.0
    bias[:dead] = -1000.0
    dense.set_weights([kernel, bias])
    return model


def test_too_few_samples_to_call_a_unit_dead(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    model = attach_penalty(with_dead_units(8), "dense_4", l2=1e-2)
    model.compile("sgd", "mse", **QUICK)
    x, y = data(99)
    report = penalty_report(model, x, y, alerts=("dead",))
    assert report.layers[0].unjudged == ("output",)
    *_, row = (line for line in str(report).splitlines() if "│" in line)
    assert row.strip("│").split("│")[-1].strip() == "too few samples"
    assert str(report).splitlines()[-2:] == [
        "There are too few samples to judge which units are dead: it takes "
        "100 per unit.",
        "No other findings.",
    ]
    x, y = data(100)
    assert "100 % of units are dead" in str(
        penalty_report(model, x, y, alerts=("dead",))
    )


def test_a_penalty_that_changes_no_weight():
    model = attach_penalty(sequential(), ["dense_4", "head"], l2=0.1)
    model.compile("sgd", "mse", **QUICK)
    x, y = data(100)
    for layer in model.layers:
        layer.trainable = layer.name == "head"
    report = penalty_report(model, x, y, alerts=("frozen",))
    assert [(one.kind, one.path) for one in report.findings] == [
        ("frozen", "dense_4")
    ]
    shares = penalty_gradient_share(model, x, y)
    assert shares["dense_4/l2"] == 0.0
    assert shares["head/l2"] > 0
    assert report.layers[0].terms[0].gradient_share == 0.0
    message = (
        "Invalid value received for argument `layers`. Expected a layer with "
        "something trainable in front of it or in it: a penalty on "
        "['dense_4'] changes no weight, whatever its coefficient. Received: "
        "layers='dense_4'"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        suggest_coefficient(model, "dense_4", "l2", x, y)
    assert suggest_coefficient(model, "head", "l2", x, y) > 0


def test_findings_in_plain_words():
    model = attach_penalty(with_dead_units(2), "dense_4", l2=1.0)
    model.compile("sgd", "mse", **QUICK)
    x, y = data(100)
    report = penalty_report(model, x, y)
    share = report.layers[0].terms[0].loss_share
    assert share > 0.5
    assert [one.kind for one in report.findings] == ["dead", "dominating"]
    assert str(report).splitlines()[-1] == (
        "dense_4: 25 % of units are dead; the penalty is "
        f"{100 * share:.0f} % of the loss"
    )
    quiet = penalty_report(
        model, x, y, alerts={"dead": 0.3, "dominating": None}
    )
    assert quiet.findings == ()
    assert str(quiet).splitlines()[-1] == "No findings."
    (only,) = penalty_report(model, x, y, alerts=("dead",)).findings
    assert only.kind == "dead"


DATA = (
    "data as `model.evaluate` takes it: arrays with one row per sample, as "
    "many targets as inputs; or a tf.data.Dataset, a PyDataset, a DataLoader "
    "or a generator of batches `(inputs, targets)`, without `y` and "
    "`sample_weight`"
)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"batch_size": 0},
            ValueError,
            "Invalid value received for argument `batch_size`. Expected an "
            "integer >= 1. Received: batch_size=0",
        ),
        (
            {"batch_size": 2.0},
            TypeError,
            "Invalid type received for argument `batch_size`. Expected an "
            "integer >= 1. Received: batch_size=2.0 (of type float)",
        ),
        (
            {"x": np.zeros((0, 4))},
            ValueError,
            "Invalid value received for argument `x`. Expected at least one "
            "sample. Received: x without any",
        ),
        (
            {"x": 3.0},
            ValueError,
            f"Invalid value received for argument `x`. Expected {DATA}. "
            "Received: x=3.0",
        ),
        (
            {"x": np.zeros((40, 4)), "y": np.zeros((30, 2))},
            ValueError,
            f"Invalid values received for arguments `x` and `y`. Expected "
            f"{DATA}. Received: x=<array of shape (40, 4) and dtype float64>, "
            "y=<array of shape (30, 2) and dtype float64>",
        ),
        (
            {"x": np.zeros((4, 4)), "steps": 0},
            ValueError,
            "Invalid value received for argument `steps`. Expected an integer "
            ">= 1. Received: steps=0",
        ),
        (
            {"x": np.zeros((4, 4)), "verbose": "loud"},
            ValueError,
            "Invalid value received for argument `verbose`. Expected one of "
            "('auto', 0, 1, 2). Received: verbose='loud'",
        ),
        (
            {"model": sequential},
            ValueError,
            "Invalid value received for argument `model`. Expected a model "
            "with penalized or watched layers: call `attach_penalty(model, "
            "...)` or `watch_activations(model, ...)` first and use the model "
            "that it returns. Received: 'sequential_model'",
        ),
    ],
)
def test_wrong_arguments(arguments, kind, message):
    model = arguments.get("model", lambda: penalized(sequential()))()
    rest = {"x": data()[0], **arguments}
    rest.pop("model", None)
    with pytest.raises(kind) as caught:
        penalty_report(model, **rest)
    assert str(caught.value) == message


# How it is shown -------------------------------------------------------------

LONG = "feature_extractor_of_the_left_eye/multi_head_attention_projection"


def long_paths():
    inputs = keras.Input((4,), name="features")
    folder, name = LONG.split("/")
    outputs = layers.Dense(6, name=name)(inputs)
    inner = keras.Model(inputs, outputs, name=folder)
    outer = keras.Input((4,))
    return keras.Model(outer, layers.Dense(2, name="head")(inner(outer)))


def test_paths_are_whole_at_any_width(monkeypatch):
    model = attach_penalty(long_paths(), [LONG, "head"], l1=0.1, l2=0.25)
    report = penalty_report(model, data()[0], alerts=())
    for width in (80, 100, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        for text in (printed(penalty_summary, model), str(report)):
            lines = text.splitlines()
            assert max(map(len, lines)) <= width
            assert [line for line in lines if LONG in line]
            for word in ("l1", "l2", "0.1", "0.25", "output"):
                assert sum(word in line.split() for line in lines) >= 2, word


def test_layout_of_a_narrow_summary(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    model = attach_penalty(long_paths(), LONG, l1=0.1, l2=0.25)
    model = watch_activations(model, "head")
    lines = printed(penalty_summary, model).splitlines()
    assert [line.rstrip() for line in lines] == [
        f"Penalties of model {model.name!r}",
        "  Class  Output shape  On      Term     Coefficient",
        LONG,
        "  Dense  (None, 6)     output  l1               0.1",
        "  Dense  (None, 6)     output  l2              0.25",
        "head",
        "  Dense  (None, 2)     output  watched",
    ]


def test_summary_of_a_length_by_a_function(monkeypatch):
    """Both as in `model.summary`."""
    monkeypatch.setenv("COLUMNS", "80")
    model = attach_penalty(long_paths(), LONG, l1=0.1)
    texts = []
    wide = printed(penalty_summary, model, 160)
    assert printed(lambda: penalty_summary(model, 160, texts.append)) == ""
    assert texts == [wide.rstrip("\n")]
    assert "│ output │" in wide
    penalty_summary(model, print_fn=texts.append)
    assert "│" not in texts[1]
    with pytest.raises(ValueError, match=r"`line_length`\. Expected an int"):
        penalty_summary(model, line_length=0)


def test_brackets_are_not_markup(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    model = keras.Sequential(
        [keras.Input((2, 3)), layers.LSTM(2, return_state=True, name="lstm")]
    )
    model = attach_penalty(model, "lstm", l2=1.0, output="all")
    assert "│ output[all] │" in printed(penalty_summary, model)
    table = LayerTable("[bold]title[/bold]", [("[red]", "left")])
    table.add_row("[blue]path", "[i]cell")
    text = str(table)
    assert "[bold]title[/bold]" in text
    assert all(word in text for word in ("[red]", "[blue]path", "[i]cell"))


def test_a_table_narrower_than_its_cells_still_shows_them():
    table = LayerTable("title", [("Words", "left"), ("Number", "right")])
    table.add_row("path", "ABCDEFGHIJ" * 3, "1234567890")
    console = Console(width=24, file=io.StringIO())
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 24
    shown = "".join(line.strip() for line in lines)
    for character in "ABCDEFGHIJ":
        assert shown.count(character) == 3


@pytest.fixture(scope="module")
def report():
    keras.utils.set_random_seed(7)
    model = attach_penalty(nested(), "encoder/dense_4", l1=0.01, l2=0.02)
    model = attach_penalty(model, "unfold", l2=0.1, on="preactivation")
    model = watch_activations(model, "code")
    model.compile("sgd", "mse", **QUICK)
    return penalty_report(model, *data(100), alerts=())


def test_table_of_a_report(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in str(report).splitlines()
        if line.startswith("│")
    ]
    expected = []
    for layer in report.layers:
        for on, statistics in layer.statistics.items():
            shares = [
                f"{100 * statistics[name]:.0f} %"
                for name in ("zero_fraction", "dead_fraction")
            ]
            expected += [
                [
                    layer.path,
                    on,
                    term.name,
                    f"{term.coefficient:g}",
                    f"{term.value:.4g}",
                    f"{100 * term.loss_share:.0f} %"
                    if term.loss_share >= 0.01
                    else f"{100 * term.loss_share:.2g} %",
                    f"{term.gradient_share:.2g}",
                    *shares,
                ]
                for term in layer.terms
            ] or [[layer.path, on, "watched", "", "", "", "", *shares]]
    assert rows == expected
    assert [row[0] for row in rows] == [
        "encoder/dense_4",
        "encoder/dense_4",
        "encoder/code",
        "decoder/unfold",
    ]


def test_report_prints_alike_everywhere(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert printed(print, report) == str(report) + "\n"
    assert repr(report) == str(report)
    console = Console(file=io.StringIO())
    console.print(report)
    assert console.file.getvalue() == str(report) + "\n"


def text_of(html):
    """What a browser shows of a pre element with spans."""
    entities = {"&lt;": "<", "&gt;": ">", "&#x27;": "'", "&quot;": '"'}
    text = re.sub(r"<[^>]+>", "", html)
    for entity, character in entities.items():
        text = text.replace(entity, character)
    return text.replace("&amp;", "&")


def test_report_is_html_in_a_notebook(report, monkeypatch):
    monkeypatch.setenv("COLUMNS", "240")
    html = report._repr_html_()
    assert html.startswith("<pre ")
    assert text_of(html).rstrip() == str(report)


def test_summary_is_html_in_a_notebook(monkeypatch):
    """As in a Jupyter kernel, which rich knows by the class of its shell."""
    shown = []

    class ZMQInteractiveShell:
        pass

    display = types.ModuleType("IPython.display")
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(
        builtins, "get_ipython", ZMQInteractiveShell, raising=False
    )
    model = attach_penalty(long_paths(), LONG, l1=0.1)
    assert printed(penalty_summary, model) == ""
    (one,) = shown
    mime = one._repr_mimebundle_(include=(), exclude=())
    assert mime["text/html"].startswith("<pre ")
    assert LONG in text_of(mime["text/html"])
    assert LONG in mime["text/plain"]


def test_coefficients_are_those_of_now():
    model = penalized(sequential())
    penalized_layers(model)["dense_4"].coefficients["l1"] = 0.0
    x, y = data()
    terms = penalty_report(model, x, y).layers[0].terms
    assert [(t.name, t.coefficient) for t in terms] == [
        ("l1", 0.0),
        ("l2", pytest.approx(0.02)),
    ]
    assert terms[0].value == 0.0
    assert terms[1].value > 0.0
