"""Which steps are instrumented: every n-th, or as many as a share allows.

Nothing here knows Keras: steps are counted and timed, numbers come out.
"""

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator

# Both kinds of step are timed this often before a ratio is believed, and the
# ratio is the one of the medians of the last few.
_ENOUGH = 3
_LAST = 7


class EveryNthStep:
    """The first step of each epoch and every n-th after it.

    Args:
        steps: Steps between two instrumented ones, 0 for none at all.
    """

    def __init__(self, steps: int):
        self.steps = steps
        self._next = 0

    def begin_epoch(self) -> None:
        """Start to count again."""
        self._next = 0

    def instruments(self, batch: int) -> bool:
        """Whether to instrument the coming step.

        Args:
            batch: Its number in the epoch.
        """
        if not self.steps or batch < self._next:
            return False
        self._next = (batch // self.steps + 1) * self.steps
        return True

    def take_back(self) -> None:
        """The last step of an epoch did not run; the next one starts anew."""

    @property
    def stopwatch(self) -> None:
        """The stopwatch for the coming step: none."""
        return None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The epoch is read and written in this block."""
        yield

    def costs(self) -> dict[str, float]:
        """Known costs by name: none."""
        return {}


class StepsWithinOverhead:
    """As many instrumented steps as stay within a share of the training.

    Instrumented and plain steps are timed, a few of each at the start and
    then one of each around every instrumented step. The first step of each
    kind is left out, because it compiles. A step is instrumented if the extra
    time of all instrumented ones so far, this one included, is at most
    `max_overhead` of the time that all steps so far would take plain. Two
    instrumented steps never follow each other, so that both can be timed.

    Until both kinds have been timed three times they alternate; this start
    counts too, and is made up for by a longer pause.

    Args:
        max_overhead: The share, between 0 and 1.
        clock: Returns seconds from any origin.
    """

    def __init__(
        self,
        max_overhead: float,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.max_overhead = max_overhead
        self._clock = clock
        self._started = 0.0
        self._steps = self._instrumented = 0
        self._steps_before = self._instrumented_before = 0
        self._previous_was_instrumented = self._next_is_instrumented = False
        self._seconds: dict[str, deque[float]] = {}
        self._epoch_began = clock()
        self._writing_seconds = 0.0

    def begin_epoch(self) -> None:
        """Start a new period of `costs`."""
        self._steps_before = self._steps
        self._instrumented_before = self._instrumented
        self._epoch_began = self._clock()
        self._writing_seconds = 0.0

    def instruments(self, batch: int) -> bool:
        """Whether to instrument the coming step.

        Args:
            batch: Its number in the epoch; here only its order counts.
        """
        del batch
        self._previous_was_instrumented = self._next_is_instrumented
        self._next_is_instrumented = (
            not self._previous_was_instrumented and self._is_affordable()
        )
        self._steps += 1
        self._instrumented += self._next_is_instrumented
        return self._next_is_instrumented

    def take_back(self) -> None:
        """The step that `instruments` was asked about last did not run."""
        self._steps -= 1
        self._instrumented -= self._next_is_instrumented
        self._next_is_instrumented = self._previous_was_instrumented

    def _is_affordable(self) -> bool:
        ratio = self.step_ratio
        if ratio is None:
            return True
        extra = (self._instrumented + 1) * (ratio - 1)
        return extra <= self.max_overhead * (self._steps + 1)

    @property
    def stopwatch(self) -> "StepsWithinOverhead | None":
        """The stopwatch for the coming step, if that is to be timed."""
        is_timed = (
            self.step_ratio is None
            or self._next_is_instrumented
            or self._previous_was_instrumented
        )
        return self if is_timed else None

    def start(self) -> None:
        """A timed step begins."""
        self._started = self._clock()

    def stop(self, what: str | None) -> None:
        """A timed step is done.

        Args:
            what: `"statistics"` if it was an instrumented one.
        """
        seconds = self._clock() - self._started
        kind = "instrumented" if what == "statistics" else "plain"
        if kind in self._seconds:
            self._seconds[kind].append(seconds)
        else:  # the one that compiles
            self._seconds[kind] = deque(maxlen=_LAST)

    @property
    def step_ratio(self) -> float | None:
        """Time of an instrumented step to a plain one, `None` if unknown."""
        medians = []
        for kind in ("instrumented", "plain"):
            seconds = self._seconds.get(kind, ())
            if len(seconds) < _ENOUGH:
                return None
            medians.append(statistics.median(seconds))
        return medians[0] / medians[1] if medians[1] else None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The epoch is read and written in this block."""
        began = self._clock()
        yield
        self._writing_seconds += self._clock() - began

    def costs(self) -> dict[str, float]:
        """What is known of the cost of the epoch that ends.

        Returns:
            - `writing_share`: the time in `writing` to that of the epoch;
            - `step_ratio`: time of an instrumented step to a plain one;
            - `overhead`: extra time of the epoch's instrumented steps to the
              time that all its steps would take plain;
            - `statistics_freq`: steps from one instrumented step to the next
              in the long run.
        """
        epoch_seconds = self._clock() - self._epoch_began
        costs = {}
        if epoch_seconds > 0:
            costs["writing_share"] = self._writing_seconds / epoch_seconds
        ratio = self.step_ratio
        steps = self._steps - self._steps_before
        if ratio is not None and steps:
            instrumented = self._instrumented - self._instrumented_before
            extra = max(ratio - 1.0, 0.0)
            interval = math.ceil(extra / self.max_overhead)
            costs |= {
                "step_ratio": ratio,
                "overhead": extra * instrumented / steps,
                "statistics_freq": float(max(interval, 2)),
            }
        return costs
