"""How long ago units fired, against NumPy."""

import keras
import numpy as np
import pytest
from compiled_steps import compiled
from keras import ops

from keras_actpen import backend
from keras_actpen.instrumentation.host_state import HostSinceFired
from keras_actpen.statistics.since_fired import (
    MOST_POSITIONS,
    DeadWindow,
    SinceFired,
    check_dead_after,
    fired_by_row,
    fired_in,
)
from keras_actpen.statistics.snapshot import StatisticsSnapshot

BACKEND = keras.backend.backend()


def expected(steps, units):
    """Positions since each unit fired, and seen, of `(batch, mask)` pairs."""
    since, seen = np.zeros(units, "int64"), 0
    for values, mask in steps:
        if mask is not None:
            values = values[mask]
        values = values.reshape(-1, units)
        since = np.where((values != 0).any(axis=0), 0, since + len(values))
        seen += len(values)
    return since, seen


def both(units, steps):
    """What the state on the device, and on the host, have of compiled steps.

    Args:
        units: Of each row.
        steps: For each step its `(batch, mask)` by row.
    """
    device = SinceFired(units)
    states = [device] + [HostSinceFired(units)] * backend.is_on_host()
    for state in states:
        for step in steps:
            rows = list(step)
            flat = [
                ops.convert_to_tensor(x)
                for one in step.values()
                for x in one
                if x is not None
            ]

            def update(*arrays, state=state, step=step, rows=rows):
                arrays = iter(arrays)
                fired = {}
                for row in rows:
                    x = next(arrays)
                    mask = None if step[row][1] is None else next(arrays)
                    fired[row] = fired_in([(x, mask)], state.units(row))
                state.update(fired)

            if state is device:
                update = compiled(update, device.variables, BACKEND == "jax")
            update(*flat)
    found = [state.read() for state in states]
    for one in found[1:]:
        for left, right in zip(found[0], one, strict=True):
            assert (left is None) == (right is None)
            if left is not None:
                np.testing.assert_array_equal(left[0], right[0])
                assert left[1] == right[1]
    return found[0]


