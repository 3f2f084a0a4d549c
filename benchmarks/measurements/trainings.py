"""Measurements of whole trainings, watched in several ways."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from benchmarks.arms import names, penalties, watchers
from benchmarks.arms.models import Workload
from benchmarks.arms.penalties import Trainee
from benchmarks.measurements.bench import COUNTS, Bench, attached, bare_twice
from benchmarks.timing.rounds import AGAIN, Comparison
from benchmarks.timing.turns import ENDLESS, Turn, compare_trainings
from keras_actpen import watch_activations

# The monitor instruments every 50th step, so one in such an epoch.
EPOCH_STEPS = 50
LONG_EPOCH_STEPS = 500
SHORT_EPOCH_STEPS = 10


@dataclass(frozen=True)
class Way:
    """A training.

    Attributes:
        trainee: Who trains. No two ways share one.
        callbacks: Makes the callbacks.
    """

    trainee: Trainee
    callbacks: watchers.Callbacks = list


def monitor(
    workload: Workload, bench: Bench, name: str, steps: int = EPOCH_STEPS
) -> Comparison:
    """Whole trainings with and without the callback."""
    ways = _unwatched(workload, bench)
    ways[names.MONITOR] = Way(
        attached(workload, bench), watchers.monitors()[names.MONITOR]
    )
    return _compare_trainings(ways, workload, bench, name, steps)


def monitor_of_long_epochs(
    workload: Workload, bench: Bench, name: str
) -> Comparison:
    """The same with ten instrumented steps an epoch."""
    return monitor(workload, bench, name, LONG_EPOCH_STEPS)


def followed_units(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings that log the terms, with and without dead units."""
    terms = watchers.monitors()[names.TERMS_ONLY]
    callbacks = {
        names.TERMS_ONLY: terms,
        names.TERMS_ONLY + AGAIN: terms,
        names.FOLLOWING: watchers.monitor_of_units(),
    }
    ways = {
        arm: Way(attached(workload, bench), of_arm)
        for arm, of_arm in callbacks.items()
    }
    return _compare_trainings(ways, workload, bench, name)


def watched_layers(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings that watch more and more layers."""
    ways = {
        arm: Way(trainee)
        for arm, trainee in bare_twice(workload, bench).items()
    }
    for number in COUNTS:
        model = watch_activations(
            workload.model(), list(workload.targets[:number])
        )
        trainee = Trainee(
            penalties.compiled(model, penalties.task_loss(), bench.jit_compile)
        )
        callbacks = watchers.monitors()[names.MONITOR]
        ways[names.watching(number)] = Way(trainee, callbacks)
    return _compare_trainings(ways, workload, bench, name)


def peers(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings, ours at several cadences and what others write."""
    ways = _unwatched(workload, bench)
    others = {**watchers.monitors(), names.TENSORBOARD: watchers.tensorboard()}
    for arm, callbacks in others.items():
        ways[arm] = Way(attached(workload, bench), callbacks)
    if bench.backend == "tensorflow":
        trainee = _with_layer_behind(workload, bench, watchers.SummaryInCall)
        writer = watchers.SummaryWriter()
        ways[names.SUMMARY_IN_CALL] = Way(trainee, lambda: [writer])
    if bench.backend == "torch":
        trainee = _with_layer_behind(workload, bench, watchers.HostPull)
        ways[names.HOST_PULLS] = Way(trainee)
    return _compare_trainings(ways, workload, bench, name)


def cadence(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Ours and extra forward passes, each once in a short epoch."""
    ways = _unwatched(workload, bench)
    ways[names.ONCE] = Way(
        attached(workload, bench), watchers.monitor_once_an_epoch()
    )
    for arm, histogram in (
        (names.EXTRA_PASS, watchers.tensorboard_histogram()),
        (names.LEAN_EXTRA_PASS, watchers.numpy_histogram),
    ):
        trainee = attached(workload, bench)
        ways[arm] = Way(
            trainee, watchers.extra_pass(trainee.model, workload, histogram)
        )
    return _compare_trainings(ways, workload, bench, name, SHORT_EPOCH_STEPS)


def _unwatched(workload: Workload, bench: Bench) -> dict[str, Way]:
    """Two trainings of penalized models that nobody watches."""
    return {
        arm: Way(attached(workload, bench))
        for arm in (names.ATTACHED, names.ATTACHED + AGAIN)
    }


def _with_layer_behind(
    workload: Workload, bench: Bench, make: Callable[[], keras.layers.Layer]
) -> Trainee:
    """`attach_penalty`, and a layer behind each target."""
    model = penalties.with_layer_behind(
        attached(workload, bench).model, workload.targets, make
    )
    return Trainee(
        penalties.compiled(model, penalties.task_loss(), bench.jit_compile)
    )


def _compare_trainings(
    ways: dict[str, Way],
    workload: Workload,
    bench: Bench,
    name: str,
    steps: int = EPOCH_STEPS,
) -> Comparison:
    steps //= bench.effort.shorter

    def fit(way: Way) -> Callable[[Turn], object]:
        return lambda turn: way.trainee.model.fit(
            workload.forever(),
            steps_per_epoch=steps,
            epochs=ENDLESS,
            shuffle=False,
            verbose=0,
            callbacks=[turn, *way.callbacks()],
        )

    fits = {arm: fit(way) for arm, way in ways.items()}
    return compare_trainings(name, bench.backend, fits, steps, bench.works)
