"""Where and how long to measure, and the models that many measurements use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.arms import names, penalties
from benchmarks.arms.models import Workload
from benchmarks.arms.penalties import Trainee
from benchmarks.timing.rounds import AGAIN, Comparison, Rounds, check_equal

LOSS_TOLERANCE = 1e-4
# Layers that are penalized or watched, to see how costs grow.
COUNTS = (1, 16, 64)


@dataclass(frozen=True)
class Effort:
    """How thoroughly to measure.

    Attributes:
        seconds: How long a row is measured even if it is exact before.
        steps: Fewest rounds of single steps.
        works: Fewest rounds of what takes longer: epochs, processes.
        shorter: What the steps of an epoch are divided by.
    """

    seconds: float
    steps: int
    works: int
    shorter: int = 1


EFFORTS = {
    "full": Effort(10.0, steps=8, works=3),
    "quick": Effort(0.0, steps=3, works=3, shorter=10),
}


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure.

    Attributes:
        backend: Keras backend, `tensorflow-xla` for TensorFlow with XLA.
        device: `"cpu"` or `"gpu"`.
        effort: How thoroughly.
        longest: Seconds for a row that is too noisy.
    """

    backend: str
    device: str
    effort: Effort
    longest: float

    @property
    def jit_compile(self) -> bool | str:
        """What `compile` gets."""
        return True if self.backend == "tensorflow-xla" else "auto"

    @property
    def steps(self) -> Rounds:
        """Rounds of single steps."""
        return self._rounds(self.effort.steps)

    @property
    def works(self) -> Rounds:
        """Rounds of what takes longer."""
        return self._rounds(self.effort.works)

    def _rounds(self, fewest: int) -> Rounds:
        seconds = min(self.effort.seconds, self.longest)
        return Rounds(fewest, seconds, self.longest)


Measurement = Callable[[Bench, str], Comparison]


def bare_twice(workload: Workload, bench: Bench) -> dict[str, Trainee]:
    """Two bare models, for the noise."""
    # Two models: what one of them is lucky with in memory is noise too.
    return {
        arm: penalties.bare(workload, bench.jit_compile)
        for arm in (names.BARE, names.BARE + AGAIN)
    }


def attached(
    workload: Workload, bench: Bench, targets: Sequence[str] = ()
) -> Trainee:
    """A model with L2 penalties on `targets`, by default its own."""
    return penalties.attached(
        workload, bench.jit_compile, targets, l2=penalties.COEFFICIENT
    )


def check_losses(trainees: dict[str, Trainee], workload: Workload) -> None:
    """Refuse trainees that do not compute the same loss."""
    data = workload.data(1)
    losses = {arm: trainee.step(data) for arm, trainee in trainees.items()}
    check_equal(losses, LOSS_TOLERANCE)
