"""Logs that are old, strange, damaged or not there."""

import json

import numpy as np
import pytest
from tab_client import TabClient, provider_of
from tab_logs import (
    LoggedLayer,
    LoggedTraining,
    digits_layers,
    finding,
    scalar,
    tensor,
    write_event,
)

from keras_actpen_tensorboard import schema

pytestmark = pytest.mark.one_backend

RUN = "actpen/train"
STRANGE = (
    "a'b\"c",
    "<img src=x onerror=alert(1)>",
    "q[0]/*",
    "ünï/& code",
    "x/l1",
    "50 % {y}",
)
# As keras_actpen 0.1.0 wrote it.
ATTACHED = """keras_actpen 0.1.0

| layer | class | output shape | on | term | as attached | coefficient |
|---|---|---|---|---|---|---|
| z&#95;&#42; | Conv2D | (None, 4, 4, 4) | output | l2 | L2(coefficient=0.3, \
reduction='batch', name='l2') | 0.3 |
| a | Dense | (None, 5) | output | watched |  |  |

Statistics of the activations:

- **mean**: Mean of all finite activations.
- **std**: Standard deviation of all finite activations (divided by n).
"""
FOUND = (
    "- z&#95;&#42;: the penalty is 62 &#37; of the loss; 50 &#37; of units "
    "are dead\n- a: 3 activations are NaN or infinite"
)


def write_old(directory):
    run = directory / "actpen" / "train"
    write_event(run, [tensor("actpen/attached", ATTACHED.encode(), "text")], 0)
    for epoch in range(3):
        rows = np.array([[0.0, 1.0, 4.0], [1.0, 2.0, 2.0]])
        values = [
            scalar("metric/loss", 2 - epoch),
            scalar("actpen/task_loss", 1 - epoch),
            scalar("actpen/penalty_total", 1),
            scalar("penalty/z_*/l2", 1),
            scalar("activation.mean/z_*", epoch),
            scalar("activation.mean/a", epoch),
            scalar("activation.std_band/a/lower", 0),
            tensor("activation.values/a", rows, "histograms"),
        ]
        if epoch == 1:
            values.append(tensor("actpen/findings", FOUND.encode(), "text"))
        write_event(run, values, epoch)


def test_a_log_of_0_1_0(tmp_path, client_of):
    write_old(tmp_path)
    client = client_of(tmp_path)
    (training,) = client.ask("trainings")["trainings"]
    assert (training["run"], training["step"]) == (RUN, 2)
    model = client.ask("training", run=RUN)
    assert (model["format"], model["version"]) == (0, "0.1.0")
    assert model["definitions"] == {
        "mean": "Mean of all finite activations.",
        "std": "Standard deviation of all finite activations (divided by n).",
    }
    first, second = model["layers"]
    assert first == {
        "path": "z_*",
        "class": "Conv2D",
        "output_shape": "(None, 4, 4, 4)",
        "places": [
            {
                "on": "output",
                "output": "0",
                "kind": "activation",
                "path": "z_*",
            }
        ],
        "terms": [
            {
                "name": "l2",
                "on": "output",
                "penalty": "L2(coefficient=0.3, reduction='batch', name='l2')",
                "formula": "",
                "coefficient": 0.3,
            }
        ],
    }
    assert (second["path"], second["terms"]) == ("a", [])
    assert model["statistics"] == {"activation": ["mean"]}
    curves = client.ask("curves", run=RUN, group="Overview")["groups"]
    assert curves["Overview"]["series"]["task_loss"] == [1, 0, -1]
    finals = client.ask("finals", tag="Overview/task_loss")["finals"]
    assert finals == {RUN: {"Overview/task_loss": -1}}
    values = client.ask("values", run=RUN, kind="activation", path="a")
    assert values["steps"] == [0, 1, 2]
    assert values["buckets"][0] == [[0, 1, 4], [1, 2, 2]]
    units = client.ask("units", run=RUN, kind="activation", path="a")
    assert (units["steps"], units["rates"]) == ([], "")
    assert [
        (f["epoch"], f["kind"], f["path"], f["message"])
        for f in client.ask("findings", run=RUN)["findings"]
    ] == [
        (1, "dominating", "z_*", "the penalty is 62 % of the loss"),
        (1, "dead", "z_*", "50 % of units are dead"),
        (1, "nonfinite", "a", "3 activations are NaN or infinite"),
    ]
    assert client.plugin.is_active()


