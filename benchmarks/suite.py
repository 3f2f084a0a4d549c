"""What is measured, by name: which arms run on which model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import keras

from benchmarks import arms, costs, names, watching
from benchmarks.arms import Trainee
from benchmarks.harness import (
    AGAIN,
    Arm,
    Comparison,
    check_equal,
    compare,
    timed,
)
from benchmarks.models import DEEP_MLP, LARGE, MNIST_CNN, WORKLOADS, Workload
from keras_actpen import watch_activations

LOSS_TOLERANCE = 1e-4
COUNTS = (1, 4, 16, 64)
EPOCHS = 2
SHORT_EPOCH_STEPS = 10
EVENTS = 200


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Rounds of short runs.
        few_rounds: Rounds of long ones.
        step_seconds: What one run of training steps should take.
        epoch_seconds: What an epoch of a training should take.
        epoch_steps: Fewest and most steps of such an epoch.
    """

    rounds: int
    few_rounds: int
    step_seconds: float
    epoch_seconds: float
    epoch_steps: tuple[int, int]


EFFORTS = {
    "full": Effort(15, 9, 0.6, 2.5, (50, 400)),
    "quick": Effort(3, 3, 0.1, 0.1, (4, 10)),
}

# A training: who trains, and its callbacks, made anew each time.
Way = tuple[Trainee, watching.Callbacks]


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure.

    Attributes:
        backend: Keras backend, `tensorflow-xla` for TensorFlow with XLA.
        device: `"cpu"` or `"gpu"`.
        effort: How long.
    """

    backend: str
    device: str
    effort: Effort

    @property
    def jit_compile(self) -> bool | str:
        """What `compile` gets."""
        return True if self.backend == "tensorflow-xla" else "auto"


Measurement = Callable[[Bench, str], Comparison]


def measurements(bench: Bench) -> Iterator[tuple[str, Measurement]]:
    """All measurements of a backend by name, `group/workload`."""
    workloads = WORKLOADS[bench.device]
    for workload in workloads:
        yield f"steps/{workload.name}", partial(steps, workload)
    for workload in workloads:
        yield f"monitor/{workload.name}", partial(monitor, workload)
    if bench.device == "gpu":
        return
    for workload in workloads:
        yield f"predict/{workload.name}", partial(predict, workload)
        yield f"evaluate/{workload.name}", partial(evaluate, workload)
    yield "peers/mnist_cnn-128", partial(peers, MNIST_CNN)
    yield "cadence/mnist_cnn-128", partial(cadence, MNIST_CNN)
    yield "penalized_layers/deep_mlp", partial(penalized_layers, DEEP_MLP)
    yield "watched_layers/deep_mlp", partial(watched_layers, DEEP_MLP)
    yield "first_step/deep_mlp", partial(first_step, DEEP_MLP)
    yield "memory/mnist_cnn-1024", memory
    for workload in LARGE:
        yield f"attach_time/{workload.name}", partial(attach_time, workload)
        yield f"new_weights/{workload.name}", partial(new_weights, workload)
    yield "import/process", importing
    if bench.backend == "tensorflow":
        for kind in ("scalars", "histograms"):
            yield f"write_time/{kind}", partial(write_time, kind)
            yield f"write_bytes/{kind}", partial(write_bytes, kind)


def steps(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Training steps of all ways to penalise."""
    groups = [arms.l2_trainees, arms.l1_trainees, arms.many_terms]
    if workload.policy != "float32":
        # Keras's own penalties overflow or fail in half precision.
        groups = [arms.attached_trainees]
    trainees = _bare_twice(workload, bench)
    for group in groups:
        equal = group(workload, bench.jit_compile)
        _check_equal(equal, workload)
        trainees |= equal
    return _compare_steps(trainees, workload, bench, name)