def rare(*shape, rate=0.1, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * (rng.random(shape) < rate)
    return values.astype("float32")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_steps_of_several_rows(dtype):
    rng = np.random.default_rng(1)
    steps = []
    for seed in range(6):
        mask = rng.random((4, 3)) < 0.5
        size = 3 if seed == 5 else 4  # a ragged last batch
        steps.append(
            {
                0: (rare(size, 5, seed=seed), None),
                2: (rare(4, 3, 6, rate=0.05, seed=seed), mask),
                3: (rare(4, seed=seed), None),
                # Not called in every step, and with more axes than the mask.
                **(
                    {4: (rare(4, 3, 2, 7, seed=seed), mask)} if seed % 2 else {}
                ),
            }
        )
    cast = [
        {row: (ops.cast(x, dtype), mask) for row, (x, mask) in step.items()}
        for step in steps
    ]
    found = both([5, None, 6, 1, 7], cast)
    assert found[1] is None
    for row, units in ((0, 5), (2, 6), (3, 1), (4, 7)):
        batches = [step[row] for step in steps if row in step]
        since, seen = expected(batches, units)
        np.testing.assert_array_equal(found[row][0], since)
        assert found[row][1] == seen
        assert 0 < seen
    assert len({*found[0][0], *found[2][0], *found[4][0]}) > 4


def test_the_calls_of_one_step():
    calls = [rare(4, 5, seed=seed) for seed in (1, 2)]
    tensors = [(ops.convert_to_tensor(x), None) for x in calls]
    joined = {0: fired_in(tensors, 5)}
    apart = {0: [call for one in tensors for call in fired_in([one], 5)]}
    reference = (np.concatenate(calls) != 0).any(axis=0)
    assert 0 < reference.sum() < 5
    for calls in (joined, apart):
        ((found, number),) = fired_by_row(calls).values()
        np.testing.assert_array_equal(ops.convert_to_numpy(found), reference)
        assert int(number) == 8


def test_other_units_say_nothing():
    x = ops.ones((4, 5))
    assert fired_in([(x, None)], 6) is None
    assert fired_in([(ops.ones((4, 6)), None), (x, None)], 6) is None


@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes of TensorFlow")
def test_units_that_the_graph_does_not_know():
    import tensorflow as tf

    state = SinceFired([3])
    step = tf.function(
        lambda x: state.update({0: fired_in([(x, None)], 3)}),
        input_signature=[tf.TensorSpec((None, None))],
    )
    step([[0.0, 1.0, -2.0], [0.0, 0.0, 0.0]])
    ((since, seen),) = state.read()
    assert (since.tolist(), seen) == ([2, 0, 0], 2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("late", [[], [2]])
def test_a_unit_that_fires_in_a_later_sample_alone(late, masked):
    """The first sample of a convolution may tell of all units, or not."""
    x = np.zeros((3, 9, 8, 4), "float32")
    x[0, 3, 1, [unit for unit in range(4) if unit not in late]] = -1.0
    x[2, 8, 7, late] = 1.0
    counted = np.ones((3, 9, 8), "bool")
    counted[0] = not masked
    mask = ops.convert_to_tensor(counted) if masked else None
    calls = fired_in([(ops.convert_to_tensor(x), mask)], units=4)
    ((fired, positions),) = fired_by_row({0: calls}).values()
    seen = x * counted[..., None]
    np.testing.assert_array_equal(
        ops.convert_to_numpy(fired), (seen != 0).any((0, 1, 2))
    )
    assert int(positions) == (2 if masked else 3) * 72


def test_minus_zero_does_not_fire_and_what_is_no_number_does():
    values = np.array([[-0.0, np.nan, np.inf, 1e-30, -1e-30]], "float32")
    ((since, _),) = both([5], [{0: (values, None)}])
    np.testing.assert_array_equal(since, [1, 0, 0, 0, 0])


def test_no_position():
    steps = [{0: (rare(4, 3, rate=0.0), None)}, {0: (rare(0, 3), None)}]
    ((since, seen),) = both([3], steps)
    np.testing.assert_array_equal(since, [4] * 3)
    assert seen == 4


def test_numbers_are_exact_beyond_float32_and_do_not_overflow():
    state = SinceFired([2])
    zeros = ops.zeros((3, 2))
    for start, after in (
        (2**24, 2**24 + 6),
        (MOST_POSITIONS - 1, MOST_POSITIONS),
        (MOST_POSITIONS + 2**29, MOST_POSITIONS),
    ):
        state.positions.assign(np.full(3, start))
        for _ in range(2):
            state.update({0: fired_in([(zeros, None)], 2)})
        ((since, seen),) = state.read()
        assert since.tolist() == [after] * 2
        assert seen == after


def test_reset():
    state = SinceFired([2, None])
    state.update({0: fired_in([(ops.zeros((3, 2)), None)], 2)})
    state.reset()
    (since, seen), nothing = state.read()
    assert (since.tolist(), seen, nothing) == ([0, 0], 0, None)


def test_the_window():
    """Of the first epoch, 10,000 at least, or what is given."""

    def windows(dead_after, *positions):
        window = DeadWindow(dead_after)
        for number in positions:
            seen = StatisticsSnapshot(
                since_fired=np.array([0, number]), positions=number
            )
            ((_, judged),) = window.after_epoch({"d": seen}).items()
            yield judged.dead_after, judged.dead_window

    assert list(windows(None, 6000, 12000)) == [
        (10_000, 6000),
        (10_000, 10_000),
    ]
    assert list(windows(None, 50_000, 100_000)) == [(50_000, 50_000)] * 2
    assert list(windows(7, 5, 10)) == [(7, 5), (7, 7)]
    assert next(windows(None, 0))[0] == 10_000


def test_bad_windows():
    expected = (
        "a number of positions from 1 to 1073741824, for example "
        "dead_after=30000 to find rates below 1e-4, or None for those of the "
        "first epoch"
    )
    for value in (0, -1, 2**31):
        with pytest.raises(ValueError, match="dead_after") as caught:
            check_dead_after(value)
        assert str(caught.value) == (
            "Invalid value received for argument `dead_after`. Expected "
            f"{expected}. Received: dead_after={value}"
        )
    for value, kind in ((1e4, "float"), (True, "bool"), ("epoch", "str")):
        with pytest.raises(TypeError, match="dead_after") as caught:
            check_dead_after(value)
        assert str(caught.value) == (
            "Invalid type received for argument `dead_after`. Expected "
            f"{expected}. Received: dead_after={value!r} (of type {kind})"
        )
    assert check_dead_after(None) is None
    assert check_dead_after(MOST_POSITIONS) == MOST_POSITIONS
