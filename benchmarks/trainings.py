"""Measurements of whole trainings, watched in several ways."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from benchmarks import arms, names, watching
from benchmarks.arms import Trainee
from benchmarks.bench import COUNTS, Bench, attached, bare_twice
from benchmarks.harness import AGAIN, Comparison
from benchmarks.models import Workload
from benchmarks.turns import Turn, compare_trainings
from keras_actpen import watch_activations

SHORT_EPOCH_STEPS = 10


@dataclass(frozen=True)
class Way:
    """A training.

    Attributes:
        trainee: Who trains. No two ways share one.
        callbacks: Makes the callbacks.
    """

    trainee: Trainee
    callbacks: watching.Callbacks = list


def monitor(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings with and without the callback."""
    ways = _unwatched(workload, bench)
    ways[names.MONITOR] = Way(
        attached(workload, bench), watching.monitors()[names.MONITOR]
    )
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
            arms.compiled(model, arms.task_loss(), bench.jit_compile)
        )
        callbacks = watching.monitors()[names.MONITOR]
        ways[names.watching(number)] = Way(trainee, callbacks)
    return _compare_trainings(ways, workload, bench, name)


def peers(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings, ours at several cadences and what others write."""
    ways = _unwatched(workload, bench)
    others = {**watching.monitors(), names.TENSORBOARD: watching.tensorboard()}
    for arm, callbacks in others.items():
        ways[arm] = Way(attached(workload, bench), callbacks)
    if bench.backend == "tensorflow":
        trainee = _with_layer_behind(workload, bench, watching.SummaryInCall)
        writer = watching.SummaryWriter()
        ways[names.SUMMARY_IN_CALL] = Way(trainee, lambda: [writer])
    if bench.backend == "torch":
        trainee = _with_layer_behind(workload, bench, watching.HostPull)
        ways[names.HOST_PULLS] = Way(trainee)
    return _compare_trainings(ways, workload, bench, name)


def cadence(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Ours and extra forward passes, each once in a short epoch."""
    ways = _unwatched(workload, bench)
    ways[names.ONCE] = Way(
        attached(workload, bench), watching.monitor_once_an_epoch()
    )
    for arm, histogram in (
        (names.EXTRA_PASS, watching.tensorboard_histogram()),
        (names.LEAN_EXTRA_PASS, watching.numpy_histogram),
    ):
        trainee = attached(workload, bench)
        ways[arm] = Way(
            trainee, watching.extra_pass(trainee.model, workload, histogram)
        )
    return _compare_trainings(
        ways, workload, bench, name, steps=SHORT_EPOCH_STEPS
    )


def _unwatched(workload: Workload, bench: Bench) -> dict[str, Way]:
    """Two trainings of penalised models that nobody watches."""
    return {
        arm: Way(attached(workload, bench))
        for arm in (names.ATTACHED, names.ATTACHED + AGAIN)
    }


def _with_layer_behind(
    workload: Workload, bench: Bench, make: Callable[[], keras.layers.Layer]
) -> Trainee:
    """`attach_penalty`, and a layer behind each target."""
    model = arms.with_layer_behind(
        attached(workload, bench).model, workload.targets, make
    )
    return Trainee(arms.compiled(model, arms.task_loss(), bench.jit_compile))


def _compare_trainings(
    ways: dict[str, Way],
    workload: Workload,
    bench: Bench,
    name: str,
    steps: int | None = None,
) -> Comparison:
    probe = arms.step_arm("probe", next(iter(ways.values())).trainee, workload)
    probe.run()
    seconds = min(probe.run() for _ in range(3))
    if steps is None:
        fewest, most = bench.effort.epoch_steps
        steps = round(bench.effort.epoch_seconds / seconds)
        steps = min(max(steps, fewest), most)
    epochs = bench.effort.epochs.number(seconds * steps * len(ways))

    def fit(way: Way) -> Callable[[Turn], object]:
        return lambda turn: way.trainee.model.fit(
            workload.forever(),
            steps_per_epoch=steps,
            epochs=epochs + 1,
            shuffle=False,
            verbose=0,
            callbacks=[turn, *way.callbacks()],
        )

    fits = {arm: fit(way) for arm, way in ways.items()}
    return compare_trainings(name, bench.backend, fits, steps, epochs)