def test_an_empty_log(tmp_path, client_of):
    client = client_of(tmp_path)
    assert client.ask("trainings") == {"trainings": []}
    assert client.ask("finals", tag="metric/loss") == {"finals": {}}
    assert not client.plugin.is_active()


def test_runs_without_our_data(tmp_path, client_of):
    write_event(tmp_path / "other", [scalar("epoch_loss", 1.0)], 0)
    client = client_of(tmp_path)
    assert client.ask("trainings") == {"trainings": []}
    assert client.ask("training", run="other") == {
        "error": "The run 'other' holds no data of PenaltyMonitor."
    }


def test_a_training_that_has_just_begun(tmp_path, client_of):
    LoggedTraining(tmp_path, digits_layers(), has_validation=False).start()
    client = client_of(tmp_path)
    (training,) = client.ask("trainings")["trainings"]
    assert training["step"] is None
    assert len(client.ask("training", run=RUN)["layers"]) == 6
    curves = client.ask("curves", run=RUN, group=["metric", "penalty"])
    assert curves["groups"]["penalty"] == {"steps": [], "series": {}}
    assert client.ask("findings", run=RUN)["findings"] == []


def test_a_file_that_is_being_written(tmp_path, client_of):
    LoggedTraining(tmp_path, digits_layers(), has_validation=False).write(3)
    (path,) = (tmp_path / "actpen" / "train").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    client = client_of(tmp_path)
    (training,) = client.ask("trainings")["trainings"]
    assert training["step"] == 1


def document(**changes):
    return json.dumps({"schema": 1, "version": "9", "layers": []} | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            document(schema=2),
            "This log has format 2, and this tab reads format 1. The log was "
            "written by keras_actpen 9; install that version beside "
            "TensorBoard: pip install --upgrade keras-actpen",
        ),
        (
            "{",
            "The log is damaged: what is attached is not valid JSON "
            "(Expecting property name enclosed in double quotes: line 1 "
            "column 2 (char 1)).",
        ),
        ("[]", "The log is damaged: what is attached is not a JSON object."),
        (
            document(layers={}),
            "The log is damaged: `layers` is not a list of objects.",
        ),
        (
            document(layers=[{"terms": [1]}]),
            "The log is damaged: `terms` is not a list of objects.",
        ),
        (
            document(statistics=[]),
            "The log is damaged: `statistics` is not an object.",
        ),
        (
            document(layers=[{"terms": [{"coefficient": "x"}]}]),
            "The log is damaged: `coefficient` is 'x', not a number.",
        ),
    ],
)
def test_model_documents_that_cannot_be_read(
    tmp_path, client_of, text, message
):
    directory = tmp_path / "actpen" / "train"
    write_event(directory, [tensor(schema.MODEL, text.encode())], 0)
    LoggedTraining(tmp_path / "good", digits_layers()).write(1)
    client = client_of(tmp_path)
    # It is listed, so that the page can say why it is not shown.
    assert len(client.ask("trainings")["trainings"]) == 2
    assert client.ask("training", run=RUN) == {"error": message}
    assert client.ask("training", run="good/actpen/train")["layers"]


def test_findings_that_cannot_be_read_keep_no_others_back(tmp_path, client_of):
    LoggedTraining(tmp_path, digits_layers(), has_validation=False).write(1)
    directory = tmp_path / "actpen" / "train"
    good = {
        "schema": 1,
        "findings": [finding("dead", "head/hidden", "NaN", "gone")],
    }
    for step, text in ((1, "nothing"), (2, json.dumps(good))):
        write_event(directory, [tensor(schema.FINDINGS, text.encode())], step)
    answer = client_of(tmp_path).ask("findings", run=RUN)
    assert answer["damaged"] == [
        "Epoch 1: The log is damaged: findings is not valid JSON (Expecting "
        "value: line 1 column 1 (char 0))."
    ]
    assert [(f["epoch"], f["value"]) for f in answer["findings"]] == [
        (2, "NaN")
    ]


