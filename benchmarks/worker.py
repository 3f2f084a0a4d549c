"""Runs measurements on the Keras backend of this process.

`python -m benchmarks.worker BACKEND DEVICE EFFORT OUTPUT [PATTERN ...]`
"""

import dataclasses
import json
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import keras

from benchmarks.bench import EFFORTS, Bench
from benchmarks.report import environment
from benchmarks.suite import measurements


def main(arguments: list[str]) -> None:
    """Measure what matches a pattern and write it after each measurement."""
    backend, device, effort, output, *patterns = arguments
    bench = Bench(backend, device, EFFORTS[effort])
    results = {"environment": environment(backend), "comparisons": []}
    for name, measure in measurements(bench):
        if not any(fnmatch(name, pattern) for pattern in patterns):
            continue
        start = time.perf_counter()
        comparison = dataclasses.asdict(measure(bench, name))
        results["comparisons"].append(
            {**comparison, "device": device, "effort": effort}
        )
        Path(output).write_text(json.dumps(results))
        seconds = time.perf_counter() - start
        # The models of one measurement are too many for those to come.
        keras.utils.clear_session()
        print(f"{backend} {name} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
