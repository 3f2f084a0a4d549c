"""What is measured, by name: which arms run on which model."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import partial

from benchmarks.arms.models import (
    DEEP_MLP,
    LARGE,
    MLP,
    MNIST_CNN,
    WIDE_MLP,
    WORKLOADS,
)
from benchmarks.measurements import memory, once, steps, trainings, writing
from benchmarks.measurements.bench import Measurement

# These alone would take a quarter of an hour or more: only if named.
LONG = ("*/mnist_cnn-512", "monitor/resnet50-8")


def selected(
    backend: str, device: str, patterns: Sequence[str]
) -> list[tuple[str, Measurement]]:
    """The measurements that match a pattern; if there is none, all but long.

    Args:
        backend: Keras backend, `tensorflow-xla` for TensorFlow with XLA.
        device: `"cpu"` or `"gpu"`.
        patterns: Of their names.
    """
    return [
        (name, measure)
        for name, measure in measurements(backend, device)
        if (_matches(name, patterns) if patterns else not _matches(name, LONG))
    ]


def measurements(
    backend: str, device: str
) -> Iterator[tuple[str, Measurement]]:
    """All measurements by name, `group/workload`.

    Those that are exact soon come first: the time that they leave is for
    those that are not.
    """
    workloads = WORKLOADS[device]
    if device == "cpu":
        yield from _paid_once(backend)
    if backend != "tensorflow-xla":
        yield from _trainings(device)
    if device == "cpu" and backend != "tensorflow-xla":
        for workload in workloads:
            name = workload.name
            yield f"predict/{name}", partial(steps.predict, workload)
            yield f"evaluate/{name}", partial(steps.evaluate, workload)
        yield (
            "penalized_layers/deep_mlp",
            partial(steps.penalized_layers, DEEP_MLP),
        )
    for workload in workloads:
        yield f"steps/{workload.name}", partial(steps.steps, workload)


def _paid_once(backend: str) -> Iterator[tuple[str, Measurement]]:
    yield "first_step/deep_mlp", partial(once.first_step, DEEP_MLP)
    if backend == "tensorflow-xla":
        return
    for workload in LARGE:
        name = workload.name
        yield f"attach_time/{name}", partial(once.attach_time, workload)
        yield f"new_weights/{name}", partial(once.new_weights, workload)
    yield "memory/mnist_cnn-1024", memory.memory
    yield "import/process", once.importing
    if backend == "tensorflow":
        for kind in ("scalars", "histograms"):
            yield f"write_time/{kind}", partial(writing.write_time, kind)
            yield f"write_bytes/{kind}", partial(writing.write_bytes, kind)


def _trainings(device: str) -> Iterator[tuple[str, Measurement]]:
    for workload in WORKLOADS[device]:
        yield f"monitor/{workload.name}", partial(trainings.monitor, workload)
    if device == "gpu":
        return
    yield (
        "monitor_of_long_epochs/mlp",
        partial(trainings.monitor_of_long_epochs, MLP),
    )
    for workload in (MNIST_CNN, WIDE_MLP):
        yield (
            f"followed_units/{workload.name}",
            partial(trainings.followed_units, workload),
        )
    yield "watched_layers/deep_mlp", partial(trainings.watched_layers, DEEP_MLP)
    yield "cadence/mnist_cnn-128", partial(trainings.cadence, MNIST_CNN)
    yield "peers/mnist_cnn-128", partial(trainings.peers, MNIST_CNN)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
