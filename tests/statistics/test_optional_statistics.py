"""Statistics by name, against NumPy in float64."""

import functools

import keras
import numpy as np
import pytest
from compiled_steps import BACKEND, compiled
from keras import layers, ops
from optional_by_hand import assert_values, expected

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.covariance_spectrum import MOST_UNITS
from keras_actpen.statistics.optional import (
    CURVES,
    DEFINITIONS,
    STATES,
    check_names,
)

UNITS = 5
OUTPUT, PREACTIVATION = ActivationSpec(), ActivationSpec("preactivation")


def states(activation="tanh", units=UNITS, spec=OUTPUT):
    """One of every state that a Dense layer has, by its class."""
    layer = layers.Dense(units or 1, activation=activation)
    return {
        kind: kind.of(layer, units)
        for kind in STATES.values()
        if kind.applies_to(layer, spec, units)
    }


def read(made):
    values = {}
    for state in made.values():
        values |= state.read()
    return values


@functools.cache
def compiled_step(**arguments):
    """States, and a compiled step that takes in a batch; made once."""
    made = states(**arguments)

    def step(*arrays):
        for state in made.values():
            state.update(*arrays)

    variables = [v for state in made.values() for v in state.variables]
    # XLA takes seconds to compile on TensorFlow.
    return made, compiled(step, variables, jit=BACKEND == "jax")


def watch(batches, masks=None, dtype="float32", **arguments):
    """Values of all statistics after compiled steps, one a batch."""
    made, step = compiled_step(**arguments)
    for state in made.values():
        state.reset()
    for index, batch in enumerate(batches):
        arrays = [ops.convert_to_tensor(batch, dtype)]
        if masks is not None:
            arrays.append(ops.convert_to_tensor(masks[index]))
        step(*arrays)
    return read(made)


def normal(*shape, mean=0.0, std=1.0, seed=0):
    values = np.random.default_rng(seed).normal(mean, std, size=shape)
    return values.astype("float32")


def with_nonfinite():
    values = normal(64, UNITS)
    values[0, 0], values[1, 0], values[2, 3] = np.nan, np.inf, -np.inf
    return values


def with_unit_never_finite():
    values = normal(64, UNITS)
    values[:, 2] = np.nan
    return values


CASES = {
    "dense": normal(64, UNITS),
    "relu, one dead unit": np.maximum(normal(64, UNITS), 0)
    * (np.arange(UNITS) > 0),
    "4-D": normal(4, 6, 5, UNITS),
    "correlated": normal(64, 2) @ normal(2, UNITS, seed=1),
    "one dormant unit": normal(64, UNITS)
    * np.array([1, 1, 0.02, 1, 1], "float32"),
    "heavy tails": normal(64, UNITS) ** 5,
    "mean 1000": normal(64, UNITS, mean=1000.0),
    "constant": np.full((64, UNITS), 0.1, "float32"),
    "all zero": np.zeros((64, UNITS), "float32"),
    "nonfinite": with_nonfinite(),
    "a unit that is never finite": with_unit_never_finite(),
    "only nonfinite": np.full((64, UNITS), np.nan, "float32"),
    "huge": normal(64, UNITS) * np.float32(5e37),
    "tiny": normal(64, UNITS) * np.float32(1e-30),
}


# With a mean of 1000 float32 has four digits less for what is left.
WIDER = {"mean 1000": 1e-3}


@pytest.mark.parametrize("case", CASES)
def test_one_batch_equals_numpy(case):
    values = CASES[case]
    reference = expected(values)
    assert_values(watch([values]), reference, WIDER.get(case, 2e-5))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    values = normal(64, 33, std=200.0)
    actual = watch([values], dtype=dtype, units=33)
    rounded = ops.cast(ops.convert_to_tensor(values, dtype), "float32")
    assert_values(actual, expected(ops.convert_to_numpy(rounded)))


@pytest.mark.parametrize("mask_rank", [1, 2])
def test_masked_positions_count_nowhere(mask_rank):
    values = normal(6, 7, UNITS)
    mask = np.random.default_rng(1).random(values.shape[:mask_rank]) < 0.6
    assert 0 < mask.sum() < mask.size
    values[~mask] *= 100
    values[0, 0, 0], mask[0] = np.nan, False
    assert_values(watch([values], [mask]), expected(values, mask))


def test_all_masked_reads_as_nothing_seen():
    values = watch([CASES["dense"]], [np.zeros(64, bool)])
    for name, value in values.items():
        assert np.isnan(value).all(), name


