"""What is paid once: the first step, attaching, importing."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import keras
import numpy as np

from benchmarks.arms import names, penalties
from benchmarks.arms.models import Workload
from benchmarks.arms.penalties import Trainee
from benchmarks.measurements.bench import Bench, attached
from benchmarks.timing.rounds import (
    AGAIN,
    Arm,
    Comparison,
    Rounds,
    compare,
    timed,
)
from keras_actpen import attach_penalty

# What counts is the same each time.
ONCE = Rounds(fewest=1)


def first_step(workload: Workload, bench: Bench, name: str) -> Comparison:
    """First step of a new model: tracing and compiling."""

    def arm(name: str, make: Callable[[], Trainee]) -> Arm:
        return Arm(name, partial(_first_step_seconds, make, workload))

    bare = partial(penalties.bare, workload, bench.jit_compile)
    arms = [arm(names.BARE, bare), arm(names.BARE + AGAIN, bare)]
    for number in (1, len(workload.targets)):
        targets = workload.targets[:number]
        make = partial(attached, workload, bench, targets)
        arms.append(arm(names.on_layers(number), make))
    return compare(name, bench.backend, arms, bench.works)


def attach_time(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Time to attach against the copy that it makes unnecessary."""
    model = workload.model()
    arms = [
        Arm(arm, timed(make)) for arm, make in _copies(model, workload).items()
    ]
    return compare(name, bench.backend, arms, bench.works)


def new_weights(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Bytes of the variables that the new model does not share."""
    model = workload.model()
    arms = [
        Arm(arm, partial(_new_bytes, model, make))
        for arm, make in _copies(model, workload).items()
    ]
    return compare(name, bench.backend, arms, ONCE, "bytes")


def importing(bench: Bench, name: str) -> Comparison:
    """Time of a process that imports the package, and Keras anyway."""

    def arm(name: str) -> Arm:
        command = [sys.executable, "-c", name.removesuffix(AGAIN)]
        return Arm(name, timed(partial(subprocess.run, command, check=True)))

    arms = [names.IMPORT_KERAS, names.IMPORT_KERAS + AGAIN, names.IMPORT]
    return compare(name, bench.backend, [arm(a) for a in arms], bench.works)


def _copies(
    model: keras.Model, workload: Workload
) -> dict[str, Callable[[], keras.Model]]:
    """The ways to a second model, with a penalty or as a copy."""

    def clone() -> keras.Model:
        found = keras.models.clone_model(model)
        found.set_weights(model.get_weights())
        return found

    def attach(targets: Sequence[str]) -> keras.Model:
        return attach_penalty(model, list(targets), l2=penalties.COEFFICIENT)

    return {
        names.CLONE: clone,
        names.CLONE + AGAIN: clone,
        names.ATTACHED: partial(attach, workload.targets),
        names.on_layers(1): partial(attach, workload.targets[:1]),
    }


def _new_bytes(old: keras.Model, make: Callable[[], keras.Model]) -> float:
    shared = {id(variable) for variable in old.variables}
    return float(
        sum(
            int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize
            for variable in make().variables
            if id(variable) not in shared
        )
    )


def _first_step_seconds(
    make: Callable[[], Trainee], workload: Workload
) -> float:
    trainee = make()
    data = workload.data(1)
    start = time.perf_counter()
    trainee.step(data)
    penalties.synchronize(trainee.model)
    return time.perf_counter() - start
