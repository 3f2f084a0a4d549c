"""Measurements of steps: of training, of `predict` and of `evaluate`."""

import keras

from benchmarks import arms, names
from benchmarks.arms import Trainee
from benchmarks.bench import (
    COUNTS,
    Bench,
    attached,
    bare_twice,
    check_losses,
)
from benchmarks.harness import AGAIN, Arm, Comparison, compare, timed
from benchmarks.models import Workload


def steps(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Training steps of all ways to penalise."""
    groups = [arms.l2_trainees, arms.l1_trainees, arms.many_terms]
    if workload.policy != "float32":
        # Keras's own penalties overflow or fail in half precision.
        groups = [arms.attached_trainees]
    trainees = bare_twice(workload, bench)
    for group in groups:
        equal = group(workload, bench.jit_compile)
        check_losses(equal, workload)
        trainees |= equal
    return _compare_steps(trainees, workload, bench, name)


def penalized_layers(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Training steps with penalties on more and more layers."""
    trainees = bare_twice(workload, bench)
    for number in COUNTS:
        trainees[names.on_layers(number)] = attached(
            workload, bench, workload.targets[:number]
        )
    return _compare_steps(trainees, workload, bench, name)


def predict(workload: Workload, bench: Bench, name: str) -> Comparison:
    """`predict_on_batch` with and without a penalty."""
    trainees = bare_twice(workload, bench)
    trainees[names.ATTACHED] = attached(workload, bench)
    x, _ = workload.data(1)

    def arm(name: str, model: keras.Model) -> Arm:
        return Arm(name, timed(lambda: model.predict_on_batch(x)))

    found = [arm(name, trainee.model) for name, trainee in trainees.items()]
    return compare(name, bench.backend, found, bench.effort.steps)


def evaluate(workload: Workload, bench: Bench, name: str) -> Comparison:
    """`test_on_batch` with Keras's own penalty and with ours."""
    l2 = keras.regularizers.L2(arms.COEFFICIENT)
    trainees = {
        arm: arms.built_in(workload, bench.jit_compile, l2)
        for arm in (names.BUILT_IN, names.BUILT_IN + AGAIN)
    }
    trainees[names.ATTACHED] = attached(workload, bench)
    check_losses(trainees, workload)
    x, labels = workload.data(1)

    def arm(name: str, model: keras.Model) -> Arm:
        return Arm(name, timed(lambda: model.test_on_batch(x, labels)))

    found = [arm(name, trainee.model) for name, trainee in trainees.items()]
    return compare(name, bench.backend, found, bench.effort.steps)


def _compare_steps(
    trainees: dict[str, Trainee], workload: Workload, bench: Bench, name: str
) -> Comparison:
    found = [
        arms.step_arm(arm, trainee, workload)
        for arm, trainee in trainees.items()
    ]
    return compare(name, bench.backend, found, bench.effort.steps)
