"""Single steps: of training, of `predict` and of `evaluate`."""

from collections.abc import Callable, Mapping

import keras

from benchmarks.arms import names, penalties
from benchmarks.arms.models import Workload
from benchmarks.arms.penalties import Trainee
from benchmarks.measurements.bench import (
    COUNTS,
    Bench,
    attached,
    bare_twice,
    check_losses,
)
from benchmarks.timing.rounds import AGAIN, Arm, Comparison, compare, timed


def steps(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Training steps of all ways to penalize."""
    groups = [
        penalties.l2_trainees,
        penalties.l1_trainees,
        penalties.many_terms,
    ]
    if workload.policy != "float32":
        # Keras's own penalties overflow or fail in half precision.
        groups = [penalties.attached_trainees]
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
    return _compare_calls(
        trainees, lambda model: model.predict_on_batch(x), bench, name
    )


def evaluate(workload: Workload, bench: Bench, name: str) -> Comparison:
    """`test_on_batch` with Keras's own penalty and with ours."""
    l2 = keras.regularizers.L2(penalties.COEFFICIENT)
    trainees = {
        arm: penalties.built_in(workload, bench.jit_compile, l2)
        for arm in (names.BUILT_IN, names.BUILT_IN + AGAIN)
    }
    trainees[names.ATTACHED] = attached(workload, bench)
    check_losses(trainees, workload)
    x, labels = workload.data(1)
    return _compare_calls(
        trainees, lambda model: model.test_on_batch(x, labels), bench, name
    )


def _compare_steps(
    trainees: Mapping[str, Trainee], workload: Workload, bench: Bench, name: str
) -> Comparison:
    arms = [
        penalties.step_arm(arm, trainee, workload)
        for arm, trainee in trainees.items()
    ]
    return compare(name, bench.backend, arms, bench.steps)


def _compare_calls(
    trainees: Mapping[str, Trainee],
    call: Callable[[keras.Model], object],
    bench: Bench,
    name: str,
) -> Comparison:
    def arm(name: str, model: keras.Model) -> Arm:
        return Arm(name, timed(lambda: call(model)))

    arms = [arm(name, trainee.model) for name, trainee in trainees.items()]
    return compare(name, bench.backend, arms, bench.steps)
