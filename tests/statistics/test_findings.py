"""Rules that say what is wrong with a layer."""

import dataclasses
import math

import numpy as np
import pytest
from tensorboard.plugins.histogram import summary_v2
from tensorboard.util import tensor_util

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.findings import (
    SAMPLES_TO_BE_DEAD,
    Evidence,
    Finding,
    judge,
    percent,
    saturated_share,
    sentence,
    sentence_of_kind,
    severity,
)
from keras_actpen.statistics.snapshot import StatisticsSnapshot
from keras_actpen.statistics.thresholds import (
    FACTS,
    THRESHOLDS,
    thresholds_from,
)

pytestmark = pytest.mark.one_backend

OUTPUT = ActivationSpec()


def snapshot(activations):
    """What `ActivationStatistics` reads of activations, by NumPy."""
    finite = activations[np.isfinite(activations)].astype("float64")
    nonzero = finite[finite != 0]
    histogram = np.zeros((0, 3))
    if len(nonzero):
        value = summary_v2.histogram_pb("h", nonzero).value[0]
        histogram = tensor_util.make_ndarray(value.tensor)
    shown = np.where(np.isfinite(activations), activations, 0)
    return StatisticsSnapshot(
        count=finite.size,
        mean=finite.mean(),
        variance=((finite - finite.mean()) ** 2).mean(),
        minimum=finite.min(),
        maximum=finite.max(),
        zeros=int((finite == 0).sum()),
        nonfinite=int((~np.isfinite(activations)).sum()),
        fired=(shown != 0).sum(axis=0).astype("float64"),
        histogram=histogram,
    )


def normal(samples=SAMPLES_TO_BE_DEAD, units=100, seed=1):
    return np.random.default_rng(seed).normal(size=(samples, units))


def found(evidence, **thresholds):
    """Findings by kind: value, threshold and message."""
    return {
        one.kind: (one.value, one.threshold, one.message)
        for one in judge(evidence, {**THRESHOLDS, **thresholds})
    }


def of_activations(activations, **about):
    return Evidence(
        "dense_4", statistics={OUTPUT: snapshot(activations)}, **about
    )


def test_nothing_is_wrong_with_normal_activations():
    healthy = of_activations(
        normal(), terms={"l1": 0.1, "l2": 0.2}, loss=1.0, activation="tanh"
    )
    assert judge(healthy, THRESHOLDS) == []


def test_dead_units():
    h = normal()
    h[:, :50] = 0
    assert found(of_activations(h)) == {
        "dead": (0.5, 0.5, "50 % of units are dead")
    }
    h[-1, 0] = 1e-30  # one of them fires once
    assert found(of_activations(h)) == {}
    assert found(of_activations(h), dead=0.49) == {
        "dead": (0.49, 0.49, "49 % of units are dead")
    }


def test_too_few_samples_to_call_a_unit_dead():
    h = normal(samples=SAMPLES_TO_BE_DEAD - 1)
    h[:, :90] = 0
    assert found(of_activations(h)) == {}


def test_units_that_are_not_told_apart_are_not_dead():
    seen = StatisticsSnapshot(count=1000, zeros=1000, minimum=0.0, maximum=0.0)
    assert found(Evidence("dense_4", statistics={OUTPUT: seen})) == {}


def test_nonfinite_activations():
    h = normal()
    h[0, 0], h[1, 1], h[2, 2] = np.nan, np.inf, -np.inf
    assert found(of_activations(h)) == {
        "nonfinite": (3.0, 0.0, "3 activations are NaN or infinite")
    }
    assert found(of_activations(h), nonfinite=3.0) == {}


def test_only_nonfinite_activations():
    seen = StatisticsSnapshot(nonfinite=7, fired=np.zeros(3))
    assert found(Evidence("dense_4", statistics={OUTPUT: seen})) == {
        "nonfinite": (7.0, 0.0, "7 activations are NaN or infinite")
    }


def test_nothing_seen():
    nothing = {OUTPUT: StatisticsSnapshot(fired=np.zeros(3))}
    assert judge(Evidence("dense_4", statistics=nothing), THRESHOLDS) == []
    assert judge(Evidence("dense_4"), THRESHOLDS) == []


