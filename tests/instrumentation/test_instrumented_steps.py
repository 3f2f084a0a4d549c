"""Which steps are instrumented, with a clock that only the tests turn."""

import itertools

import pytest

from keras_actpen.instrumentation.instrumented_steps import (
    EveryNthStep,
    StepsWithinOverhead,
)

pytestmark = pytest.mark.one_backend


def fixed(freq, steps, epochs=2):
    pace = EveryNthStep(freq)
    chosen = []
    for epoch in range(epochs):
        pace.begin_epoch()
        chosen += [(epoch, b) for b in range(steps) if pace.instruments(b)]
    assert pace.stopwatch is None
    assert pace.costs() == {}
    return chosen


@pytest.mark.parametrize(
    ("freq", "chosen"),
    [(0, []), (1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (50, [0])],
)
def test_every_nth_step_starts_with_each_epoch(freq, chosen):
    expected = [(epoch, batch) for epoch in range(2) for batch in chosen]
    assert fixed(freq, 7) == expected


def test_every_nth_step_over_calls_of_several_steps():
    pace = EveryNthStep(5)
    pace.begin_epoch()
    assert [b for b in range(0, 24, 4) if pace.instruments(b)] == [
        0,
        8,
        12,
        16,
        20,
    ]


class Device:
    """Runs steps that take a known time, on a clock of its own."""

    def __init__(self, max_overhead, plain=2.0, instrumented=3.0):
        self.now = 100.0
        self.seconds = {False: plain, True: instrumented}
        self.pace = StepsWithinOverhead(max_overhead, lambda: self.now)
        self.pace.begin_epoch()
        self.instrumented, self.timed, self.compiled = [], [], set()
        self.step = 0

    def run(self, steps, compiling=0.0):
        for _ in range(steps):
            chosen = self.pace.instruments(self.step)
            stopwatch = self.pace.stopwatch
            if stopwatch:
                stopwatch.start()
                self.timed.append(self.step)
            self.now += self.seconds[chosen]
            if chosen not in self.compiled:
                self.compiled.add(chosen)
                self.now += compiling
            if stopwatch:
                stopwatch.stop("statistics" if chosen else "terms")
            if chosen:
                self.instrumented.append(self.step)
            self.step += 1
        return self


def test_both_kinds_alternate_until_they_are_known():
    device = Device(0.05).run(8)
    assert device.instrumented == [0, 2, 4, 6]
    assert device.timed == list(range(8))
    # The first of each compiles: three are left.
    assert device.pace.costs()["step_ratio"] == 1.5


def test_the_steps_that_compile_do_not_count():
    device = Device(0.05).run(200, compiling=1000.0)
    assert device.pace.costs()["step_ratio"] == 1.5


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("ratio", [1.2, 1.5, 3.0])
def test_the_extra_time_stays_within_the_share(share, ratio):
    device = Device(share, 2.0, 2.0 * ratio).run(5000)
    extra = (ratio - 1) * len(device.instrumented)
    # And as much as is allowed is used, every second step at the most.
    allowed = min(share * 5000, (ratio - 1) * 2500)
    assert allowed - (ratio - 1) * 2 < extra <= allowed + 1e-6
    # From the end of the start on, at every step.
    late = [s for s in device.instrumented if s > 7]
    for step in late:
        until = sum(s <= step for s in device.instrumented)
        assert (ratio - 1) * until <= share * (step + 1) + 1e-9


def test_the_interval_is_that_of_the_long_run():
    device = Device(0.01, 2.0, 3.0).run(2000)
    # 0.5 of a step extra, each 50 steps.
    assert device.pace.costs()["statistics_freq"] == 50
    late = [s for s in device.instrumented if s > 400]
    assert {b - a for a, b in itertools.pairwise(late)} == {50}


def test_only_steps_around_instrumented_ones_are_timed():
    device = Device(0.01).run(1000)
    near = {s + d for s in device.instrumented for d in (0, 1)}
    assert set(device.timed) == {s for s in near if s < 1000}


def test_an_instrumented_step_that_costs_nothing_never_repeats_at_once():
    device = Device(0.01, 2.0, 2.0).run(100)
    assert device.instrumented == list(range(0, 100, 2))
    assert device.pace.costs()["overhead"] == 0
    assert device.pace.costs()["statistics_freq"] == 2


def test_the_ratio_is_measured_anew():
    device = Device(0.1, 2.0, 3.0).run(500)
    assert device.pace.costs()["statistics_freq"] == 5
    device.seconds[True] = 6.0
    device.run(500)
    assert device.pace.costs()["step_ratio"] == 3.0
    assert device.pace.costs()["statistics_freq"] == 20


def test_one_slow_step_changes_nothing():
    device = Device(0.1, 2.0, 3.0).run(100)
    device.seconds[True] = 500.0
    while len(device.instrumented) < 21:
        device.run(1)
    device.seconds[True] = 3.0
    assert device.pace.costs()["step_ratio"] == 1.5


def test_costs_are_those_of_the_epoch():
    device = Device(0.1, 2.0, 3.0).run(500)
    device.pace.begin_epoch()
    before = len(device.instrumented)
    device.run(100)
    with device.pace.writing():
        device.now += 30.0
    device.now += 2.0
    count = len(device.instrumented) - before
    epoch = 100 * 2.0 + count * 1.0 + 32.0
    assert device.pace.costs() == {
        "writing_share": 30.0 / epoch,
        "step_ratio": 1.5,
        "overhead": 0.5 * count / 100,
        "statistics_freq": 5.0,
    }
    assert count == 20


def test_what_is_not_known_is_not_told():
    device = Device(0.1).run(3)
    assert device.pace.costs() == {"writing_share": 0.0}


def test_another_monitor_may_instrument_the_step():
    """What was really recorded counts, not what was chosen here."""
    pace = StepsWithinOverhead(0.1, iter(range(1000)).__next__)
    pace.begin_epoch()
    for batch in range(20):
        pace.instruments(batch)
        pace.start()
        pace.stop("statistics")
    assert pace.costs().keys() == {"writing_share"}
