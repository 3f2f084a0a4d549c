"""The effects study: its measures, its claims, and that every part runs."""

import gc
import itertools
import json
import math
import os
import pathlib
from dataclasses import replace

import keras
import numpy as np
import pytest
from scipy import stats

from benchmarks.effects import __main__ as command
from benchmarks.effects import measures, plots, report, trials
from benchmarks.effects.claims import (
    Claim,
    chosen,
    closest,
    judge,
    strongest_at_equal_accuracy,
)
from benchmarks.effects.groups import Spread, grouped
from benchmarks.effects.report import Findings
from benchmarks.effects.settling import moves_until_settled
from benchmarks.effects.suite import EXPERIMENTS
from benchmarks.effects.trials import NONE, Effort, Row

pytestmark = pytest.mark.one_backend

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "effects.json"

# One step a training, nothing compiled.
TINY = Effort(
    seeds=(0,),
    train=80,
    validation=60,
    test=100,
    epochs=0.01,
    strengths=1,
    compiling={"run_eagerly": True},
)


def rows_of(arm, values, strength=1.0, measure="zero_share", accuracy=0.9):
    """Rows of one arm, one a seed."""
    return [
        Row(
            "sparsity",
            arm,
            strength,
            seed,
            {measure: value},
            {measure: value, "accuracy": accuracy},
        )
        for seed, value in enumerate(values)
    ]


SHOWN = EXPERIMENTS["sparsity"]
CONTROL = rows_of(NONE, [0.20, 0.21, 0.22], strength=0.0)


def verdict(claim, rows):
    return judge(claim, [*CONTROL, *rows], strongest_at_equal_accuracy)


# Not compiled, JAX takes long over the steps of an LSTM.
SLOW = {"sequence"} if keras.backend.backend() == "jax" else set()


@pytest.mark.parametrize("name", sorted({*EXPERIMENTS} - SLOW))
def test_experiment_yields_finite_rows(name, monkeypatch):
    # Keras collects garbage for every layer that it quantizes, half a second
    # each in a process as large as this.
    monkeypatch.setattr(gc, "collect", lambda generation=2: 0)
    experiment = EXPERIMENTS[name]
    # The strengths of controllers are targets or starts, with claims of each.
    moves = name.startswith(("control", "settling"))
    strengths = None if moves else 1
    rows = list(experiment.run(replace(TINY, strengths=strengths)))
    arms = {row.arm for row in rows}
    assert rows[0].arm == NONE
    assert {row.experiment for row in rows} == {name}
    assert {row.seed for row in rows} == {0}
    # One row for each arm and strength.
    groups = {(group.arm, group.strength) for group in grouped(rows)}
    assert len(groups) == len(rows) >= len(arms) >= 3
    assert {*experiment.axes} <= {*experiment.columns}
    for row in rows:
        assert {*row.values} == {*experiment.columns} == {*row.validation}
        assert np.all(np.isfinite([*row.values.values()]))
        # Other digits, so other numbers.
        assert row.values != row.validation
    for claim in experiment.claims:
        assert {claim.arm, claim.against} - {None} <= arms
        assert claim.value in experiment.columns
        assert claim.relative in ("difference", "ratio")
        assert math.isfinite(claim.low) or math.isfinite(claim.high)
        if claim.strength is not None:
            assert (claim.arm, claim.strength) in groups


def test_moves_until_settled():
    away = [0.0, 10.0, 40.0, 30.0, 10.0]
    settled = [20.0] * 10
    # Even the mean of 10 and four times 20 is off: it is 18.
    assert moves_until_settled(away + settled, 20.0) == len(away) + 5
    assert moves_until_settled(settled, 20.0) == 5
    # Not settled.
    assert moves_until_settled(settled + away, 20.0) == 16
    assert moves_until_settled([20.0], 20.0) == 2
    # The mean of five evens out noise.
    noisy = [16.0, 24.0, 20.0, 16.0, 24.0] * 3
    assert moves_until_settled(noisy, 20.0) == 5


def test_trainings_start_from_the_same_weights():
    run = EXPERIMENTS["sparsity"].run
    rows = list(run(replace(TINY, seeds=(0, 0))))
    # Neither earlier trainings nor attached penalties leave a trace.
    plain = list(run(replace(TINY, strengths=0)))
    assert len(plain) == 1
    for row, again in zip(
        [*rows[4:], *plain], rows[:4] + rows[:1], strict=True
    ):
        assert (row.arm, row.strength) == (again.arm, again.strength)
        # JAX on CPU does not repeat a matmul to the last bit.
        assert row.values == pytest.approx(again.values, rel=1e-6)


def test_a_claim_that_is_seen():
    found = verdict(
        Claim("more zeros", "zero_share", "L1", low=0.3),
        rows_of("L1", [0.60, 0.62, 0.61]),
    )
    assert found.seen
    # Paired by seed: differences 0.40, 0.41, 0.39.
    assert found.mean == pytest.approx(0.40)
    # Student's 95 % quantile with 2 degrees of freedom is 2.92.
    reach = 2.91999 * 0.01 / math.sqrt(3)
    assert found.low == pytest.approx(0.40 - reach, abs=1e-6)
    assert found.high == pytest.approx(0.40 + reach, abs=1e-6)
    assert report.measured(SHOWN, found) == (
        "share of zeros 0.61 ± 0.01 against 0.21 ± 0.01"
    )


