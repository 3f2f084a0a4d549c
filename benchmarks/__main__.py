"""The command line: `python -m benchmarks`."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks import plots, report

BACKENDS = ("tensorflow", "tensorflow-xla", "jax", "torch")
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    """Measure on each backend in a process of its own, then report."""
    options = _parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "results.json"
    results = {"environments": {}, "comparisons": []}
    if file.exists():
        results = json.loads(file.read_text())
    for backend in options.backend or _installed():
        new = _measure(
            backend, options.device, options.effort, options.only or ["*"]
        )
        results = report.merged(results, new, options.device)
        # After each backend: a later one may be interrupted.
        file.write_text(json.dumps(results, indent=1) + "\n")
    text = report.markdown(results)
    (options.output / "results.md").write_text(text)
    comparisons = report.loaded(results)
    plots.plots(comparisons, options.output)
    print(report.target_table(comparisons))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What a penalty, and watching it, costs.",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="measurements to run, for example 'steps/*'; may be repeated; "
        "results of earlier runs are kept beside",
    )
    parser.add_argument(
        "--backend",
        action="append",
        choices=BACKENDS,
        help="may be repeated; by default all that are installed",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--quick",
        dest="effort",
        action="store_const",
        const="quick",
        default="full",
        help="few and short rounds, to see that everything runs",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        help="directory for results.json, results.md and the plots",
    )
    return parser


def _installed() -> list[str]:
    return [b for b in BACKENDS if find_spec(b.removesuffix("-xla"))]


def _measure(
    backend: str, device: str, effort: str, patterns: list[str]
) -> dict:
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
        if device == "cpu":
            environment |= {
                "CUDA_VISIBLE_DEVICES": "",
                "JAX_PLATFORMS": "cpu",
            }
        worker = [sys.executable, "-m", "benchmarks.worker"]
        subprocess.run(
            [*worker, backend, device, effort, str(output), *patterns],
            check=True,
            cwd=Path(__file__).parents[1],
            env=environment,
        )
        return json.loads(output.read_text())


if __name__ == "__main__":
    main()
