"""The statistics of the benchmarks, on times that are made up."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from benchmarks.__main__ import RESULTS
from benchmarks.arms.names import BACKENDS
from benchmarks.measurements.suite import measurements, selected
from benchmarks.report import page, summaries
from benchmarks.report.targets import TARGETS
from benchmarks.report.verdicts import Verdict, judge, verdicts
from benchmarks.timing import core
from benchmarks.timing.core import Reading
from benchmarks.timing.ratios import (
    Ratio,
    geometric_mean,
    noise,
    overhead_ratio,
    ratio,
)
from benchmarks.timing.rounds import (
    AGAIN,
    Arm,
    Comparison,
    Rounds,
    check_equal,
    collect,
    compare,
    widest,
)
from benchmarks.timing.turns import ENDLESS, compare_trainings

pytestmark = pytest.mark.one_backend

ROOT = Path(__file__).parents[2]


def noisy(center, rng, rounds=101, drift=None):
    """Seconds with 5 % of noise, and a drift that all arms share."""
    seconds = center * rng.normal(1.0, 0.05, rounds)
    return seconds if drift is None else seconds * drift


def comparison(costs, name="steps/mlp", backend="tensorflow", facts=()):
    first = next(iter(costs))
    costs = {**costs, first + AGAIN: costs.get(first + AGAIN, costs[first])}
    seconds = dict.fromkeys(costs, 1.0)
    return Comparison(
        name, backend, first, "seconds", costs, seconds, dict(facts)
    )


def results_of(*comparisons, device="cpu", effort="full"):
    """Content of results.json after a run on each backend."""
    results = summaries.EMPTY
    for one in comparisons:
        environment = {
            "backend": one.backend,
            "versions": {"keras-actpen": "1.2.3", "keras": "4.5.6"},
            "commit": "abc1234",
            "system": "Linux",
            "cpu": "Sparrow",
            "cores": 1,
            "accelerators": [],
        }
        row = summaries.summarize(one, device, effort)
        run = {"environment": environment, "rows": [row]}
        results = summaries.merged(results, run)
    # As it comes back from the file.
    return json.loads(summaries.to_json(results))


def rows_of(*comparisons, **kwargs):
    return summaries.rows(results_of(*comparisons, **kwargs))


def test_ratio_of_equal_arms_is_one():
    found = ratio([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert found == Ratio(1.0, 1.0, 1.0)
    assert found.width == 0.0


def test_ratio_recovers_a_known_one_under_a_drift():
    rng = np.random.default_rng(3)
    # The machine becomes three times slower in the course of the run.
    drift = np.linspace(1.0, 3.0, 101)
    base, again = noisy(1.0, rng, drift=drift), noisy(1.0, rng, drift=drift)
    slower = noisy(1.2, rng, drift=drift)
    found = ratio(slower, base)
    assert found.low < 1.2 < found.high
    assert found.high - found.low < 0.06
    assert found.low < found.median < found.high
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
    found = ratio(costs["bare" + AGAIN], costs["bare"])
    assert noise(found) == pytest.approx(0.1)


def test_geometric_mean():
    assert geometric_mean([Ratio(-0.9, -1.1, 0.6)]) == Ratio(-0.9, -1.1, 0.6)
    found = geometric_mean([Ratio(2.0, 1.0, 4.0), Ratio(0.5, 0.5, 0.5)])
    # Half the logarithms of the one that is uncertain.
    assert found.median == pytest.approx(1.0)
    assert found.low == pytest.approx(2**-0.5)
    assert found.high == pytest.approx(2**0.5)


def test_interval_of_a_geometric_mean_covers_the_true_one():
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(60):
        found = geometric_mean(
            [
                ratio(noisy(true, rng, 25), noisy(1.0, rng, 25))
                for true in (0.9, 1.1, 1.3)
            ]
        )
        covered += found.low <= (0.9 * 1.1 * 1.3) ** (1 / 3) <= found.high
    # Nominally 57; independent errors make it no worse than one ratio.
    assert 51 <= covered <= 60


def test_compare_runs_every_arm_in_every_round_in_changing_order():
    order = []

    def arm(name):
        def run():
            order.append(name)
            return {"a": 1.0, "b": 2.0}[name[0]]

        return Arm(name, run)

    arms = [arm("a"), arm("a" + AGAIN), arm("b")]
    found = compare("x/y", "jax", arms, Rounds(8))
    assert found.costs["b"] == [2.0] * 8
    assert found.ratio("b").median == 2.0
    # The first run, which compiles, comes before the rounds.
    assert order[:3] == ["a", "a" + AGAIN, "b"]
    rounds = [tuple(order[3 + 3 * i : 6 + 3 * i]) for i in range(8)]
    assert {frozenset(r) for r in rounds} == {frozenset(order[:3])}
    assert len(set(rounds)) > 1


def test_rounds_go_on_until_the_intervals_are_narrow():
    rng = np.random.default_rng(3)

    def run_round():
        return {arm: rng.normal(1.0, 0.05) for arm in ("a", "b", "c")}

    def found(width, longest=60.0):
        return collect(run_round, Rounds(20, longest=longest, width=width))

    quiet = found(np.inf)
    assert [len(costs) for costs in quiet.costs.values()] == [20, 20, 20]
    exact = found(0.05)
    rounds = len(exact.costs["a"])
    assert 20 < rounds < 1000
    assert widest(exact.costs) <= 0.05
    for arm in ("b", "c"):
        assert ratio(exact.costs[arm], exact.costs["a"]).width <= 0.05
    # It does not go on for ever.
    late = found(1e-6, longest=0.05)
    assert 0.05 <= late.seconds < 5
    assert len(found(1e-6, longest=0.0).costs["a"]) == 20


def test_disturbed_rounds_are_left_out(monkeypatch):
    shares = iter([0.0, 0.5, 0.0, 0.04, 0.06, 0.0])
    monkeypatch.setattr(Reading, "share_of_others", lambda *_: next(shares))
    numbers = itertools.count(1)

    def run_round():
        number = next(numbers)
        return {"a": number, "b": 2 * number}

    found = collect(run_round, Rounds(4, longest=60.0))
    assert found.costs["a"] == [1, 3, 4, 6]
    assert (found.left_out, found.disturbed) == (2, 0)


def test_the_least_disturbed_rounds_count_if_all_are(monkeypatch):
    shares = iter([0.5, 0.2, 0.9, 0.3])
    monkeypatch.setattr(Reading, "share_of_others", lambda *_: next(shares))
    numbers, seconds = itertools.count(1), itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(seconds))
    monkeypatch.setattr("benchmarks.timing.rounds.time", clock)

    def run_round():
        return dict.fromkeys("ab", next(numbers))

    found = collect(run_round, Rounds(2, longest=4.0))
    assert found.costs["a"] == [2, 4]
    assert (found.left_out, found.disturbed) == (2, 2)


def test_share_of_others():
    before = Reading(wall=10.0, busy=3.0, own=1.0)
    # Of two seconds this process worked one and others half a second.
    later = Reading(wall=12.0, busy=4.52, own=2.0)
    assert before.share_of_others(later) == pytest.approx(0.25)
    # What is below the resolution of Linux's counters.
    assert before.share_of_others(Reading(12.0, 4.01, 2.0)) == 0.0
    assert before.share_of_others(Reading(12.0, 3.99, 2.0)) == 0.0


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="cores are pinned on Linux"
)
def test_another_process_on_the_core_is_seen():
    spin = "while True: pass"
    code = f"""if True:
        import subprocess, sys, time
        from benchmarks.timing import core
        core.pin()
        def share():
            before = core.Reading.now()
            end = time.perf_counter() + 1.0
            while time.perf_counter() < end:
                pass
            return before.share_of_others(core.Reading.now())
        other = subprocess.Popen([sys.executable, "-c", {spin!r}])
        try:
            print(share())
        finally:
            other.kill()
    """
    # In a process of its own, which is pinned with all that it starts.
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(result.stdout) > core.LARGEST_SHARE


def test_compare_wants_the_baseline_twice():
    with pytest.raises(
        ValueError,
        match=r"^Invalid value received for argument `arms`\. Expected an arm "
        r"called 'a \(again\)', for the noise\. Received: \['a'\]$",
    ):
        compare("x/y", "jax", [Arm("a", lambda: 1.0)], Rounds(1))


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
            epochs=ENDLESS,
            verbose=0,
            callbacks=[turn, *(callback(name) for callback in callbacks)],
        )

    return {name: fit(name) for name in names}


def test_trainings_take_turns():
    order, running = [], []
    names = ["a", "a" + AGAIN, "b"]
    fits = tiny_fits(names, lambda name: Step(name, order, running))
    found = compare_trainings("x/y", "jax", fits, 3, Rounds(2))
    assert found.facts == {"steps": 3}
    # The first epoch warms up; of each step all take one before the next.
    assert {len(costs) for costs in found.costs.values()} == {2}
    assert min(min(costs) for costs in found.costs.values()) > 0
    rounds = [order[3 * i : 3 * i + 3] for i in range(9)]
    assert all(sorted(r) == sorted(names) for r in rounds)
    assert len(set(map(tuple, rounds))) > 1
    # The step in which each is stopped.
    assert order[27:] == names
    assert running == []


def test_what_is_done_at_the_end_of_an_epoch_counts(monkeypatch):
    seconds = [0.0]
    clock = SimpleNamespace(perf_counter=lambda: seconds[0])
    monkeypatch.setattr("benchmarks.timing.turns.time", clock)

    class Late(keras.callbacks.Callback):
        def __init__(self, name):
            super().__init__()
            self.seconds = 0.5 if name == "slow" else 0.0

        def on_epoch_end(self, epoch, logs=None):
            seconds[0] += self.seconds

    fits = tiny_fits(["a", "a" + AGAIN, "slow"], Late)
    found = compare_trainings("x/y", "jax", fits, 3, Rounds(2))
    assert found.costs == {
        "a": [0.0, 0.0],
        "a" + AGAIN: [0.0, 0.0],
        "slow": [0.5, 0.5],
    }


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
        compare_trainings("x/y", "jax", fits, 3, Rounds(2))


def test_unequal_losses_are_refused():
    check_equal({"a": 1.0, "b": 1.00001}, 1e-4)
    with pytest.raises(AssertionError, match=r"^Arm 'b' has another loss"):
        check_equal({"a": 1.0, "b": 1.001}, 1e-4)
    with pytest.raises(AssertionError, match=r"^Arm 'b' has another loss"):
        check_equal({"a": 1.0, "b": float("nan")}, 1e-4)


def test_a_row_holds_summaries():
    one = comparison(
        {
            "bare": [1.0, 2.0, 3.0, 4.0, 5.0],
            "activity_regularizer": [2.0, 4.0, 6.0, 8.0, 10.0],
            "attach_penalty": [1.0, 2.0, 3.0, 4.0, 5.0],
        },
        facts={"steps": 50.0},
    )
    one = replace(one, left_out=2, disturbed=1, seconds=1.23456789)
    results = results_of(one)
    (row,) = summaries.rows(results)
    (entry,) = results["rows"]
    arms = entry.pop("arms")
    assert entry == {
        "name": "steps/mlp",
        "backend": "tensorflow",
        "device": "cpu",
        "effort": "full",
        "baseline": "bare",
        "unit": "seconds",
        "rounds": 5,
        "left_out": 2,
        "disturbed": 1,
        "seconds": 1.23457,
        "width": 0.0,
        "facts": {"steps": 50.0},
        # The others want arms that were not measured.
        "targets": {"l2": [0.5, 0.5, 0.5]},
        "environment": 0,
    }
    assert arms["activity_regularizer"] == {
        "quartiles": [4.0, 6.0, 8.0],
        "first_seconds": 1.0,
        "ratio": [2.0, 2.0, 2.0],
    }
    assert [*arms] == [
        "bare",
        "activity_regularizer",
        "attach_penalty",
        "bare" + AGAIN,
    ]
    assert row.targets == {"l2": Ratio(0.5, 0.5, 0.5)}
    assert row.code == "1.2.3 abc1234"
    assert row.noise == 0.0


def test_infinite_ratios_come_back_from_the_file():
    costs = {
        "attach_penalty": [1.0] * 3,
        "PenaltyMonitor": [1.0] * 3,
        "tf.summary.histogram in call": [2.0] * 3,
    }
    (row,) = rows_of(comparison(costs, "peers/mlp"))
    assert row.targets["summary_in_call"] == Ratio(np.inf, np.inf, np.inf)


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
    found = rows_of(*steps.values(), peers)
    # What runs elsewhere, or on another model, is not in it.
    found += rows_of(steps["jax"], device="gpu")
    found += rows_of(comparison({"bare": [1.0]}))
    assert page.overview(found).splitlines() == [
        "| with / without | tensorflow | jax |",
        "| --- | ---: | ---: |",
        "| step: attach_penalty | 1.12 | 1.25 |",
        "| training: tf.summary.histogram in call | 6.00 |  |",
    ]


def recorded():
    return json.loads((RESULTS / "results.json").read_text())


def test_readme_has_the_overview_of_the_results():
    overview = page.overview(summaries.rows(recorded()))
    assert overview in (ROOT / "docs/costs.md").read_text()


def test_recorded_results_are_short():
    """Summaries and one page, made of them."""
    assert (RESULTS / "results.json").stat().st_size < 200_000
    text = (RESULTS / "results.md").read_text()
    assert text == page.page(recorded())
    assert len(text.splitlines()) < 130
    assert {path.name for path in RESULTS.iterdir()} == {
        *("results.json", "results.md", "effects.json", "effects.md"),
        *("effects.png", "activations.png", "layer.png", "hparams.png"),
    }


def line_of(text, *comparisons):
    lines = page.target_table(rows_of(*comparisons)).splitlines()
    (line,) = (line for line in lines if line.startswith(f"| {text}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.98, "met"), (1.0, "met"), (1.05, "not met")]
)
def test_target_table(ours, verdict):
    costs = {
        "bare": [1.0, 1.0],
        "activity_regularizer": [1.0, 1.0],
        "attach_penalty": [ours, ours],
    }
    assert line_of("L2: never slower", comparison(costs)) == [
        "L2: never slower than activity_regularizer",
        "tensorflow",
        "<= 1",
        f"{ours:.3f}",
        "mlp",
        "0.000",
        verdict,
        "1.2.3 abc1234",
    ]


def predicting(model, ours, again=1.0):
    costs = {
        "bare": [1.0] * 9,
        "bare" + AGAIN: [again] * 9,
        "attach_penalty": ours,
    }
    return comparison(costs, f"predict/{model}", "jax")


def test_a_verdict_takes_the_models_of_a_backend_together():
    mlp = predicting("mlp", [0.8] * 9)
    cnn = predicting("cnn", [1.25] * 9)
    assert line_of("predict", mlp, cnn) == [
        "predict: 1.00 of the bare model's",
        "jax",
        "<= 1",
        "1.000",
        "1.250 cnn",
        "0.000, 0.000",
        "not met",
        "1.2.3 abc1234",
    ]
    other = replace(cnn, backend="torch")
    found = [*verdicts(rows_of(mlp, other))]
    assert [(v.rows[0].backend, v.text) for v in found] == [
        ("jax", "met"),
        ("torch", "not met"),
    ]


def test_the_worst_model_of_a_least_ratio_is_the_smallest():
    costs = {
        "attach_penalty": [1.0] * 3,
        "PenaltyMonitor": [1.01] * 3,
    }
    found = [
        comparison(
            {**costs, "tf.summary.histogram in call": [1 + above] * 3},
            f"peers/{model}",
        )
        for model, above in (("a", 0.8), ("b", 0.4))
    ]
    (verdict,) = (v for v in verdicts(rows_of(*found)) if v.target.least)
    assert verdict.worst.name == "peers/b"
    assert verdict.mean.median == pytest.approx(3200**0.5)
    assert verdict.text == "not met"


def test_rows_of_several_codes_say_so():
    old = results_of(predicting("mlp", [0.9] * 9))
    new = results_of(predicting("cnn", [0.9] * 9), effort="quick")
    environment = {**new["environments"][0], "commit": None}
    run = {"environment": environment, "rows": new["rows"]}
    rows = summaries.rows(summaries.merged(old, run))
    assert page.target_table(rows).endswith(
        "| met | 1.2.3 abc1234, 1.2.3 quick |"
    )


def test_the_page_says_which_rows_are_noisy_or_disturbed():
    found = [
        predicting("mlp", [0.9] * 9),
        predicting("cnn", [*[0.8] * 4, 1.0, *[1.3] * 4]),
        replace(predicting("lstm", [0.9] * 9), disturbed=1),
    ]
    text = page.page(results_of(*found))
    assert (
        "\n\nRows with an interval wider than 2 % when their time was over, "
        "and rows with too few rounds in which no other process took the "
        "core: jax 1 and 1 of 3.\n\n"
    ) in text
    assert (
        "\n\njax: 1 core(s) of Sparrow, Linux; keras-actpen 1.2.3, keras "
        "4.5.6; commit abc1234.\n\n"
    ) in text


def test_a_ratio_that_noise_may_explain():
    found = predicting("mlp", [1.02] * 9, again=1.04)
    assert line_of("predict", found)[3:7] == [
        *("1.020", "mlp", "0.040", "met, within noise"),
    ]


def test_too_much_noise_allows_no_verdict():
    found = predicting("mlp", [1.02] * 9, again=1.2)
    assert line_of("predict", found)[3:7] == [
        *("1.020", "mlp", "0.200", "not met, too noisy to tell"),
    ]


@pytest.mark.parametrize("middle", [0.99, 1.01])
def test_a_wide_interval_allows_no_verdict(middle):
    """Of a ratio that varies more than the baseline does."""
    found = predicting("mlp", [*[0.8] * 4, middle, *[1.3] * 4])
    assert line_of("predict", found)[3:7] == [
        f"{middle:.3f} (0.800..1.300)",
        *("mlp", "0.000", "not met, too noisy to tell"),
    ]


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
    line = line_of("At least 50 times", comparison(costs, "peers/mlp"))
    assert line[3].endswith("no overhead seen")
    assert line[5:7] == ["0.000", verdict]


@pytest.mark.parametrize(("all_64", "growth"), [(1.64, 1.0), (1.968, 1.2)])
def test_growth_is_held_against_that_of_16_layers(all_64, growth):
    costs = {
        "bare": [1.0] * 3,
        "attach_penalty on 16": [1.16] * 3,
        "attach_penalty on 64": [all_64] * 3,
    }
    (row,) = rows_of(comparison(costs, "penalized_layers/deep_mlp"))
    found = row.targets["penalized_growth"]
    assert found.median == pytest.approx(growth)


def test_the_first_epoch_is_held_against_the_bare_one():
    costs = {
        "bare": [1.0] * 3,
        "watching 16": [1.0] * 3,
        "watching 64": [1.0] * 3,
    }
    one = comparison(costs, "watched_layers/deep_mlp")
    seconds = {**one.first_seconds, "bare": 2.0, "watching 64": 5.0}
    (row,) = rows_of(replace(one, first_seconds=seconds))
    assert row.targets["first_epoch"] == Ratio(2.5, 2.5, 2.5)


def test_memory_is_counted_in_activations():
    costs = {
        "bare": [100.0] * 3,
        "activity_regularizer": [100.0, 110.0, 120.0],
        "attach_penalty": [95.0, 120.0, 121.0],
    }
    one = comparison(
        costs, "memory/mnist_cnn-1024", facts={"activation_bytes": 10.0}
    )
    (row,) = rows_of(one)
    assert row.targets["memory"] == Ratio(0.1, -0.5, 1.0)


def test_what_was_not_measured_is_named_but_for_gpus():
    text = page.page(summaries.EMPTY)
    (line,) = (
        line
        for line in text.splitlines()
        if line.startswith("Not measured yet: ")
    )
    named = line.removeprefix("Not measured yet: ").removesuffix(".")
    assert named.split("; ") == [
        target.text for target in TARGETS if target.device == "cpu"
    ]
    assert "GPU" not in text


def test_every_target_has_a_key_and_a_measurement_of_its_own():
    assert len({target.key for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        names = [
            name
            for backend in target.backends
            for name, _ in measurements(backend, target.device)
            if target.is_about(name, backend, target.device)
        ]
        assert names, target.key


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_names_of_measurements_are_unique(backend, device):
    names = [name for name, _ in measurements(backend, device)]
    assert len({*names}) == len(names)
    usual = [name for name, _ in selected(backend, device, [])]
    assert usual == [
        name
        for name in names
        if not name.endswith("-512") and name != "monitor/resnet50-8"
    ]
    named = selected(backend, device, ["monitor/*", "steps/mlp"])
    assert [name for name, _ in named] == [
        name
        for name in names
        if name.startswith("monitor/") or name == "steps/mlp"
    ]


def test_a_later_run_replaces_its_own_rows_only():
    def entry(name, rounds):
        keys = {"name": name, "backend": "jax", "device": "cpu"}
        return {**keys, "rounds": rounds}

    first, second = {"commit": "1"}, {"commit": "2"}
    old = {"environment": first, "rows": [entry("a", 1), entry("b", 1)]}
    new = {"environment": second, "rows": [entry("b", 2), entry("c", 2)]}
    results = summaries.merged(summaries.EMPTY, old)
    assert summaries.merged(results, new) == {
        "environments": [first, second],
        "rows": [
            {**entry("a", 1), "environment": 0},
            {**entry("b", 2), "environment": 1},
            {**entry("c", 2), "environment": 1},
        ],
    }
    # What no row is of any more is gone.
    assert summaries.merged(results, {**old, "environment": second}) == {
        "environments": [second],
        "rows": [
            {**entry("a", 1), "environment": 0},
            {**entry("b", 1), "environment": 0},
        ],
    }
    assert summaries.EMPTY == {"environments": [], "rows": []}


def test_text_of_the_results_has_a_row_a_line():
    results = {"environments": {"a": 1, "b": {}}, "rows": [[1, 2], None]}
    text = summaries.to_json(results)
    assert json.loads(text) == results
    assert text.splitlines() == [
        *("{", ' "environments": {', '  "a": 1,', '  "b": {}', " },"),
        *(' "rows": [', "  [1, 2],", "  null", " ]", "}"),
    ]
    assert json.loads(summaries.to_json(summaries.EMPTY)) == summaries.EMPTY
    with pytest.raises(ValueError, match=r"^Out of range float values"):
        summaries.to_json({"rows": [np.inf]})


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
    (entry,), (environment,) = results["rows"], results["environments"]
    assert (entry["name"], entry["backend"]) == ("predict/mlp", backend)
    assert (entry["device"], entry["effort"]) == ("cpu", "quick")
    assert [*entry["arms"]] == ["bare", "bare" + AGAIN, "attach_penalty"]
    assert entry["rounds"] == 3
    assert environment["versions"]["keras"] == keras.__version__
    if sys.platform.startswith("linux"):
        assert environment["cores"] == 1
    text = (tmp_path / "results.md").read_text()
    (row,) = summaries.rows(results)
    (verdict,) = verdicts([row])
    assert verdict == Verdict(verdict.target, [row])
    assert verdict.text == judge(
        verdict.target, row.targets["predict"], row.noise
    )
    assert f"| {verdict.text} | {row.code} |" in text
    # Nothing that names the machine.
    assert str(ROOT) not in text + json.dumps(results)
    assert os.uname().nodename not in text + json.dumps(results)


def test_command_measures_nothing_on_a_gpu_that_is_not_there(tmp_path):
    output = tmp_path / "results.json"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.worker"),
            *(keras.backend.backend(), "gpu", "quick", "0", str(output)),
        ],
        check=True,
        cwd=ROOT,
        env={
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
    )
    assert result.stdout == (
        f"{keras.backend.backend()}: no GPU, nothing measured\n"
    )
    assert not output.exists()
