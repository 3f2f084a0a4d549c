"""Measures on the Keras backend of this process.

`python -m benchmarks.worker BACKEND DEVICE EFFORT MINUTES OUTPUT [PATTERN ...]`
"""

import json
import sys
import time
from pathlib import Path

import keras

from benchmarks.measurements.bench import EFFORTS, Bench
from benchmarks.measurements.suite import selected
from benchmarks.report.environment import environment
from benchmarks.report.summaries import summarize

# For a row that is too noisy.
LONGEST = 600.0


def main(arguments: list[str]) -> None:
    """Measure what is selected and write it after each measurement."""
    backend, device, effort, minutes, output, *patterns = arguments
    found = environment(backend)
    if device == "gpu" and not found["accelerators"]:
        print(f"{backend}: no GPU, nothing measured", flush=True)
        return
    rows = []
    end = time.perf_counter() + 60 * float(minutes)
    chosen = selected(backend, device, patterns)
    for index, (name, measure) in enumerate(chosen):
        start = time.perf_counter()
        # An equal share of the time that is left.
        share = max(end - start, 0.0) / (len(chosen) - index)
        bench = Bench(backend, device, EFFORTS[effort], min(share, LONGEST))
        row = summarize(measure(bench, name), device, effort)
        rows.append(row)
        Path(output).write_text(
            json.dumps({"environment": found, "rows": rows})
        )
        # The models of one measurement are too many for those to come.
        keras.utils.clear_session()
        seconds = time.perf_counter() - start
        print(
            f"{backend} {name}: {row['rounds']} rounds ({row['disturbed']} "
            f"disturbed, {row['left_out']} more left out), intervals up to "
            f"{100 * row['width']:.1f} % wide ({seconds:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
