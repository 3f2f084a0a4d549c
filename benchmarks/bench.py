"""Where and how long to measure, and the models that many measurements use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import arms, names
from benchmarks.arms import Trainee
from benchmarks.harness import AGAIN, Comparison, Rounds, check_equal
from benchmarks.models import Workload

LOSS_TOLERANCE = 1e-4
# Layers that are penalised or watched, to see how costs grow.
COUNTS = (1, 4, 16, 64)


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        steps: Rounds of single steps.
        works: Rounds of what takes longer.
        epochs: Rounds of epochs.
        epoch_seconds: What an epoch of a training should take.
        epoch_steps: Fewest and most steps of such an epoch.
    """

    steps: Rounds
    works: Rounds
    epochs: Rounds
    epoch_seconds: float
    epoch_steps: tuple[int, int]


EFFORTS = {
    "full": Effort(
        steps=Rounds(15.0, 8, 200, precision=0.008, longest=60.0),
        works=Rounds(10.0, 3, 9, precision=0.03, longest=60.0),
        epochs=Rounds(45.0, 3, 12),
        epoch_seconds=2.0,
        epoch_steps=(50, 400),
    ),
    "quick": Effort(
        steps=Rounds(1.0, 3, 20),
        works=Rounds(1.0, 3, 3),
        epochs=Rounds(1.0, 3, 3),
        epoch_seconds=0.1,
        epoch_steps=(4, 10),
    ),
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
    data = workload.data(1)
    losses = {arm: trainee.step(data) for arm, trainee in trainees.items()}
    check_equal(losses, LOSS_TOLERANCE)
