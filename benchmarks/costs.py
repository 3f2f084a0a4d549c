"""What is not a training step: attaching, importing, writing, memory."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks import arms, names
from benchmarks.harness import AGAIN, Arm, timed
from benchmarks.models import MNIST_CNN, Workload
from keras_actpen import attach_penalty
from keras_actpen.tensorboard import events
from keras_actpen.tensorboard.event_file import EventWriter

# Large enough that no other memory hides one of the activations.
MEMORY_BATCH_SIZE = 1024

# A fresh process measures one model: `python -c PROBE ARM`.
_PROBE = """
import sys
from benchmarks import costs
costs.probe_memory(*sys.argv[1:])
"""


def attaching(workload: Workload) -> list[Arm]:
    """Time of attaching against that of the copy that it replaces."""
    model = workload.model()
    return [
        Arm(names.CLONE, timed(lambda: _clone(model))),
        Arm(names.CLONE + AGAIN, timed(lambda: _clone(model))),
        Arm(names.ATTACHED, timed(lambda: _attach(model, workload))),
    ]


def new_weights(workload: Workload) -> list[Arm]:
    """Bytes of the variables that the new model does not share."""
    model = workload.model()
    return [
        Arm(names.CLONE, lambda: _new_bytes(model, _clone(model))),
        Arm(names.CLONE + AGAIN, lambda: _new_bytes(model, _clone(model))),
        Arm(
            names.ATTACHED,
            lambda: _new_bytes(model, _attach(model, workload)),
        ),
    ]


def _clone(model: keras.Model) -> keras.Model:
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def _attach(model: keras.Model, workload: Workload) -> keras.Model:
    return attach_penalty(model, list(workload.targets), l2=arms.COEFFICIENT)


def _new_bytes(old: keras.Model, new: keras.Model) -> float:
    shared = {id(variable) for variable in old.variables}
    return float(
        sum(
            int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize
            for variable in new.variables
            if id(variable) not in shared
        )
    )


def importing() -> list[Arm]:
    """Time of a process that imports the package, and Keras anyway."""

    def arm(name: str) -> Arm:
        code = name.removesuffix(AGAIN)
        command = [sys.executable, "-c", code]
        return Arm(
            name, timed(lambda: subprocess.run(command, check=True, cwd="."))
        )

    return [
        arm(names.IMPORT_KERAS),
        arm(names.IMPORT_KERAS + AGAIN),
        arm(names.IMPORT),
    ]


def writing(number: int) -> dict[str, dict[str, Callable[[str], None]]]:
    """Writers of events into a directory, by what they write and how.

    Args:
        number: How many events each of them writes.
    """
    import tensorflow as tf

    values = np.random.default_rng(0).standard_normal(4096).astype("float32")
    counts, edges = np.histogram(values, 30)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)

    def tensorflow(write: Callable) -> Callable[[str], None]:
        def run(directory: str) -> None:
            writer = tf.summary.create_file_writer(directory)
            with writer.as_default():
                for step in range(number):
                    write(step)
            writer.close()

        return run

    def ours(value: Callable[[int], events.Value]) -> Callable[[str], None]:
        def run(directory: str) -> None:
            writer = EventWriter(directory)
            for step in range(number):
                writer.add([value(step)], step)
            writer.close()

        return run

    return {
        "scalars": {
            names.TF_SCALAR: tensorflow(
                lambda step: tf.summary.scalar("tag", 0.5, step)
            ),
            names.SCALAR: ours(lambda step: events.scalar("tag", 0.5)),
        },
        # TensorFlow bins 4096 values; ours are binned on the device.
        "histograms": {
            names.TF_HISTOGRAM: tensorflow(
                lambda step: tf.summary.histogram("tag", values, step)
            ),
            names.HISTOGRAM: ours(
                lambda step: events.histogram("tag", buckets)
            ),
        },
    }


def write_seconds(write: Callable[[str], None]) -> float:
    """Seconds of writing into a new directory."""
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        write(directory)
        return time.perf_counter() - start


def write_bytes(write: Callable[[str], None]) -> float:
    """Bytes that are then on disk."""
    with tempfile.TemporaryDirectory() as directory:
        write(directory)
        return float(
            sum(file.stat().st_size for file in Path(directory).iterdir())
        )


def first_step(make: Callable[[], arms.Trainee], workload: Workload) -> float:
    """Seconds of the first training step of a new model: tracing, compiling."""
    trainee = make()
    data = workload.data(1)
    start = time.perf_counter()
    trainee.step(data)
    arms.synchronize(trainee.model)
    return time.perf_counter() - start


def largest_activation() -> float:
    """Bytes of the largest activation of the model that is probed."""
    shape = MNIST_CNN.model().get_layer("conv_2").output.shape[1:]
    return 4.0 * MEMORY_BATCH_SIZE * float(np.prod(shape))


def peak_memory(arm: str, jit_compile: bool | str) -> float:
    """Peak resident bytes of training steps, in a fresh process."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            _PROBE,
            arm.removesuffix(AGAIN),
            str(jit_compile),
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(result.stdout.split()[-1])


def probe_memory(arm: str, jit_compile: str) -> None:
    """Train and print the peak of this process's memory meanwhile.

    Args:
        arm: Name of the arm.
        jit_compile: `"True"` or `"auto"`.
    """
    workload = replace(MNIST_CNN, batch_size=MEMORY_BATCH_SIZE)
    makers = {
        names.BARE: arms.bare,
        names.BUILT_IN: lambda *args: arms.built_in(
            *args, keras.regularizers.L2(arms.COEFFICIENT)
        ),
        names.ATTACHED: lambda *args: arms.attached(*args, l2=arms.COEFFICIENT),
    }
    trainee = makers[arm](
        workload, True if jit_compile == "True" else jit_compile
    )
    data = workload.data(1)
    trainee.step(data)
    # Linux forgets the peak so far, that of compiling.
    Path("/proc/self/clear_refs").write_text("5")
    trainee.step(data)
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024)