def test_exploding_activations():
    h = np.where(normal() > 0, 1000.0, -1000.0)
    message = "the activations have a root mean square of 1e+03"
    assert found(of_activations(h)) == {"exploding": (1000.0, 1000.0, message)}
    assert found(of_activations(0.999 * h)) == {}


@pytest.mark.parametrize(
    ("activation", "bounded"),
    [
        ("tanh", np.tanh),
        ("softsign", lambda x: x / (1 + np.abs(x))),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_saturated_activations(activation, bounded):
    middle = bounded(0.0)
    h = bounded(6 * normal())
    share = saturated_share(snapshot(h), activation)
    # Beyond 90 % of the way from the middle to a bound; how the values lie in
    # the bucket that holds an end of that is not known.
    bucket = (h.max() - h.min()) / 30
    edge = 0.9 * (1 - middle)
    low, high = (
        np.mean(np.abs(h - middle) > edge + sign * bucket) for sign in (1, -1)
    )
    assert low <= share <= high
    exact = np.mean(np.abs(h - middle) > edge)
    assert share == pytest.approx(exact, abs=0.05)
    seen = of_activations(h, activation=activation)
    text = f"about {100 * share:.0f} % of activations are saturated"
    assert found(seen, saturated=share) == {"saturated": (share, share, text)}
    assert found(seen, saturated=share + 1e-9) == {}


@pytest.mark.parametrize(("value", "share"), [(0.95, 1.0), (0.5, 0.0)])
def test_saturation_of_equal_values(value, share):
    seen = snapshot(np.full((3, 2), value))
    assert saturated_share(seen, "tanh") == share


@pytest.mark.parametrize(
    ("activation", "share"), [("hard_sigmoid", 0.75), ("tanh", 0.0)]
)
def test_saturation_at_exactly_0(activation, share):
    """A bound of hard_sigmoid is 0, which the histogram leaves out."""
    h = np.full((SAMPLES_TO_BE_DEAD, 8), 0.5)
    h[:, :6] = 0
    assert saturated_share(snapshot(h), activation) == share
    kinds = list(found(of_activations(h, activation=activation)))
    assert ("saturated" in kinds) == (share >= 0.5)
    zeros = snapshot(np.zeros((3, 2)))
    assert saturated_share(zeros, activation) == float(share > 0)


def test_activations_without_two_bounds_do_not_saturate():
    seen = snapshot(normal())
    assert math.isnan(saturated_share(seen, "relu"))
    assert math.isnan(saturated_share(seen, ""))
    assert math.isnan(saturated_share(StatisticsSnapshot(), "tanh"))
    assert saturated_share(seen, "tanh") > 0


def test_dominating_penalty():
    evidence = Evidence("dense_4", terms={"l1": 0.3, "l2": 0.54}, loss=1.0)
    assert found(evidence) == {
        "dominating": (
            pytest.approx(0.84),
            0.5,
            "the penalty is 84 % of the loss",
        )
    }
    assert found(evidence, dominating=0.85) == {}


def test_negligible_penalty():
    evidence = Evidence("dense_4", terms={"l1": -2e-5, "l2": -3e-5}, loss=1.0)
    message = (
        "the penalty is -0.005 % of the loss (raise its coefficient, "
        "`suggest_coefficient` finds one)"
    )
    assert found(evidence) == {
        "negligible": (pytest.approx(5e-5), 1e-4, message)
    }
    # Exactly 0: its goal is reached, or it was switched off.
    assert found(Evidence("dense_4", terms={"l1": 0.0}, loss=1.0)) == {}


def test_the_penalty_of_a_layer_that_seems_dead_is_not_negligible():
    h = normal(samples=SAMPLES_TO_BE_DEAD - 1)
    h[:, :50] = 0
    small = {"terms": {"l1": 5e-5}, "loss": 1.0}
    assert found(of_activations(h, **small)) == {}
    h[0, 0] = 1.0
    assert list(found(of_activations(h, **small))) == ["negligible"]
    h = normal()
    h[:, :50] = 0
    dead = of_activations(h, **small)
    assert list(found(dead)) == ["dead"]
    (only,) = judge(dead, {"negligible": 1e-4})
    assert only.kind == "negligible"


def test_dead_units_by_the_positions_since_they_fired():
    """Not by the instrumented steps, on which all seem dead here."""
    since = np.repeat([0, 99, 100, 250], 25)
    period = dataclasses.replace(
        snapshot(np.zeros((10, 100))), since_fired=since, positions=250
    )

    def dead(**changes):
        seen = dataclasses.replace(period, **changes)
        return found(Evidence("d", statistics={OUTPUT: seen})).get("dead")

    # All positions that were seen: those that never fired.
    assert dead() is None
    assert dead(dead_after=100) == (0.5, 0.5, "50 % of units are dead")
    # Too few to say so.
    assert dead(dead_after=99) is None
    assert dead(positions=99) is None


@pytest.mark.parametrize("kind", FACTS)
def test_facts(kind):
    evidence = Evidence("dense_4", facts=[kind])
    assert found(evidence) == {kind: (1.0, 1.0, FACTS[kind])}
    assert judge(evidence, {}) == []


def test_a_penalty_that_is_not_in_the_loss_has_no_share_of_it():
    terms = {"l1": 34.1}
    evidence = Evidence("dense_4", terms=terms, loss=2.06, facts=["unused"])
    assert list(found(evidence)) == ["unused"]
    assert "dominating" in found(Evidence("dense_4", terms=terms, loss=2.06))


def test_what_suits_sparse_autoencoders():
    kinds = thresholds_from("alerts", "sparse", THRESHOLDS)
    assert THRESHOLDS.items() - kinds.items() == {
        ("dominating", 0.5),
        ("negligible", 1e-4),
    }


def dead(path, share):
    message = f"{100 * share:.0f} % of units are dead"
    return Finding("dead", path, share, 0.5, message)


def test_several_layers_in_one_sentence():
    findings = [dead("a", 0.6), dead("b", 0.91), dead("c", 0.7)]
    assert sentence_of_kind(findings[:1], 12) == "a: 60 % of units are dead"
    assert sentence_of_kind(findings, 12) == (
        "3 of 12 layers, worst b: 91 % of units are dead. The others are a, c"
    )
    many = [dead(f"layer_{i}", 0.5 + i / 100) for i in range(9)]
    assert sentence_of_kind(many, 9) == (
        "9 of 9 layers, worst layer_8: 58 % of units are dead. The others are "
        "layer_0, layer_1, layer_2, layer_3, layer_4 and 3 more"
    )
    facts = [Finding("frozen", p, 1.0, 1.0, FACTS["frozen"]) for p in "ab"]
    assert sentence_of_kind(facts, 3) == (
        f"2 of 3 layers: {FACTS['frozen']}. They are a, b"
    )


def test_severity_grows_by_one_where_it_is_twice_as_bad():
    assert severity(dead("a", 2 / 3)) == pytest.approx(1.0)
    assert severity(dead("a", 0.8)) == pytest.approx(2.0)

    def of(kind, value):
        return severity(Finding(kind, "a", value, 0.0, ""))

    assert of("exploding", 2000.0) == pytest.approx(of("exploding", 1000.0) + 1)
    assert of("negligible", 1e-6) == pytest.approx(of("negligible", 2e-6) + 1)
    assert of("nonfinite", 8.0) == pytest.approx(3.0)
    assert of("nonfinite", math.nan) == of("nonfinite", math.inf) == math.inf
    assert of("dominating", 1.5) > of("dominating", 0.99)


@pytest.mark.parametrize("loss", [0.0, -1.0, math.inf, math.nan])
def test_no_share_of_a_loss_that_has_none(loss):
    assert found(Evidence("dense_4", terms={"l1": 1.0}, loss=loss)) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_term_that_is_not_finite(value):
    evidence = Evidence("dense_4", terms={"l1": value, "l2": 0.1}, loss=1.0)
    (only,) = judge(evidence, THRESHOLDS)
    assert only.kind == "nonfinite"
    assert only.message == f"the penalty l1 is {value}"
    assert str(only.value) == str(value)


def test_all_of_a_layer_in_one_sentence():
    h = normal()
    h[:, :31] = 0
    evidence = of_activations(h, terms={"l2": 0.84}, loss=1.0)
    findings = judge(evidence, {**THRESHOLDS, "dead": 0.3})
    assert sentence(findings) == (
        "dense_4: 31 % of units are dead; the penalty is 84 % of the loss"
    )
    assert findings[0] == Finding(
        "dead", "dense_4", 0.31, 0.3, "31 % of units are dead"
    )


def test_places_are_named():
    h = normal()
    h[:, :50], h[0, 99] = 0, np.nan
    specs = {
        ActivationSpec("output", 1): snapshot(h),
        ActivationSpec("preactivation"): snapshot(h),
    }
    evidence = Evidence("lstm", statistics=specs)
    assert [one.message for one in judge(evidence, THRESHOLDS)] == [
        "1 activations of output 1 are NaN or infinite",
        "1 pre-activations are NaN or infinite",
        "50 % of units of output 1 are dead",
        "50 % of units have no input",
    ]


def test_only_the_kinds_that_are_looked_for():
    h = normal()
    h[:, :50], h[0, 99] = 0, np.nan
    kinds = thresholds_from("alerts", ("dead",), THRESHOLDS)
    assert kinds == {"dead": 0.5}
    (only,) = judge(of_activations(h), kinds)
    assert only.kind == "dead"
    assert judge(of_activations(h), {}) == []


def test_thresholds():
    assert thresholds_from("alerts", (), THRESHOLDS) == {}
    assert (
        thresholds_from("alerts", tuple(THRESHOLDS), THRESHOLDS) == THRESHOLDS
    )
    changed = {"dead": 0.25, "negligible": None}
    assert thresholds_from("alerts", changed, THRESHOLDS) == {
        "unused": 1.0,
        "not_called": 1.0,
        "frozen": 1.0,
        "nonfinite": 0.0,
        "exploding": 1000.0,
        "dead": 0.25,
        "saturated": 0.5,
        "dominating": 0.5,
    }


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            "dead",
            TypeError,
            "Invalid type received for argument `alerts`. Expected a sequence "
            "of kinds, () for none, a mapping from kinds to thresholds, or one "
            "of ['sparse']. Received: alerts='dead' (of type str)",
        ),
        (
            None,
            TypeError,
            "Invalid type received for argument `alerts`. Expected a sequence "
            "of kinds, () for none, a mapping from kinds to thresholds, or one "
            "of ['sparse']. Received: alerts=None (of type NoneType)",
        ),
        (
            ("dead", "asleep"),
            ValueError,
            "Invalid value received for argument `alerts`. Expected kinds "
            "among ['unused', 'not_called', 'frozen', 'nonfinite', "
            "'exploding', 'dead', 'saturated', "
            "'dominating', 'negligible']. Received: 'asleep'",
        ),
        (
            {"dead": -0.1},
            ValueError,
            "Invalid value received for argument `alerts['dead']`. Expected a "
            "share from 0 to 1, 0.5 for 50 %, or None to leave this kind out. "
            "Received: alerts['dead']=-0.1",
        ),
        *(
            (
                {kind: 50},
                ValueError,
                f"Invalid value received for argument `alerts[{kind!r}]`. "
                "Expected a share from 0 to 1, 0.5 for 50 %, or None to leave "
                f"this kind out. Received: alerts[{kind!r}]=50",
            )
            for kind in ("dead", "saturated", "dominating", "negligible")
        ),
        *(
            (
                {kind: 0.5},
                ValueError,
                f"Invalid value received for argument `alerts[{kind!r}]`. "
                "Expected 1, or None to leave this kind out. Received: "
                f"alerts[{kind!r}]=0.5",
            )
            for kind in FACTS
        ),
        (
            {"exploding": -1},
            ValueError,
            "Invalid value received for argument `alerts['exploding']`. "
            "Expected a finite number >= 0, or None to leave this kind out. "
            "Received: alerts['exploding']=-1",
        ),
        (
            {"dead": "half"},
            TypeError,
            "Invalid type received for argument `alerts['dead']`. Expected a "
            "share from 0 to 1, 0.5 for 50 %, or None to leave this kind out. "
            "Received: alerts['dead']='half' (of type str)",
        ),
    ],
)
def test_wrong_thresholds(given, kind, message):
    with pytest.raises(kind) as caught:
        thresholds_from("alerts", given, THRESHOLDS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.84, "84 %"),
        (0.9999, "100 %"),
        (0.0123, "1 %"),
        (0.0049, "0.49 %"),
        (-3e-6, "-0.0003 %"),
        (0.0, "0 %"),
        (math.nan, "-"),
    ],
)
def test_percent(share, text):
    assert percent(share) == text
