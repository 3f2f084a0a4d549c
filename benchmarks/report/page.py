"""results.md: one page."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.arms import names
from benchmarks.report.summaries import Row, rows
from benchmarks.report.targets import TARGETS
from benchmarks.report.verdicts import LARGEST_NOISE, Verdict, verdicts
from benchmarks.timing.ratios import Ratio
from benchmarks.timing.rounds import WIDTH

# Of each measurement, what is timed and the arms to show.
Parts = Mapping[str, tuple[str, Sequence[str]]]
TRAINING: Parts = {
    "steps/mnist_cnn-128": (
        "step",
        (
            names.BUILT_IN,
            names.CUSTOM_LOSS,
            names.ADD_LOSS,
            names.ATTACHED,
        ),
    ),
    "peers/mnist_cnn-128": (
        "training",
        (
            names.SUMMARY_IN_CALL,
            names.HOST_PULLS,
            names.TENSORBOARD,
            names.EVERY_STEP,
            names.MONITOR,
        ),
    ),
}
PAID_ONCE: Parts = {
    "first_step/deep_mlp": (
        "first step",
        (names.on_layers(1), names.on_layers(64)),
    ),
    "memory/mnist_cnn-1024": (
        "peak memory",
        (names.BUILT_IN, names.ATTACHED),
    ),
    "import/process": (f"time to {names.IMPORT_KERAS}", (names.IMPORT,)),
    "write_time/scalars": (f"time of {names.TF_SCALAR}", (names.SCALAR,)),
    "write_bytes/scalars": (f"bytes of {names.TF_SCALAR}", (names.SCALAR,)),
    "write_time/histograms": (
        f"time of {names.TF_HISTOGRAM}",
        (names.HISTOGRAM,),
    ),
    "write_bytes/histograms": (
        f"bytes of {names.TF_HISTOGRAM}",
        (names.HISTOGRAM,),
    ),
}


def page(results: Mapping[str, Any]) -> str:
    """The whole page, from the content of results.json."""
    found = rows(results)
    missing = [
        target.text
        for target in TARGETS
        if target.device == "cpu"
        and not any(target.key in row.targets for row in found)
    ]
    parts = [
        "# What a penalty costs",
        "Written by `python -m benchmarks` from results.json. All numbers are "
        "ratios within one run: medians over rounds in which every arm ran "
        "once, in random order; in brackets the 95 % interval of the median. "
        "Models are taken together by their geometric mean; the worst one "
        "stands beside it. *A/A noise*, of the mean and of the worst model, "
        "is how far from 1 the interval of the baseline against itself "
        "reaches.",
        "A target is *met* if the mean and the worst model meet it. *Within "
        "noise*: beyond the limit by less than the noise, or the interval "
        "reaches the limit. *Too noisy to tell*: so too, but that noise or "
        "what the interval reaches beyond the limit is above "
        f"{LARGEST_NOISE:g} of the limit.",
        *machines((e["backend"], e) for e in results["environments"]),
        _exactness(found),
        "## Overview",
        overview(found, TRAINING),
        "## Targets",
        target_table(found),
        *([f"Not measured yet: {'; '.join(missing)}."] if missing else ()),
        "## Paid once",
        overview(found, PAID_ONCE),
    ]
    return "\n\n".join(parts) + "\n"


def overview(found: Iterable[Row], parts: Parts = TRAINING) -> str:
    """Arms against their baselines, a column a backend, on the CPU.

    Args:
        found: The measurements.
        parts: Which of them to show, and what of them.
    """
    by_name = {
        (row.name, row.backend): row
        for row in found
        if row.device == "cpu" and row.name in parts
    }
    backends = list(dict.fromkeys(backend for _, backend in by_name))
    lines = []
    for name, (what, arms) in parts.items():
        of_name = [by_name.get((name, backend)) for backend in backends]
        for arm in arms:
            cells = [_cell(row, arm) for row in of_name]
            if any(cells):
                lines.append([f"{what}: {arm}", *cells])
    return table(["with / without", *backends], lines)


def target_table(found: Sequence[Row]) -> str:
    """A verdict a target and backend."""
    header = [
        "target",
        "backend",
        "limit",
        "mean",
        "worst",
        "A/A noise",
        "verdict",
        "code",
    ]
    return table(header, map(_verdict_line, verdicts(found)))


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its interval, if it was measured more than once."""
    if math.isinf(ratio.median):
        return f"> {_number(ratio.low)}, no overhead seen"
    median, low, high = map(_number, (ratio.median, ratio.low, ratio.high))
    return median if low == high else f"{median} ({low}..{high})"


def machines(found: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    """What ran where, things with the same environment together.

    Args:
        found: Names of things, each with its environment.
    """
    together: dict[str, list[str]] = {}
    for name, environment in found:
        versions = ", ".join(
            f"{package} {version}"
            for package, version in environment["versions"].items()
        )
        machine = ", ".join(
            [
                f"{environment['cores']} core(s) of {environment['cpu']}",
                environment["system"],
                *environment["accelerators"],
            ]
        )
        commit = environment.get("commit") or "not recorded"
        text = f"{machine}; {versions}; commit {commit}."
        together.setdefault(text, []).append(name)
    for text, all_names in together.items():
        yield f"{', '.join(all_names)}: {text}"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left."""
    found = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in found)


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.1 <= abs(value) < 10 else f"{value:.3g}"


def _verdict_line(verdict: Verdict) -> list[str]:
    target, worst = verdict.target, verdict.worst
    model = worst.name.split("/")[1]
    worst_text, noises = model, [verdict.noise]
    if len(verdict.rows) > 1:
        worst_text = f"{ratio_text(verdict.ratio(worst))} {model}"
        noises.append(worst.noise)
    return [
        target.text,
        worst.backend,
        target.limit_text,
        ratio_text(verdict.mean),
        worst_text,
        ", ".join(f"{noise:.3f}" for noise in noises),
        verdict.text,
        ", ".join(sorted({row.code for row in verdict.rows})),
    ]


def _exactness(found: Sequence[Row]) -> str:
    """How many rows of each backend are noisy, and how many disturbed."""
    counts = []
    for backend in dict.fromkeys(row.backend for row in found):
        of_it = [row for row in found if row.backend == backend]
        wide = sum(row.width > WIDTH for row in of_it)
        checked = [row.disturbed for row in of_it if row.disturbed is not None]
        disturbed = sum(map(bool, checked)) if checked else "unknown"
        counts.append(f"{backend} {wide} and {disturbed} of {len(of_it)}")
    return (
        f"Rows with an interval wider than {100 * WIDTH:g} % when their time "
        "was over, and rows with too few rounds in which no other process "
        f"took the core: {', '.join(counts)}."
    )


def _cell(row: Row | None, arm: str) -> str:
    if row is None or arm not in row.ratios:
        return ""
    return f"{row.ratios[arm].median:.2f}"
