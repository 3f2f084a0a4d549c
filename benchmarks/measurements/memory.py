"""Peak memory of training steps, each model in a process of its own."""

import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from benchmarks.arms import names, penalties
from benchmarks.arms.models import MNIST_CNN
from benchmarks.measurements.bench import Bench
from benchmarks.timing.rounds import AGAIN, Arm, Comparison, compare

# Large enough that no other memory hides one of the activations.
BATCH_SIZE = 1024

_PROBE = """
import sys
from benchmarks.measurements import memory
memory.probe(*sys.argv[1:])
"""


def memory(bench: Bench, name: str) -> Comparison:
    """Peak resident bytes, and those of the largest activation beside."""
    arms = [
        Arm(arm, partial(_peak, arm, bench.jit_compile))
        for arm in (
            names.BARE,
            names.BARE + AGAIN,
            names.BUILT_IN,
            names.ATTACHED,
        )
    ]
    shape = MNIST_CNN.model().get_layer("conv_2").output.shape[1:]
    facts = {"activation_bytes": 4.0 * BATCH_SIZE * float(np.prod(shape))}
    return compare(name, bench.backend, arms, bench.works, "bytes", facts)


def probe(arm: str, jit_compile: str) -> None:
    """Train and print the peak of this process's memory meanwhile.

    Args:
        arm: Name of the arm.
        jit_compile: `"True"` or `"auto"`.
    """
    workload = replace(MNIST_CNN, batch_size=BATCH_SIZE)
    l2 = keras.regularizers.L2(penalties.COEFFICIENT)
    makers = {
        names.BARE: penalties.bare,
        names.BUILT_IN: partial(penalties.built_in, regularizer=l2),
        names.ATTACHED: partial(penalties.attached, l2=penalties.COEFFICIENT),
    }
    trainee = makers[arm](
        workload, True if jit_compile == "True" else jit_compile
    )
    data = workload.data(1)
    trainee.step(data)
    # Linux forgets the peak so far, that of compiling.
    Path("/proc/self/clear_refs").write_text("5")
    trainee.step(data)
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024)


def _peak(arm: str, jit_compile: bool | str) -> float:
    arguments = [arm.removesuffix(AGAIN), str(jit_compile)]
    result = subprocess.run(
        [sys.executable, "-c", _PROBE, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(result.stdout.split()[-1])
