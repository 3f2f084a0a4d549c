"""The command line: `python -m benchmarks.effects`."""

import argparse
import json
from fnmatch import fnmatch
from pathlib import Path

import keras

from benchmarks.effects import plots, report
from benchmarks.effects.suite import EXPERIMENTS
from benchmarks.effects.trials import EFFORTS
from benchmarks.report.environment import environment as environment_of
from benchmarks.report.summaries import to_json

RESULTS = Path(__file__).parents[1] / "results"


def main(arguments: list[str] | None = None) -> None:
    """Train on the backend of this process, then report."""
    options = _parser().parse_args(arguments)
    names = [
        name
        for name in EXPERIMENTS
        if any(fnmatch(name, pattern) for pattern in options.only or ["*"])
    ]
    if not names:
        raise SystemExit(
            f"Expected --only to match one of {list(EXPERIMENTS)}. Received: "
            f"{options.only}"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "effects.json"
    results = report.EMPTY
    if file.exists():
        results = json.loads(file.read_text())
    environment = {
        **environment_of(keras.backend.backend()),
        "effort": options.effort,
    }
    for name in names:
        experiment, rows = EXPERIMENTS[name], []
        for row in experiment.run(EFFORTS[options.effort]):
            rows.append(row)
            print(_line(row), flush=True)
        found = report.Findings.of(experiment, rows)
        results = report.merged(results, environment, found)
        # After each experiment: a later one may be interrupted.
        file.write_text(to_json(results))
    (options.output / "effects.md").write_text(report.markdown(results))
    plots.plot(results, options.output / "effects.png")
    print(report.summary(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.effects",
        description="Whether the penalties do what their papers say.",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help=f"experiments to run, of {', '.join(EXPERIMENTS)}; may be "
        "repeated; results of earlier runs are kept beside",
    )
    parser.add_argument(
        "--quick",
        dest="effort",
        action="store_const",
        const="quick",
        default="full",
        help="few digits and epochs, to see that everything runs",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        help="directory for effects.json, effects.md and effects.png",
    )
    return parser


def _line(row) -> str:
    values = ", ".join(f"{k} {v:.3g}" for k, v in row.values.items())
    return (
        f"{row.experiment}, seed {row.seed}, {row.arm} {row.strength:g}: "
        f"{values}"
    )


if __name__ == "__main__":
    main()