def penalized_layers(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Training steps with penalties on more and more layers."""
    trainees = _bare_twice(workload, bench)
    for number in COUNTS:
        trainees[names.on_layers(number)] = _attached(
            workload, bench, workload.targets[:number]
        )
    return _compare_steps(trainees, workload, bench, name)


def monitor(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Whole trainings with and without the callback."""
    trainee = _attached(workload, bench)
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
    trainee = _attached(workload, bench)
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
    trainee = _attached(workload, bench)
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


def predict(workload: Workload, bench: Bench, name: str) -> Comparison:
    """`predict` with and without a penalty."""
    trainees = _bare_twice(workload, bench)
    trainees[names.ATTACHED] = _attached(workload, bench)
    count = _steps_in(bench.effort.step_seconds, trainees[names.BARE], workload)
    x, _ = workload.data(count)

    def arm(name: str, model: keras.Model) -> Arm:
        size = workload.batch_size
        return Arm(
            name, timed(lambda: model.predict(x, batch_size=size, verbose=0))
        )

    found = [arm(name, trainee.model) for name, trainee in trainees.items()]
    return compare(name, bench.backend, found, bench.effort.rounds)


def evaluate(workload: Workload, bench: Bench, name: str) -> Comparison:
    """`evaluate` with Keras's own penalty and with ours."""
    l2 = keras.regularizers.L2(arms.COEFFICIENT)
    trainees = {
        arm: arms.built_in(workload, bench.jit_compile, l2)
        for arm in (names.BUILT_IN, names.BUILT_IN + AGAIN)
    }
    trainees[names.ATTACHED] = _attached(workload, bench)
    _check_equal(trainees, workload)
    count = _steps_in(
        bench.effort.step_seconds, trainees[names.BUILT_IN], workload
    )
    data = workload.data(count)

    def arm(name: str, model: keras.Model) -> Arm:
        size = workload.batch_size
        return Arm(
            name,
            timed(lambda: model.evaluate(*data, batch_size=size, verbose=0)),
        )

    found = [arm(name, trainee.model) for name, trainee in trainees.items()]
    return compare(name, bench.backend, found, bench.effort.rounds)


def first_step(workload: Workload, bench: Bench, name: str) -> Comparison:
    """First step of a new model, with penalties on more and more layers."""
    makers = {
        names.BARE: partial(arms.bare, workload, bench.jit_compile),
        names.BARE + AGAIN: partial(arms.bare, workload, bench.jit_compile),
    }
    for number in COUNTS:
        makers[names.on_layers(number)] = partial(
            _attached, workload, bench, workload.targets[:number]
        )
    found = [
        Arm(arm, partial(costs.first_step, make, workload))
        for arm, make in makers.items()
    ]
    return compare(name, bench.backend, found, bench.effort.few_rounds)


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
    rounds = bench.effort.few_rounds
    facts = {"activation_bytes": costs.largest_activation()}
    return compare(name, bench.backend, found, rounds, "bytes", facts)


def attach_time(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Time to attach against the copy that it makes unnecessary."""
    found = costs.attaching(workload)
    return compare(name, bench.backend, found, bench.effort.few_rounds)


def new_weights(workload: Workload, bench: Bench, name: str) -> Comparison:
    """Bytes of the variables that attaching creates, against a copy's."""
    found = costs.new_weights(workload)
    return compare(name, bench.backend, found, 1, "bytes")


def importing(bench: Bench, name: str) -> Comparison:
    """Time of a process that imports the package."""
    found = costs.importing()
    return compare(name, bench.backend, found, bench.effort.few_rounds)


def write_time(kind: str, bench: Bench, name: str) -> Comparison:
    """Time to write events, ours against TensorFlow's."""
    found = _writing(kind, costs.write_seconds)
    return compare(name, bench.backend, found, bench.effort.few_rounds)


def write_bytes(kind: str, bench: Bench, name: str) -> Comparison:
    """Bytes of events, ours against TensorFlow's."""
    found = _writing(kind, costs.write_bytes)
    return compare(name, bench.backend, found, 1, "bytes")


def _writing(kind: str, measure: Callable) -> list[Arm]:
    writers = costs.writing(EVENTS)[kind]
    baseline = next(iter(writers))
    writers[baseline + AGAIN] = writers[baseline]
    return [Arm(arm, partial(measure, write)) for arm, write in writers.items()]


def _bare_twice(workload: Workload, bench: Bench) -> dict[str, Trainee]:
    # Two models: what one of them is lucky with in memory is noise too.
    return {
        arm: arms.bare(workload, bench.jit_compile)
        for arm in (names.BARE, names.BARE + AGAIN)
    }


def _attached(
    workload: Workload, bench: Bench, targets: Sequence[str] = ()
) -> Trainee:
    return arms.attached(
        workload, bench.jit_compile, targets, l2=arms.COEFFICIENT
    )


def _with_layer_behind(
    workload: Workload, bench: Bench, make: Callable[[], keras.layers.Layer]
) -> Trainee:
    """`attach_penalty`, and a layer behind each target."""
    model = arms.with_layer_behind(
        _attached(workload, bench).model, workload.targets, make
    )
    return Trainee(arms.compiled(model, arms.task_loss(), bench.jit_compile))


def _check_equal(trainees: dict[str, Trainee], workload: Workload) -> None:
    data = workload.data(2)
    losses = {
        arm: trainee.fit(data, workload.batch_size)
        for arm, trainee in trainees.items()
    }
    check_equal(losses, LOSS_TOLERANCE)


def _compare_steps(
    trainees: dict[str, Trainee], workload: Workload, bench: Bench, name: str
) -> Comparison:
    count = _steps_in(bench.effort.step_seconds, trainees[names.BARE], workload)
    found = [
        arms.step_arm(arm, trainee, workload, count)
        for arm, trainee in trainees.items()
    ]
    return compare(
        name,
        bench.backend,
        found,
        bench.effort.rounds,
        facts={"steps": count},
    )


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
        count = _steps_in(bench.effort.epoch_seconds, trainee, workload)
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


def _steps_in(seconds: float, trainee: Trainee, workload: Workload) -> int:
    """How many training steps take that long; 2 at least."""
    probe = arms.step_arm("probe", trainee, workload, 4)
    probe.run()
    return max(2, min(500, round(4 * seconds / probe.run())))
