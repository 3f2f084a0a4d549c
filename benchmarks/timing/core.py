"""The core that is measured on, and who else uses it. Linux tells in /proc."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

# What of a round others may have of the core. Linux counts in hundredths of
# a second, so two of them are not seen.
LARGEST_SHARE = 0.05
UNSEEN_SECONDS = 0.02

_STAT = Path("/proc/stat")
# User, nice, system, interrupts, soft interrupts, stolen by the host.
_BUSY = (0, 1, 2, 5, 6, 7)


@dataclass(frozen=True)
class Reading:
    """Seconds at a moment, each from a start of its own.

    Attributes:
        wall: Of the clock.
        busy: That the cores of this process have worked.
        own: That they have worked for this process and those it waited for.
    """

    wall: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> "Reading":
        """Read the clock and the counters."""
        own = sum(os.times()[:4])
        return cls(time.perf_counter(), _busy_seconds(own), own)

    def share_of_others(self, later: "Reading") -> float:
        """Share of the time until later in which others had the core."""
        others = (later.busy - self.busy) - (later.own - self.own)
        return max(others - UNSEEN_SECONDS, 0.0) / (later.wall - self.wall)


def pin() -> None:
    """Keep this process, and those it starts, on the quietest of its cores."""
    if not _STAT.exists():
        return
    cores = os.sched_getaffinity(0)
    before = _busy_by_core()
    time.sleep(0.5)
    after = _busy_by_core()
    os.sched_setaffinity(0, {min(cores, key=lambda c: after[c] - before[c])})


def _busy_seconds(own: float) -> float:
    """Of the core that this process is pinned to.

    On several cores others take nothing from this process as long as one is
    free, so only its own seconds count there.
    """
    if not _STAT.exists():
        return own
    cores = os.sched_getaffinity(0)
    return _busy_by_core()[min(cores)] if len(cores) == 1 else own


def _busy_by_core() -> dict[int, float]:
    found = {}
    for line in _STAT.read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            busy = sum(int(ticks[index]) for index in _BUSY)
            found[int(name.removeprefix("cpu"))] = busy / os.sysconf(
                "SC_CLK_TCK"
            )
    return found