@pytest.mark.parametrize("masked", [False, True])
def test_batches_accumulate(masked):
    # The range grows, then shrinks; the last batch is ragged or masked.
    batches = [normal(16, UNITS, seed=i) * 10.0**i + i for i in (2, 0, 3, 1)]
    batches = [batch.astype("float32") for batch in batches]
    batches[2][0, 0] = np.inf
    masks = [np.arange(16) < n for n in (16, 9, 5, 0)] if masked else None
    if not masked:
        batches[3] = batches[3][:3]
    mask = np.concatenate(masks) if masked else None
    reference = expected(np.concatenate(batches), mask)
    assert_values(watch(batches, masks), reference)


def test_many_batches_lose_no_digits():
    batches = [normal(16, UNITS, seed=i, mean=3.0) for i in range(100)]
    assert_values(watch(batches), expected(np.concatenate(batches)))


def test_a_constant_over_batches_has_no_spread():
    values = watch([np.full((16, UNITS), 0.3, "float32")] * 3)
    undefined = {name for name, v in values.items() if np.isnan(v).any()}
    assert undefined == {
        "kurtosis",
        "participation_ratio",
        "stable_rank",
        "effective_rank",
    }


def test_reset_forgets_everything():
    values = watch([CASES["dense"]])
    assert not any(np.isnan(value).any() for value in values.values())
    for state in compiled_step()[0].values():
        state.reset()
        assert all(not v.numpy().any() for v in state.variables)


def test_counts_are_exact_beyond_int32():
    (quantiles,) = [s for k, s in states().items() if "Quantile" in str(k)]
    words = np.zeros(quantiles.counts.shape, "int32")
    zeros = words.shape[1] // 2
    words[:, zeros] = 2**20 - 1, 2**24
    quantiles.counts.assign(words)
    quantiles.update(ops.convert_to_tensor(np.zeros((3, UNITS), "float32")))
    lower, upper = ops.convert_to_numpy(quantiles.counts)[:, zeros].tolist()
    assert upper * 2**20 + lower == 2**44 + 2**20 - 1 + 3 * UNITS


@pytest.mark.parametrize(
    ("activation", "ends"),
    [
        ("tanh", (-0.9, 0.9)),
        ("hard_tanh", (-0.9, 0.9)),
        ("softsign", (-0.9, 0.9)),
        ("sigmoid", (0.05, 0.95)),
        ("hard_sigmoid", (0.05, 0.95)),
    ],
)
def test_saturation_goes_by_the_bounds_of_the_activation(activation, ends):
    low, high = ends
    values = np.linspace(2 * low - high, 2 * high - low, 101)
    values = values.astype("float32")[:, None]
    found = watch([values], activation=activation, units=1)
    share = np.mean((values < low) | (values > high))
    assert found["saturated_fraction"] == share


def test_a_statistic_is_left_out_where_it_has_no_sense():
    def curves(**arguments):
        return {
            name
            for state in states(**arguments).values()
            for name in state.definitions
        }

    everything = set(DEFINITIONS)
    ranks = {"participation_ratio", "stable_rank", "effective_rank"}
    by_unit = {"dormant_fraction", "unit_rms"}
    assert curves() == everything
    assert curves(activation="relu") == everything - {"saturated_fraction"}
    assert curves(spec=PREACTIVATION) == everything - {"saturated_fraction"}
    assert curves(units=MOST_UNITS + 1) == everything - ranks
    assert curves(units=None) == everything - ranks - by_unit


def test_every_name_has_a_state_and_definitions():
    assert list(CURVES) == list(STATES)
    for name, curves in CURVES.items():
        assert set(curves) <= set(STATES[name].definitions)
    assert all(text.endswith(".") for text in DEFINITIONS.values())


def test_names():
    assert check_names(()) == ()
    names = ["kurtosis", "quantiles", "kurtosis"]
    assert check_names(names) == ("kurtosis", "quantiles")
    with pytest.raises(ValueError, match="`statistics`") as caught:
        check_names(("kurtosis", "effective_ranks"))
    assert str(caught.value) == (
        "Invalid value received for argument `statistics`. Expected names "
        f"out of {tuple(STATES)}. Received: 'effective_ranks'. Did you mean "
        "'effective_rank'?"
    )
    with pytest.raises(TypeError, match="`statistics`") as caught:
        check_names("kurtosis")
    assert str(caught.value) == (
        "Invalid type received for argument `statistics`. Expected a "
        "sequence of names, for example statistics=('quantiles',). Received: "
        "statistics='kurtosis' (of type str)"
    )


def test_activations_have_the_names_that_the_bounds_go_by():
    from keras_actpen.statistics.saturated_fraction import BOUNDS

    for name in ("tanh", "hard_tanh", "softsign", "sigmoid", "hard_sigmoid"):
        assert keras.activations.get(name).__name__ in BOUNDS
