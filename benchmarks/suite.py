"""What is measured, by name: which arms run on which model."""

from collections.abc import Iterator
from functools import partial

from benchmarks import once, stepping, trainings
from benchmarks.bench import Bench, Measurement
from benchmarks.models import DEEP_MLP, LARGE, MNIST_CNN, WORKLOADS


def measurements(bench: Bench) -> Iterator[tuple[str, Measurement]]:
    """All measurements of a backend by name, `group/workload`."""
    workloads = WORKLOADS[bench.device]
    for workload in workloads:
        yield f"steps/{workload.name}", partial(stepping.steps, workload)
    if bench.backend == "tensorflow-xla":
        yield "first_step/deep_mlp", partial(once.first_step, DEEP_MLP)
        return
    for workload in workloads:
        yield f"monitor/{workload.name}", partial(trainings.monitor, workload)
    if bench.device == "gpu":
        return
    for workload in workloads:
        yield f"predict/{workload.name}", partial(stepping.predict, workload)
        yield f"evaluate/{workload.name}", partial(stepping.evaluate, workload)
    yield "peers/mnist_cnn-128", partial(trainings.peers, MNIST_CNN)
    yield "cadence/mnist_cnn-128", partial(trainings.cadence, MNIST_CNN)
    yield (
        "penalized_layers/deep_mlp",
        partial(stepping.penalized_layers, DEEP_MLP),
    )
    yield "watched_layers/deep_mlp", partial(trainings.watched_layers, DEEP_MLP)
    yield "first_step/deep_mlp", partial(once.first_step, DEEP_MLP)
    yield "memory/mnist_cnn-1024", once.memory
    for workload in LARGE:
        yield (
            f"attach_time/{workload.name}",
            partial(once.attach_time, workload),
        )
        yield (
            f"new_weights/{workload.name}",
            partial(once.new_weights, workload),
        )
    yield "import/process", once.importing
    if bench.backend == "tensorflow":
        for kind in ("scalars", "histograms"):
            yield f"write_time/{kind}", partial(once.write_time, kind)
            yield f"write_bytes/{kind}", partial(once.write_bytes, kind)
