"""Where and how long to measure, and the models that many measurements use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import arms, names
from benchmarks.arms import Trainee
from benchmarks.harness import AGAIN, Comparison, check_equal
from benchmarks.models import Workload

LOSS_TOLERANCE = 1e-4
# Layers that are penalised or watched, to see how costs grow.
COUNTS = (1, 4, 16, 64)


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


def bare_twice(workload: Workload, bench: Bench) -> dict[str, Trainee]:
    """Two bare models, for the noise."""
    # Two models: what one of them is lucky with in memory is noise too.
    return {
        arm: arms.bare(workload, bench.jit_compile)
        for arm in (names.BARE, names.BARE + AGAIN)
    }


def attached(
    workload: Workload, bench: Bench, targets: Sequence[str] = ()
) -> Trainee:
    """A model with L2 penalties on `targets`, by default its own."""
    return arms.attached(
        workload, bench.jit_compile, targets, l2=arms.COEFFICIENT
    )


def check_losses(trainees: dict[str, Trainee], workload: Workload) -> None:
    """Refuse trainees that do not compute the same loss."""
    data = workload.data(2)
    losses = {
        arm: trainee.fit(data, workload.batch_size)
        for arm, trainee in trainees.items()
    }
    check_equal(losses, LOSS_TOLERANCE)


def steps_in(seconds: float, trainee: Trainee, workload: Workload) -> int:
    """How many training steps take that long; 2 at least."""
    probe = arms.step_arm("probe", trainee, workload, 4)
    probe.run()
    return max(2, min(500, round(4 * seconds / probe.run())))