@pytest.mark.parametrize(
    ("claim", "values"),
    [
        # The wrong way, too small, too uncertain, and no number at all.
        (Claim("more", "zero_share", "L1", low=0), [0.1, 0.12, 0.11]),
        (Claim("more", "zero_share", "L1", low=0.5), [0.60, 0.62, 0.61]),
        (Claim("more", "zero_share", "L1", low=0), [0.9, 0.2, 0.3]),
        (Claim("more", "zero_share", "L1", low=0), [0.9, np.nan, 0.9]),
        (
            Claim("same", "zero_share", "L1", low=-0.1, high=0.1),
            [0.3, 0.1, 0.2],
        ),
    ],
)
def test_claims_that_are_not_seen(claim, values):
    assert not verdict(claim, rows_of("L1", values)).seen


def test_claims_of_ratios_and_of_an_arm_alone():
    rows = rows_of("L1", [0.40, 0.42, 0.44])
    claim = Claim(
        "double", "zero_share", "L1", relative="ratio", low=1.9, high=2.1
    )
    found = verdict(claim, rows)
    assert (found.mean, found.low, found.high) == pytest.approx((2.0,) * 3)
    assert found.seen
    alone = verdict(Claim("level", "zero_share", "L1", None, low=0.3), rows)
    assert alone.mean == pytest.approx(0.42)
    assert alone.seen
    assert report.measured(SHOWN, alone) == "share of zeros 0.42 ± 0.02"


def test_a_claim_about_an_unknown_arm_or_other_seeds_is_refused():
    with pytest.raises(ValueError, match=r"^Expected one of \['no penalty'\]"):
        verdict(Claim("more", "zero_share", "L1", low=0), [])
    with pytest.raises(ValueError, match=r"^Expected 'L1' and 'no penalty' to"):
        verdict(
            Claim("more", "zero_share", "L1", low=0), rows_of("L1", [0.6, 0.6])
        )


def test_summary_says_what_was_not_seen():
    values = {  # share of zeros, activation norm
        NONE: (0.2, 10.0),
        "L2": (0.5, 4.0),
        "L1": (0.9, 4.0),
        "Hoyer": (0.1, 9.5),
    }
    rows = [
        Row(
            "sparsity",
            arm,
            0.3,
            seed,
            {"accuracy": 0.9, "zero_share": zeros + seed / 1000, "norm": norm},
            {},
        )
        for arm, (zeros, norm) in values.items()
        for seed in range(3)
    ]
    findings = Findings.of(SHOWN, rows)
    results = report.merged(report.EMPTY, {}, findings)
    assert report.loaded(results) == [findings]
    assert report.summary(results).splitlines() == [
        "| claim |  | measured |",
        "| --- | ---: | ---: |",
        "| L1 makes more zeros than L2 | seen | share of zeros 0.901 ± 0.001 "
        "against 0.501 ± 0.001 |",
        "| Hoyer makes zeros | **not seen** | share of zeros 0.101 ± 0.001 "
        "against 0.201 ± 0.001 |",
        "| Hoyer keeps at least 0.9 of the activation norm | seen | "
        "activation norm 9.5 ± 0 against 10 ± 0 |",
        "",
        "Seen were 5 of all 6 claims. Not seen: Hoyer makes zeros (sparsity).",
    ]
    entries = results["claims"]
    assert [entry["seen"] for entry in entries] == [True] * 3 + [False] + [
        True
    ] * 2
    assert report.merged(results, {}, findings) == results
    # JSON has neither infinities nor NaN.
    json.dumps(results, allow_nan=False)


def test_groups_are_means_and_deviations_over_the_seeds():
    rows = [*CONTROL, *rows_of("L1", [0.3, 0.4, 0.8], strength=2.0)]
    control, group = grouped(rows)
    assert (control.arm, control.strength) == (NONE, 0.0)
    assert (group.arm, group.strength, group.seeds) == ("L1", 2.0, [0, 1, 2])
    assert group.values["zero_share"] == Spread(
        pytest.approx(0.5), pytest.approx(np.std([0.3, 0.4, 0.8], ddof=1))
    )
    assert group.validation == pytest.approx(
        {"zero_share": 0.5, "accuracy": 0.9}
    )
    assert str(group.values["zero_share"]) == "0.5 ± 0.3"


