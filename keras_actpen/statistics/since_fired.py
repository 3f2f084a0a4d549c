"""Which units are dead: how long ago each last fired, kept at every step."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_actpen import backend
from keras_actpen.backend import operations as ops
from keras_actpen.backend.tensors import MaskedTensors, Tensor
from keras_actpen.penalties.validation import check_integer
from keras_actpen.statistics.device_state import (
    DeviceState,
    seen_elements,
    state_variable,
)
from keras_actpen.statistics.snapshot import Snapshots

# Larger numbers of positions count as this one: an int32 holds it and those
# of another step. A float32 would stop at 2^24, one epoch of MNIST.
MOST_POSITIONS = 2**30

# They distinguish a rate of 3e-4 from 0 (95 % confidence, 3/n).
FEWEST_POSITIONS = 10_000

# Positions of a sample from which on the first one is looked at by itself.
MANY_POSITIONS = 64

# Whether each unit fired in a step, and how many positions the step had.
Fired = tuple[Tensor, Tensor | int]


def fired_in(tensors: MaskedTensors, units: int) -> list[Any] | None:
    """What `SinceFired.update` needs of calls, as part of a step.

    Args:
        tensors: The activations of each call, with their masks.
        units: Size of the last axis.

    Returns:
        `None` if a call had another number of units, which says nothing of
        these.
    """
    found = []
    for x, mask in tensors:
        if len(x.shape) == 1:
            x = ops.expand_dims(x, -1)
        if x.shape[-1] not in (units, None):
            return None
        found.append(backend.later(_fired, ops.stop_gradient(x), mask))
    return found


def fired_by_row(steps: Mapping[int, Sequence[Any]]) -> dict[int, Fired]:
    """Which units have left 0 in the calls of one step, by rows.

    Args:
        steps: What `fired_in` has returned, by rows.
    """
    calls = [call for calls in steps.values() for call in calls]
    found = iter(backend.results(calls))
    return {
        row: functools.reduce(_either, itertools.islice(found, len(calls)))
        for row, calls in steps.items()
    }


def _either(first: Fired, second: Fired) -> Fired:
    """Which units have left 0 in one of two calls."""
    return ops.logical_or(first[0], second[0]), first[1] + second[1]


def _fired(x: Tensor, mask: Tensor | None) -> Fired:
    """Which units have left 0 in one call."""
    units = ops.cast(ops.shape(x)[-1], "int")
    return _ever_left_zero(x, mask), seen_elements(x, mask) // units


def _ever_left_zero(x: Tensor, mask: Tensor | None) -> Tensor:
    """Which units are not 0 somewhere.

    The first sample of a convolution shows it of nearly all units. If it does
    of all, there is no need to read the others.
    """
    of_sample = x.shape[1:]
    if len(of_sample) < 2 or None in of_sample:
        return _left_zero(x, mask)
    if math.prod(of_sample[:-1]) < MANY_POSITIONS:
        return _left_zero(x, mask)
    first = _left_zero(x[:1], None if mask is None else mask[:1])
    return backend.unless_all(first, lambda: _left_zero(x, mask))


def _left_zero(x: Tensor, mask: Tensor | None) -> Tensor:
    """Which units are not 0 somewhere, in one pass; NaN is not 0 either."""
    if mask is not None:
        keep = ops.cast(mask, "bool")
        while len(keep.shape) < len(x.shape):
            keep = ops.expand_dims(keep, -1)
        x = ops.where(keep, x, ops.zeros_like(x))
    return backend.any_nonzero(x)


class SinceFired(DeviceState):
    """Positions since each unit last fired, for all watched tensors at once.

    A step in which a unit fires counts as a whole as the last one. Masked
    positions do not count.

    Args:
        units: For each watched tensor the size of its last axis, or `None` if
            it is not known; then its units are not followed.
    """

    def __init__(self, units: Sequence[int | None]):
        super().__init__()
        ends = list(itertools.accumulate(size or 0 for size in units))
        self.slices: list[slice | None] = [
            slice(end - size, end) if size else None
            for size, end in zip(units, ends, strict=True)
        ]
        # Of the units of each watched tensor; then of each how many it has
        # seen: those since something that never happened.
        self.positions: keras.Variable = state_variable(
            (ends[-1] + len(units),), "since_fired", dtype="int"
        )

    def units(self, row: int) -> int | None:
        """How many units of a watched tensor are followed."""
        where = self.slices[row]
        return None if where is None else where.stop - where.start

    def update(self, steps: Mapping[int, Sequence[Any]]) -> None:
        """Take in what `fired_in` calls of a step, by rows, as part of it."""
        state = ops.convert_to_tensor(self.positions)
        unchanged = ops.zeros_like(state)
        fired, since, seen = [], [], []
        found = fired_by_row(steps)
        for row, where in enumerate(self.slices):
            nothing = unchanged[where or slice(0)]
            new, positions = found.get(row, (ops.cast(nothing, "bool"), 0))
            positions = ops.cast(positions, state.dtype)
            fired.append(ops.reshape(new, nothing.shape))
            since.append(nothing + positions)
            seen.append(unchanged[:1] + positions)
        fired.append(ops.cast(unchanged[: len(seen)], "bool"))
        state = ops.minimum(state, MOST_POSITIONS)
        state = state + ops.concatenate(since + seen)
        self.positions.assign(
            ops.where(ops.concatenate(fired), unchanged, state)
        )

    def read(self) -> list[tuple[np.ndarray, int] | None]:
        """For each tensor the positions since units fired, and those seen.

        `None` where units are not followed. The positions since a unit fired
        are those of the replica on which it fired last, times the number of
        replicas, whose steps have the same size but for the last one.
        """
        replicas = [
            np.minimum(one, MOST_POSITIONS)
            for one in backend.local_values(self.positions)
        ]
        first = self.positions.shape[0] - len(self.slices)
        return [
            None
            if where is None
            else _merged([(one[where], one[first + row]) for one in replicas])
            for row, where in enumerate(self.slices)
        ]


def _merged(
    replicas: Sequence[tuple[np.ndarray, np.integer]],
) -> tuple[np.ndarray, int]:
    """Positions since units fired, and those seen, on all replicas."""
    total = sum(int(seen) for _, seen in replicas)
    # As shares, so that what has never fired on any stays at all positions.
    shares = [since / max(int(seen), 1) for since, seen in replicas]
    return np.rint(np.min(shares, axis=0) * total).astype("int64"), total


class DeadWindow:
    """By how many positions units are called dead, in one training.

    Args:
        dead_after: The number, or `None` for the positions of the first epoch
            of the training, at least 10,000.
    """

    def __init__(self, dead_after: int | None):
        self.dead_after = dead_after
        self._windows: dict[Hashable, int] = {}

    def after_epoch(self, snapshots: Snapshots) -> Snapshots:
        """The statistics at the end of an epoch, judged by the window."""
        return {
            key: dataclasses.replace(
                seen, dead_after=self._window(key, seen.positions)
            )
            for key, seen in snapshots.items()
        }

    def _window(self, key: Hashable, positions: int) -> int:
        """The window of a tensor that has seen `positions` until now."""
        if self.dead_after is not None:
            return self.dead_after
        return self._windows.setdefault(key, max(FEWEST_POSITIONS, positions))


def check_dead_after(dead_after: Any) -> int | None:
    """Return `dead_after` if it is a number of positions, or `None`.

    Raises:
        TypeError: If it is neither an integer nor `None`.
        ValueError: If it is out of range.
    """
    expected = (
        f"a number of positions from 1 to {MOST_POSITIONS}, for example "
        "dead_after=30000 to find rates below 1e-4, or None for those of the "
        "first epoch"
    )
    if dead_after is None:
        return None
    return check_integer("dead_after", dead_after, expected, 1, MOST_POSITIONS)
