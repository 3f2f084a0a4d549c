"""Measurements of what is paid once: compiling, memory, attaching, writing."""

from collections.abc import Callable
from functools import partial

from benchmarks import arms, costs, names
from benchmarks.bench import COUNTS, Bench, attached
from benchmarks.harness import AGAIN, Arm, Comparison, Rounds, compare
from benchmarks.models import Workload

EVENTS = 200
# What counts is the same each time.
ONCE = Rounds(0.0, 1, 1)


def first_step(workload: Workload, bench: Bench, name: str) -> Comparison:
    """First step of a new model, with penalties on more and more layers."""
    makers = {
        names.BARE: partial(arms.bare, workload, bench.jit_compile),
        names.BARE + AGAIN: partial(arms.bare, workload, bench.jit_compile),
    }
    for number in COUNTS:
        makers[names.on_layers(number)] = partial(
            attached, workload, bench, workload.targets[:number]
        )
    found = [
        Arm(arm, partial(costs.first_step, make, workload))
        for arm, make in makers.items()
    ]
    return compare(name, bench.backend, found, bench.effort.works)


def memory(bench: Bench, name: str) -> Comparison:
    """Peak memory of training steps, each model in a process of its own."""
    found = [
        Arm(arm, partial(costs.peak_memory, arm, bench.jit_compile))
        for arm in (
            names.BARE,
            names.BARE + AGAIN,
            names.BUILT_IN,
            names.ATTACHED,
        )
    ]
    rounds = bench.effort.works
    facts = {"activation_bytes": costs.largest_activation()}
    return compare(name, bench.backend, found, rounds, "bytes", facts)


def attach_time(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Time to attach against the copy that it makes unnecessary."""
    found = costs.attaching(workload)
    return compare(name, bench.backend, found, bench.effort.works)


def new_weights(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Bytes of the variables that attaching creates, against a copy's."""
    found = costs.new_weights(workload)
    return compare(name, bench.backend, found, ONCE, "bytes")


def importing(bench: Bench, name: str) -> Comparison:
    """Time of a process that imports the package."""
    found = costs.importing()
    return compare(name, bench.backend, found, bench.effort.works)


def write_time(kind: str, bench: Bench, name: str) -> Comparison:
    """Time to write events, ours against TensorFlow's."""
    found = _writing(kind, costs.write_seconds)
    return compare(name, bench.backend, found, bench.effort.works)


def write_bytes(kind: str, bench: Bench, name: str) -> Comparison:
    """Bytes of events, ours against TensorFlow's."""
    found = _writing(kind, costs.write_bytes)
    return compare(name, bench.backend, found, ONCE, "bytes")


def _writing(kind: str, measure: Callable) -> list[Arm]:
    writers = costs.writing(EVENTS)[kind]
    baseline = next(iter(writers))
    writers[baseline + AGAIN] = writers[baseline]
    return [Arm(arm, partial(measure, write)) for arm, write in writers.items()]