def test_strengths_are_chosen_on_validation_digits():
    rows = [
        *CONTROL,
        *rows_of("L1", [0.3, 0.3, 0.3], strength=1.0, accuracy=0.92),
        *rows_of("L1", [0.6, 0.6, 0.6], strength=2.0, accuracy=0.895),
        *rows_of("L1", [0.9, 0.9, 0.9], strength=3.0, accuracy=0.50),
        *rows_of("L2", [0.9, 0.9, 0.9], strength=1.0, accuracy=0.1),
        *rows_of("L2", [0.5, 0.5, 0.5], strength=2.0, accuracy=0.2),
    ]
    groups, choose = grouped(rows), strongest_at_equal_accuracy
    assert chosen(groups, "L1", choose) == 2.0
    # All cost too much: the one that costs least.
    assert chosen(groups, "L2", choose) == 2.0
    assert chosen(groups, "L1", closest("zero_share", 0.8)) == 3.0
    assert chosen(groups, "L1", None) is None
    assert chosen(groups, NONE, choose) == 0.0
    claim = Claim("more", "zero_share", "L1", low=0, strength=3.0)
    assert judge(claim, rows, choose).arm.mean == pytest.approx(0.9)


def test_measures_of_activations():
    h = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 5.0]])
    assert measures.zero_share(h) == 0.5
    assert measures.mean_norm(h) == pytest.approx(10 / 3)
    assert measures.mean_square(h) == pytest.approx(50 / 6)
    assert measures.off_diagonal_covariance(h) == pytest.approx(1.5)
    assert measures.off_diagonal_correlation(h) == pytest.approx(
        np.corrcoef(h.T)[0, 1]
    )
    constant = np.column_stack([h, np.ones(3)])
    assert measures.off_diagonal_correlation(constant) == pytest.approx(
        np.corrcoef(h.T)[0, 1]
    )
    eigenvalues = np.linalg.eigvalsh(np.cov(h.T))
    assert measures.participation_ratio(h) == pytest.approx(
        eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    )
    steps = np.array([[[0.0], [1.0], [3.0]]])
    assert measures.squared_difference(steps) == 2.5
    assert measures.kurtosis(np.array([1.0, -1.0, 1.0, -1.0])) == 1.0


def test_measures_of_logits():
    rng = np.random.default_rng(1)
    logits, y = rng.normal(size=(200, 10)), rng.integers(0, 10, 200)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert measures.log_z(logits) == pytest.approx(
        np.abs(np.log(np.exp(logits).sum(1))).mean()
    )
    assert measures.entropy(logits) == pytest.approx(
        stats.entropy(p, axis=1).mean()
    )
    assert measures.accuracy(logits, logits.argmax(1)) == 1.0
    confidence, right = p.max(1), p.argmax(1) == y
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            expected += inside.mean() * gap
    assert measures.calibration_error(logits, y) == pytest.approx(expected)


def test_quantized_has_one_scale_and_clips():
    h = np.array([-9.0, -0.4, 0.0, 0.6, 1.0, 7.0])
    # 3 bits: the integers -3 to 3, here steps of 1.
    np.testing.assert_allclose(
        measures.quantized(h, 3.0, 3), [-3.0, 0.0, 0.0, 1.0, 1.0, 3.0]
    )
    exact = np.arange(-127, 128) / 4
    np.testing.assert_allclose(measures.quantized(exact, 31.75, 8), exact)


def test_command_reports_and_keeps_other_experiments(tmp_path, monkeypatch):
    tiny = replace(TINY, seeds=(0, 1), strengths=1)
    monkeypatch.setitem(trials.EFFORTS, "quick", tiny)
    for name in ("confidence", "spars*"):
        command.main(["--quick", "--only", name, "--output", str(tmp_path)])
    results = json.loads((tmp_path / "effects.json").read_text())
    assert {*results["environments"]} == {"confidence", "sparsity"}
    assert {group["experiment"] for group in results["groups"]} == {
        "confidence",
        "sparsity",
    }
    seen = {(e["experiment"], e["claim"]): e["seen"] for e in results["claims"]}
    assert seen == {
        (found.experiment.name, verdict.claim.text): verdict.seen
        for found in report.loaded(results)
        for verdict in found.verdicts
    }
    text = (tmp_path / "effects.md").read_text()
    assert report.summary(results) in text
    assert text.index("## sparsity") < text.index("## confidence")
    assert (tmp_path / "effects.png").stat().st_size > 0
    everything = text + json.dumps(results)
    assert str(ROOT) not in everything
    assert os.uname().nodename not in everything


def test_command_refuses_an_unknown_experiment(tmp_path):
    with pytest.raises(SystemExit) as caught:
        command.main(["--only", "sparse", "--output", str(tmp_path)])
    assert str(caught.value) == (
        f"Expected --only to match one of {list(EXPERIMENTS)}. Received: "
        "['sparse']"
    )


def test_readme_and_report_show_the_recorded_results(tmp_path):
    results = json.loads(RESULTS.read_text())
    assert {*results["environments"]} == {*EXPERIMENTS}
    assert all(e["effort"] == "full" for e in results["environments"].values())
    claims = [claim for e in EXPERIMENTS.values() for claim in e.claims]
    assert [entry["claim"] for entry in results["claims"]] == [
        claim.text for claim in claims
    ]
    assert RESULTS.stat().st_size < 100_000
    assert report.summary(results) in (ROOT / "docs/effects.md").read_text()
    assert RESULTS.with_suffix(".md").read_text() == report.markdown(results)
    plots.plot(results, tmp_path / "effects.png")
    assert (tmp_path / "effects.png").stat().st_size > 0
