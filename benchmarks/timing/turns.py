"""Trainings side by side: each takes a step in turn.

A whole training takes seconds, in which the machine changes more than what
is to be measured. So all run at once, each in a thread of its own, and only
one of them at a time: they wait for their turn before each step.
"""

import threading
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import ops

from benchmarks.timing.ratios import SEED
from benchmarks.timing.rounds import (
    Comparison,
    Rounds,
    check_again,
    collect,
)

# More than any training takes: it is stopped when its rounds are enough.
ENDLESS = 10**6


class Turn(keras.callbacks.Callback):
    """Holds a training before each step until it is its turn.

    A turn ends before the next step, so the last one of an epoch has what is
    done at its end. The first turn of all is what comes before the first
    step; the step in which a training is stopped is in none.
    It has to be the first callback: what others do before a step is theirs.

    Args:
        fit: Trains with this callback.
    """

    def __init__(self, fit: Callable[["Turn"], object]):
        super().__init__()
        self._fit = fit
        self._may_run = threading.Semaphore(0)
        self._has_run = threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._is_over = False
        # A daemon: if another training fails, nobody gives it its turn.
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()

    def take(self) -> float:
        """Let the training run for a turn and return its seconds."""
        self._may_run.release()
        self._has_run.acquire()
        self._raise_failure()
        return self._seconds

    def finish(self) -> None:
        """Stop the training after one more step and wait for its end."""
        self._is_over = True
        self._may_run.release()
        self._thread.join()
        self._raise_failure()

    def _train(self) -> None:
        self._start()
        try:
            self._fit(self)
        except BaseException as failure:
            self._failure = failure
            self._stop()

    def on_train_batch_begin(self, batch, logs=None):
        """End the turn and wait for the next."""
        self._stop()
        self._start()
        if self._is_over:
            self.model.stop_training = True

    def on_train_batch_end(self, batch, logs=None):
        """Wait for the device."""
        ops.convert_to_numpy(logs["loss"])

    def on_train_end(self, logs=None):
        """End the last turn."""
        self._stop()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        self._may_run.acquire()
        self._began = time.perf_counter()

    def _stop(self) -> None:
        self._seconds = time.perf_counter() - self._began
        self._has_run.release()


def compare_trainings(
    name: str,
    backend: str,
    fits: Mapping[str, Callable[[Turn], object]],
    steps: int,
    rounds: Rounds,
) -> Comparison:
    """Run trainings side by side; a round is an epoch of each.

    Args:
        name: What is measured.
        backend: What it is measured on.
        fits: For each arm what trains for `ENDLESS` epochs of `steps` steps
            with the callback that it gets, and keeps nothing from another
            thread. The baseline comes first and, by the name `... (again)`,
            once more.
        steps: Steps in an epoch.
        rounds: How many epochs count. One to compile and to warm up comes
            before.

    Raises:
        ValueError: If the baseline is not among the arms a second time.
    """
    check_again(list(fits))
    turns = {arm: Turn(fit) for arm, fit in fits.items()}
    before = {arm: turn.take() for arm, turn in turns.items()}
    rng = np.random.default_rng(SEED)

    def epoch() -> dict[str, float]:
        seconds = dict.fromkeys(turns, 0.0)
        for _ in range(steps):
            for arm in rng.permutation(list(turns)):
                seconds[arm] += turns[arm].take()
        return seconds

    first = epoch()
    collected = collect(epoch, rounds)
    for turn in turns.values():
        turn.finish()
    return Comparison(
        name,
        backend,
        next(iter(fits)),
        "seconds",
        collected.costs,
        {arm: before[arm] + first[arm] for arm in fits},
        {"steps": steps},
        collected.left_out,
        collected.disturbed,
        collected.seconds,
    )
