"""What the routes say of a log is what is in its event files."""

import base64

import event_logs
import numpy as np
import pytest
from tab_logs import POSITIONS, digits_layers

from keras_actpen_tensorboard import schema

pytestmark = pytest.mark.one_backend

RUN = "strong/actpen/train"
VALIDATION = "strong/actpen/validation"
EPOCHS = list(range(6))
HIDDEN = {"kind": "activation", "path": "head/hidden"}
GROUPS = (
    "metric",
    "penalty",
    "penalty.share",
    "penalty.coefficient",
    "activation.mean",
    "activation.zero_fraction",
    "preactivation.rms",
)


@pytest.fixture(scope="module")
def written(log_dir):
    return event_logs.read(log_dir)


def test_trainings(client):
    trainings = client.ask("trainings")["trainings"]
    assert [
        (t["run"], t["name"], t["step"], t["validation"], t["validation_step"])
        for t in trainings
    ] == [
        (RUN, "strong", 5, VALIDATION, 5),
        ("weak/actpen/train", "weak", 5, None, None),
    ]


def test_training(client):
    training = client.ask("training", run=RUN)
    assert training["version"] == "0.2.0"
    assert [one["path"] for one in training["layers"]] == [
        one.path for one in digits_layers()
    ]
    hidden = training["layers"][4]
    assert [place["kind"] for place in hidden["places"]] == [
        "activation",
        "preactivation",
    ]
    assert hidden["terms"][0] == {
        "name": "l1",
        "on": "output",
        "penalty": "L1(coefficient=0.1, reduction='batch')",
        "formula": "c * sum|h| / batch",
        "coefficient": 0.1,
    }
    assert training["metrics"] == ["accuracy", "loss"]
    assert set(training["statistics"]) == {"activation", "preactivation"}
    assert "zero_fraction" in training["statistics"]["activation"]
    assert "Overview" in training["groups"]


@pytest.mark.parametrize("group", [*GROUPS, "Overview"])
@pytest.mark.parametrize("run", [RUN, VALIDATION])
def test_curves_are_those_of_tensorboard(client, written, run, group):
    curves = client.ask("curves", run=run, group=group)["groups"][group]
    tags = {tag for tag in written[run] if tag.startswith(f"{group}/")}
    assert {f"{group}/{name}" for name in curves["series"]} == tags
    for name, values in curves["series"].items():
        own = client.tensorboards_own(run, f"{group}/{name}")
        assert [
            list(row) for row in zip(curves["steps"], values, strict=True)
        ] == own


def test_curves_from_a_step_on(client):
    whole = client.ask("curves", run=RUN, group="penalty")["groups"]["penalty"]
    new = client.ask("curves", run=RUN, group="penalty", after=4)
    assert new["groups"]["penalty"] == {
        "steps": [4, 5],
        "series": {name: v[4:] for name, v in whole["series"].items()},
    }


def test_curves_of_one_layer(client):
    groups = client.ask(
        "curves",
        run=RUN,
        group=["penalty", "activation.mean"],
        path="head/hidden",
    )["groups"]
    assert set(groups["penalty"]["series"]) == {
        "head/hidden/l1",
        "head/hidden/l2",
    }
    assert set(groups["activation.mean"]["series"]) == {"head/hidden"}


def test_thinned_out_curves_end_with_the_last_point(client):
    thin = client.ask("curves", run=RUN, group="metric", points=3)
    thin = thin["groups"]["metric"]
    whole = client.ask("curves", run=RUN, group="metric")["groups"]["metric"]
    assert len(thin["steps"]) == 3
    assert thin["steps"][-1] == 5
    for name, values in thin["series"].items():
        assert values == [whole["series"][name][s] for s in thin["steps"]]


def test_finals(client, written):
    tags = [
        "metric/accuracy",
        "Overview/task_loss",
        "activation.mean/head/hidden",
    ]
    finals = client.ask("finals", tag=tags)["finals"]
    assert set(finals) == set(written)
    for run, values in finals.items():
        assert values == {
            tag: float(written[run][tag].values[-1]) for tag in tags
        }


@pytest.mark.parametrize("run", [RUN, VALIDATION])
@pytest.mark.parametrize("kind", ["activation", "preactivation"])
def test_values(client, written, run, kind):
    answer = client.ask("values", run=run, kind=kind, path="head/hidden")
    series = written[run][schema.values_tag(kind, "head/hidden")]
    assert answer["steps"] == series.steps == EPOCHS
    np.testing.assert_array_equal(answer["buckets"], np.array(series.values))


def rates_of(answer):
    data = base64.b64decode(answer["rates"])
    shape = (len(answer["steps"]), answer["units"])
    return np.frombuffer(data, "<f2").reshape(shape)


@pytest.mark.parametrize("run", [RUN, VALIDATION])
def test_units(client, written, run):
    answer = client.ask("units", run=run, **HIDDEN)
    series = written[run][schema.units_tag(**HIDDEN)]
    assert answer["steps"] == EPOCHS
    assert answer["units"] == 96
    np.testing.assert_array_equal(rates_of(answer), np.array(series.values))
    assert answer["positions"] == [POSITIONS] * 6


def test_units_thinned_out_and_from_a_step_on(client):
    whole = rates_of(client.ask("units", run=RUN, **HIDDEN))
    thin = client.ask("units", run=RUN, points=3, **HIDDEN)
    assert thin["steps"] == [0, 2, 5]
    np.testing.assert_array_equal(rates_of(thin), whole[[0, 2, 5]])
    new = client.ask("units", run=RUN, after=5, **HIDDEN)
    assert new["steps"] == [5]
    np.testing.assert_array_equal(rates_of(new), whole[5:])


def test_findings(client, written):
    answer = client.ask("findings", run=RUN)
    assert answer["damaged"] == []
    found = answer["findings"]
    epochs = [finding["epoch"] for finding in found]
    assert epochs == sorted(epochs, reverse=True)
    shares = {
        epoch: value
        for epoch, value in enumerate(
            written[RUN]["penalty.share/head/hidden/l1"].values
        )
        if value >= 0.5
    }
    assert shares
    dominating = {f["epoch"]: f for f in found if f["kind"] == "dominating"}
    assert set(dominating) == set(shares)
    for epoch, finding in dominating.items():
        assert finding["path"] == "head/hidden"
        assert finding["term"] == "l1"
        assert finding["value"] == pytest.approx(shares[epoch], rel=1e-6)
        share = f"{100 * shares[epoch]:.0f} %"
        assert finding["message"] == f"the penalty is {share} of the loss"
    later = client.ask("findings", run=RUN, after=5)["findings"]
    assert later == [finding for finding in found if finding["epoch"] >= 5]
