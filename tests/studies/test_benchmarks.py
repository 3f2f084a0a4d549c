"""The statistics of the benchmarks, on times that are made up."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import report, targets
from benchmarks.__main__ import RESULTS
from benchmarks.harness import (
    AGAIN,
    Arm,
    Comparison,
    Rounds,
    check_equal,
    compare,
    overhead_ratio,
    ratio,
)
from benchmarks.overview import overview
from benchmarks.turns import compare_trainings

ROOT = Path(__file__).parents[2]


def noisy(center, rng, rounds=101, drift=None):
    """Seconds with 5 % of noise, and a drift that all arms share."""
    seconds = center * rng.normal(1.0, 0.05, rounds)
    return seconds if drift is None else seconds * drift


def comparison(costs, name="steps/mlp", backend="tensorflow", facts=()):
    first = next(iter(costs))
    costs = {**costs, first + AGAIN: costs[first]}
    return Comparison(name, backend, first, "seconds", costs, {}, dict(facts))


def test_ratio_of_equal_arms_is_one():
    found = ratio([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert found == type(found)(1.0, 1.0, 1.0, 1.0, 1.0)


def test_ratio_recovers_a_known_one_under_a_drift():
    rng = np.random.default_rng(3)
    # The machine becomes three times slower in the course of the run.
    drift = np.linspace(1.0, 3.0, 101)
    base, again = noisy(1.0, rng, drift=drift), noisy(1.0, rng, drift=drift)
    slower = noisy(1.2, rng, drift=drift)
    found = ratio(slower, base)
    assert found.low < 1.2 < found.high
    assert found.high - found.low < 0.06
    assert found.lower_quartile < found.median < found.upper_quartile
    same = ratio(again, base)
    assert same.low < 1.0 < same.high


def test_bootstrap_interval_covers_the_true_ratio():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        found = ratio(noisy(1.1, rng, 15), noisy(1.0, rng, 15))
        covered += found.low <= 1.1 <= found.high
    # Nominally 57; percentile intervals of 15 rounds are a little short.
    assert 51 <= covered <= 60


def test_overhead_ratio():
    rng = np.random.default_rng(7)
    without = noisy(1.0, rng)
    ours, peer = without + 0.01, without + 0.5
    found = overhead_ratio(peer, ours, without)
    assert found.median == pytest.approx(50.0)
    assert found.low == pytest.approx(50.0)


def test_overhead_ratio_is_infinite_where_ours_is_not_above_zero():
    found = overhead_ratio([2.0, 2.0], [1.0, 1.0], [1.0, 1.0])
    assert found.median == np.inf


def test_noise_is_the_reach_of_the_aa_interval():
    costs = {
        "bare": [1.0] * 9,
        "bare" + AGAIN: [1.02] + [1.1] * 7 + [1.3],
    }
    found = Comparison("steps/mlp", "jax", "bare", "seconds", costs, {})
    assert found.noise() == pytest.approx(0.1)


def test_compare_runs_every_arm_in_every_round_in_changing_order():
    order = []

    def arm(name):
        def run():
            order.append(name)
            return {"a": 1.0, "b": 2.0}[name[0]]

        return Arm(name, run)

    arms = [arm("a"), arm("a" + AGAIN), arm("b")]
    found = compare("x/y", "jax", arms, Rounds(0.0, 8, 9))
    assert found.costs["b"] == [2.0] * 8
    assert found.ratio("b").median == 2.0
    # The first run and the one to warm up come before the rounds.
    assert order[:6] == ["a", "a" + AGAIN, "b"] * 2
    rounds = [tuple(order[6 + 3 * i : 9 + 3 * i]) for i in range(8)]
    assert {frozenset(r) for r in rounds} == {frozenset(order[:3])}
    assert len(set(rounds)) > 1


def test_compare_goes_on_until_the_ratios_are_exact():
    rng = np.random.default_rng(3)

    def found(precision, longest=60.0):
        arms = [
            Arm(name, lambda: rng.normal(1.0, 0.1))
            for name in ("a", "a" + AGAIN, "b")
        ]
        rounds = Rounds(0.0, 20, 20, precision, longest)
        return compare("x/y", "jax", arms, rounds)

    assert found(np.inf).facts == {"rounds": 20}
    exact = found(0.05)
    assert 20 < exact.facts["rounds"] < 400
    assert len(exact.costs["b"]) == exact.facts["rounds"]
    for arm in ("a" + AGAIN, "b"):
        of_arm = exact.ratio(arm)
        assert of_arm.high - of_arm.median <= 0.05
        assert of_arm.median - of_arm.low <= 0.05
    # It does not go on for ever.
    assert found(1e-6, longest=0.0).facts == {"rounds": 20}


def test_compare_wants_the_baseline_twice():
    with pytest.raises(
        ValueError,
        match=r"^Invalid value received for argument `arms`\. Expected an arm "
        r"called 'a \(again\)', for the noise\. Received: \['a'\]$",
    ):
        compare("x/y", "jax", [Arm("a", lambda: 1.0)], Rounds(0.0, 1, 1))


class Step(keras.callbacks.Callback):
    """Notes who runs, and whether alone."""

    def __init__(self, name, order, running):
        super().__init__()
        self.name, self.order, self.running = name, order, running

    def on_train_batch_begin(self, batch, logs=None):
        self.order.append(self.name)
        self.running.append(self.name)
        assert self.running == [self.name]

    def on_train_batch_end(self, batch, logs=None):
        self.running.remove(self.name)


def tiny_fits(names, *callbacks):
    x = np.ones((6, 2), "float32")

    def fit(name):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return lambda turn: model.fit(
            *(x, x[:, :1]),
            batch_size=2,
            epochs=3,
            verbose=0,
            callbacks=[turn, *(callback(name) for callback in callbacks)],
        )

    return {name: fit(name) for name in names}


def test_trainings_take_turns():
    order, running = [], []
    names = ["a", "a" + AGAIN, "b"]
    fits = tiny_fits(names, lambda name: Step(name, order, running))
    found = compare_trainings("x/y", "jax", fits, steps=3, epochs=2)
    assert found.facts == {"steps": 3, "epochs": 2}
    # The first epoch warms up; of each step all take one before the next.
    assert {len(costs) for costs in found.costs.values()} == {2}
    assert min(min(costs) for costs in found.costs.values()) > 0
    rounds = [order[3 * i : 3 * i + 3] for i in range(9)]
    assert all(sorted(r) == sorted(names) for r in rounds)
    assert len(set(map(tuple, rounds))) > 1
    assert running == []


def test_what_is_done_at_the_end_of_an_epoch_counts():
    class Late(keras.callbacks.Callback):
        def __init__(self, name):
            super().__init__()
            self.seconds = 0.3 if name == "slow" else 0.0

        def on_epoch_end(self, epoch, logs=None):
            time.sleep(self.seconds)

    fits = tiny_fits(["a", "a" + AGAIN, "slow"], Late)
    found = compare_trainings("x/y", "jax", fits, steps=3, epochs=2)
    extra = np.subtract(found.costs["slow"], found.costs["a"])
    assert min(extra) > 0.15


def test_a_training_that_fails_stops_the_comparison():
    class Fails(keras.callbacks.Callback):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def on_train_batch_end(self, batch, logs=None):
            if self.name == "b" and batch == 1:
                raise RuntimeError("no more")

    fits = tiny_fits(["a", "a" + AGAIN, "b"], Fails)
    with pytest.raises(RuntimeError, match=r"^no more$"):
        compare_trainings("x/y", "jax", fits, steps=3, epochs=2)


def test_unequal_losses_are_refused():
    check_equal({"a": 1.0, "b": 1.00001}, 1e-4)
    with pytest.raises(AssertionError, match=r"^Arm 'b' has another loss"):
        check_equal({"a": 1.0, "b": 1.001}, 1e-4)
    with pytest.raises(AssertionError, match=r"^Arm 'b' has another loss"):
        check_equal({"a": 1.0, "b": float("nan")}, 1e-4)


def test_comparison_table():
    found = comparison({"bare": [1.0, 1.0], "ours": [1.25, 1.25]})
    assert report.comparison_table(found).splitlines() == [
        "|  | median ratio | quartiles | 95 % interval of the median |",
        "| --- | ---: | ---: | ---: |",
        "| bare | 1.000 | 1.000..1.000 | 1.000..1.000 |",
        "| ours | 1.250 | 1.250..1.250 | 1.250..1.250 |",
        "| bare (again) | 1.000 | 1.000..1.000 | 1.000..1.000 |",
    ]


def test_overview_has_a_column_for_each_backend():
    steps = {
        name: comparison(
            {"bare": [1.0, 1.0], "attach_penalty": [ours, ours]},
            "steps/mnist_cnn-128",
            name,
        )
        for name, ours in (("tensorflow", 1.125), ("jax", 1.25))
    }
    peers = comparison(
        {
            "attach_penalty": [1.0, 1.0],
            "tf.summary.histogram in call": [6.0, 6.0],
        },
        "peers/mnist_cnn-128",
    )
    found = [("cpu", one) for one in (*steps.values(), peers)]
    # What runs elsewhere, or on another model, is in results.md alone.
    found += [("gpu", steps["jax"]), ("cpu", comparison({"bare": [1.0]}))]
    assert overview(found).splitlines() == [
        "| with / without | tensorflow | jax |",
        "| --- | ---: | ---: |",
        "| step: attach_penalty | 1.12 | 1.25 |",
        "| training: tf.summary.histogram in call | 6.00 |  |",
    ]


def test_readme_has_the_overview_of_the_results():
    results = json.loads((RESULTS / "results.json").read_text())
    assert (
        overview(report.loaded(results)) in (ROOT / "docs/costs.md").read_text()
    )


def row_of(text, costs, **kwargs):
    lines = report.target_table([("cpu", comparison(costs, **kwargs))])
    (row,) = (line for line in lines.splitlines() if text in line)
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.98, "met"), (1.0, "met"), (1.05, "not met")]
)
def test_target_table(ours, verdict):
    costs = {
        "bare": [1.0, 1.0],
        "activity_regularizer": [1.0, 1.0],
        "activity_regularizer (L1)": [1.0, 1.0],
        "activity_regularizer (L1 and L2)": [1.0, 1.0],
        "attach_penalty": [ours, ours],
        "attach_penalty (L1)": [1.0, 1.0],
        "attach_penalty (L1 and L2)": [1.0, 1.0],
    }
    assert row_of("| L2: never slower", costs) == [
        "L2: never slower than activity_regularizer",
        "mlp",
        "tensorflow",
        "<= 1",
        f"{ours:.3g} ({ours:.3g}..{ours:.3g})",
        "0.000",
        verdict,
    ]


def test_a_ratio_that_noise_may_explain():
    costs = {
        "bare": [1.0] * 9,
        "bare" + AGAIN: [1.04] * 9,
        "attach_penalty": [1.02] * 9,
    }
    found = Comparison("predict/mlp", "jax", "bare", "seconds", costs, {})
    table = report.target_table([("cpu", found)])
    assert "| 1.02 (1.02..1.02) | 0.040 | met, within noise |" in table


def test_too_much_noise_allows_no_verdict():
    costs = {
        "bare": [1.0] * 9,
        "bare" + AGAIN: [1.2] * 9,
        "attach_penalty": [1.02] * 9,
    }
    found = Comparison("predict/mlp", "jax", "bare", "seconds", costs, {})
    table = report.target_table([("cpu", found)])
    assert "| 1.02 (1.02..1.02) | 0.200 | not met, too noisy to tell |" in table


@pytest.mark.parametrize("middle", [0.99, 1.01])
def test_a_wide_interval_allows_no_verdict(middle):
    """Of a ratio that varies more than the baseline does."""
    costs = {
        "bare": [1.0] * 9,
        "bare" + AGAIN: [1.0] * 9,
        "attach_penalty": [*[0.8] * 4, middle, *[1.3] * 4],
    }
    found = Comparison("predict/mlp", "jax", "bare", "seconds", costs, {})
    table = report.target_table([("cpu", found)])
    assert (
        f"| {middle} (0.8..1.3) | 0.000 | not met, too noisy to tell |" in table
    )


@pytest.mark.parametrize(
    ("spread", "verdict"), [(0.01, "met"), (0.1, "not met, too noisy to tell")]
)
def test_an_overhead_that_is_not_seen_has_a_least_ratio(spread, verdict):
    signs = np.array([0, -1, 1, 0, -1, 0, -1, 1, 0])
    costs = {
        "attach_penalty": [1.0] * 9,
        "attach_penalty" + AGAIN: [1.0] * 9,
        "PenaltyMonitor": list(1.0 + spread * signs),
        "tf.summary.histogram in call": [2.0] * 9,
    }
    found = Comparison(
        "peers/mlp", "tensorflow", "attach_penalty", "seconds", costs, {}
    )
    table = report.target_table([("cpu", found)])
    assert f"no overhead seen | 0.000 | {verdict} |" in table


@pytest.mark.parametrize(
    ("all_64", "row"), [(1.64, "1 (1..1)"), (1.968, "1.2 (1.2..1.2)")]
)
def test_growth_is_held_against_that_of_16_layers(all_64, row):
    costs = {
        "bare": [1.0] * 3,
        "bare" + AGAIN: [1.0] * 3,
        "attach_penalty on 16": [1.16] * 3,
        "attach_penalty on 64": [all_64] * 3,
    }
    found = Comparison(
        "penalized_layers/deep_mlp", "jax", "bare", "seconds", costs, {}
    )
    (growth,) = (
        target
        for target in targets.TARGETS
        if target.pattern == "penalized_layers/*"
    )
    assert report.ratio_text(growth.value(found)) == row


def test_targets_without_a_measurement_are_shown():
    rows = report.target_table([]).splitlines()[2:]
    assert len(rows) == len(targets.TARGETS)
    assert all(row.endswith("| not measured |") for row in rows)


def test_a_later_run_replaces_its_own_measurements_only():
    def entry(name, seconds):
        return {
            "name": name,
            "backend": "jax",
            "device": "cpu",
            "costs": seconds,
        }

    old = {"environments": {}, "comparisons": [entry("a", 1), entry("b", 1)]}
    new = {
        "environment": {"backend": "jax"},
        "comparisons": [entry("b", 2), entry("c", 2)],
    }
    assert report.merged(old, new, "cpu") == {
        "environments": {"jax, cpu": {"backend": "jax"}},
        "comparisons": [entry("a", 1), entry("b", 2), entry("c", 2)],
    }


def test_command(tmp_path):
    backend = keras.backend.backend()
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick"),
            *("--backend", backend, "--only", "predict/mlp"),
            *("--output", str(tmp_path)),
        ],
        check=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
    )
    results = json.loads((tmp_path / "results.json").read_text())
    (found,) = report.loaded(results)
    assert found[0] == "cpu"
    assert found[1].name == "predict/mlp"
    assert found[1].backend == backend
    assert list(found[1].costs) == ["bare", "bare" + AGAIN, "attach_penalty"]
    rounds = found[1].facts["rounds"]
    assert rounds >= 3
    assert all(len(costs) == rounds for costs in found[1].costs.values())
    environment = results["environments"][f"{backend}, cpu"]
    assert environment["versions"]["keras"] == keras.__version__
    text = (tmp_path / "results.md").read_text()
    assert "### predict/mlp, " + backend in text
    # Nothing that names the machine.
    assert str(ROOT) not in text + json.dumps(results)
    assert os.uname().nodename not in text + json.dumps(results)
