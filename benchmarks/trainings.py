"""Measurements of whole trainings, watched in several ways."""

from collections.abc import Callable

import keras

from benchmarks import arms, names, watching
from benchmarks.arms import Trainee
from benchmarks.bench import COUNTS, Bench, attached, steps_in
from benchmarks.harness import AGAIN, Arm, Comparison, compare, timed
from benchmarks.models import Workload
from keras_actpen import watch_activations

EPOCHS = 2
SHORT_EPOCH_STEPS = 10

# A training: who trains, and its callbacks, made anew each time.
Way = tuple[Trainee, watching.Callbacks]


def monitor(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings with and without the callback."""
    trainee = attached(workload, bench)
    ways = {
        names.ATTACHED: (trainee, list),
        names.ATTACHED + AGAIN: (trainee, list),
    }
    for arm, callbacks in watching.monitors().items():
        ways[arm] = (trainee, callbacks)
    return _compare_trainings(ways, workload, bench, name)


def watched_layers(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings that watch more and more layers."""
    plain = arms.bare(workload, bench.jit_compile)
    ways = {names.BARE: (plain, list), names.BARE + AGAIN: (plain, list)}
    for number in COUNTS:
        model = watch_activations(
            workload.model(), list(workload.targets[:number])
        )
        trainee = Trainee(
            arms.compiled(model, arms.task_loss(), bench.jit_compile)
        )
        callbacks = watching.monitors()[names.MONITOR]
        ways[names.watching(number)] = (trainee, callbacks)
    return _compare_trainings(ways, workload, bench, name)


def peers(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings with what others write to watch activations."""
    trainee = attached(workload, bench)
    ways = {
        names.ATTACHED: (trainee, list),
        names.ATTACHED + AGAIN: (trainee, list),
        names.MONITOR: (trainee, watching.monitors()[names.MONITOR]),
        names.TENSORBOARD: (trainee, watching.tensorboard()),
    }
    if bench.backend == "tensorflow":
        other = _with_layer_behind(workload, bench, watching.SummaryInCall)
        writer = watching.SummaryWriter()
        ways[names.SUMMARY_IN_CALL] = (other, lambda: [writer])
    if bench.backend == "torch":
        other = _with_layer_behind(workload, bench, watching.HostPull)
        ways[names.HOST_PULLS] = (other, list)
    return _compare_trainings(ways, workload, bench, name)


def cadence(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Ours and an extra forward pass, each once in a short epoch."""
    trainee = attached(workload, bench)
    extra = watching.extra_pass(trainee.model, workload)
    ways = {
        names.ATTACHED: (trainee, list),
        names.ATTACHED + AGAIN: (trainee, list),
        names.ONCE: (trainee, watching.monitor_once_an_epoch()),
        names.EXTRA_PASS: (trainee, extra),
    }
    return _compare_trainings(
        ways, workload, bench, name, count=SHORT_EPOCH_STEPS
    )


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
    count: int | None = None,
) -> Comparison:
    if count is None:
        trainee, _ = next(iter(ways.values()))
        least, most = bench.effort.epoch_steps
        count = steps_in(bench.effort.epoch_seconds, trainee, workload)
        count = min(max(count, least), most)
    data = workload.data(count)

    def arm(name: str, way: Way) -> Arm:
        trainee, callbacks = way

        def train() -> None:
            trainee.fit(data, workload.batch_size, EPOCHS, callbacks())
            arms.synchronize(trainee.model)

        return Arm(name, timed(train))

    return compare(
        name,
        bench.backend,
        [arm(name, way) for name, way in ways.items()],
        bench.effort.few_rounds,
        facts={"steps": count, "epochs": EPOCHS},
    )