def test_numbers_that_are_not_finite(tmp_path, client_of):
    spoil = {
        "metric/loss": float("nan"),
        "activation.max/head/hidden": float("inf"),
        "activation.min/head/hidden": float("-inf"),
    }
    LoggedTraining(tmp_path, digits_layers(), spoil=spoil).write(2)
    client = client_of(tmp_path)
    groups = client.ask(
        "curves", run=RUN, group=["metric", "activation.max", "activation.min"]
    )["groups"]
    assert groups["metric"]["series"]["loss"] == ["NaN"] * 2
    assert groups["activation.max"]["series"]["head/hidden"] == ["Infinity"] * 2
    assert (
        groups["activation.min"]["series"]["head/hidden"] == ["-Infinity"] * 2
    )
    assert client.ask("finals", tag="metric/loss")["finals"][RUN] == {
        "metric/loss": "NaN"
    }


def test_curves_with_holes(tmp_path, client_of):
    run = tmp_path / "actpen" / "train"
    LoggedTraining(tmp_path, [], has_validation=False).start()
    write_event(run, [scalar("penalty/a/l1", 1.0)], 0)
    write_event(run, [scalar("penalty/b/l1", 2.0)], 1)
    curves = client_of(tmp_path).ask("curves", run=RUN, group="penalty")
    assert curves["groups"]["penalty"] == {
        "steps": [0, 1],
        "series": {"a/l1": [1.0, None], "b/l1": [None, 2.0]},
    }


def test_names_of_all_kinds(tmp_path, client_of):
    layers = [LoggedLayer(name, terms={"l1": 0.1}, units=4) for name in STRANGE]
    LoggedTraining(tmp_path, layers).write(2)
    client = client_of(tmp_path)
    model = client.ask("training", run=RUN)
    assert [layer["path"] for layer in model["layers"]] == list(STRANGE)
    for name in STRANGE:
        curves = client.ask("curves", run=RUN, group="penalty", path=name)
        assert f"{name}/l1" in curves["groups"]["penalty"]["series"]
        units = client.ask("units", run=RUN, kind="activation", path=name)
        assert (units["units"], units["steps"]) == (4, [0, 1])
        values = client.ask("values", run=RUN, kind="activation", path=name)
        assert values["steps"] == [0, 1]


@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("train", "training"),
        ("actpen/train", "training"),
        ("actpen-2/train", "training (2)"),
        ("a/b/actpen/train", "a/b"),
        ("a/actpen-2/train", "a (2)"),
        ("mine/train", "mine"),
    ],
)
def test_names_of_trainings(tmp_path, client_of, run, name):
    text = document().encode()
    write_event(tmp_path / run, [tensor(schema.MODEL, text)], 0)
    (training,) = client_of(tmp_path).ask("trainings")["trainings"]
    assert (training["run"], training["name"]) == (run, name)


def test_trainings_are_in_natural_order(tmp_path, client_of):
    names = ["a/b", "l1=1e-05", "l1=0.0001", "l1=0.01", "run9", "run10"]
    for name in reversed(names):
        text = document().encode()
        directory = tmp_path / name / "actpen" / "train"
        write_event(directory, [tensor(schema.MODEL, text)], 0)
    trainings = client_of(tmp_path).ask("trainings")["trainings"]
    assert [one["name"] for one in trainings] == names


def test_an_exception_is_an_answer(tmp_path, caplog):
    class Broken:
        def list_scalars(self, *args, **kwargs):
            raise RuntimeError("the disk is gone")

    client = TabClient(Broken())
    answer = client.ask("curves", run=RUN, group="metric")
    assert answer == {"error": "RuntimeError: the disk is gone"}
    assert "the disk is gone" in caplog.text


def test_below_a_path_prefix(log_dir):
    with provider_of(log_dir, "slow") as provider:
        client = TabClient(provider, path_prefix="/tb")
        assert len(client.ask("trainings")["trainings"]) == 2
        assert client.get("index.js").status_code == 200
