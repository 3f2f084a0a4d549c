"""The command line: `python -m benchmarks`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.arms.names import BACKENDS
from benchmarks.report import page, summaries
from benchmarks.timing import core

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    """Measure on each backend in a process of its own, then report."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.json"
    results = summaries.EMPTY
    if file.exists():
        results = json.loads(file.read_text())
    if options.device == "cpu":
        core.pin()
    for backend in options.backend or _installed():
        new = _measure(backend, options)
        if new is None:
            continue
        results = summaries.merged(results, new)
        # After each backend: a later one may be interrupted.
        file.write_text(summaries.to_json(results))
    text = page.page(results)
    (options.output / "results.md").write_text(text)
    print(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what penalties and watching cost, against what "
        "one would write instead. Writes results.json (numbers) and "
        "results.md (one page). What is measured again replaces its old row; "
        "all other rows are kept.",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="measure what matches, for example 'steps/*'; may be repeated; "
        "the default is all but the slowest: "
        "mnist_cnn-512 and the training of resnet50-8",
    )
    parser.add_argument(
        "--backend",
        action="append",
        choices=BACKENDS,
        help="may be repeated; the default is every installed one",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        default="cpu",
        help="cpu: on one core (default); gpu: nothing is measured where "
        "the backend finds none",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=40,
        help="for each backend (default: %(default)s); noisy rows are "
        "measured until their intervals are narrower than 2 %%, their share "
        "of the minutes is over, or ten minutes have passed",
    )
    parser.add_argument(
        "--quick",
        dest="effort",
        action="store_const",
        const="quick",
        default="full",
        help="a few short rounds, to see that everything runs",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        help="directory of results.json and results.md",
    )
    return parser


def _installed() -> list[str]:
    return [b for b in BACKENDS if find_spec(b.removesuffix("-xla"))]


def _measure(
    backend: str, options: argparse.Namespace
) -> dict[str, Any] | None:
    """What the worker wrote; `None` if it measured nothing."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        output = Path(directory) / "results.json"
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend.removesuffix("-xla"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TMPDIR": directory,
            # Trainings that take turns are threads. glibc gives each a part
            # of the memory: on torch the same training differed by 15 %.
            "MALLOC_ARENA_MAX": "1",
        }
        if options.device == "cpu":
            environment |= {
                "CUDA_VISIBLE_DEVICES": "",
                "JAX_PLATFORMS": "cpu",
            }
        minutes = 0 if options.effort == "quick" else options.minutes
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.worker"),
                *(backend, options.device, options.effort, str(minutes)),
                *(str(output), *options.only),
            ],
            check=True,
            cwd=Path(__file__).parents[1],
            env=environment,
        )
        return json.loads(output.read_text()) if output.exists() else None


if __name__ == "__main__":
    main()
