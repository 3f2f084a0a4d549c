import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from compiled_steps import compiled
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops
from optional_by_hand import assert_values as assert_optional
from optional_by_hand import expected as expected_optional
from paths import SUPPORT
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.util import tensor_util

from keras_actpen import backend
from keras_actpen.instrumentation.host_state import HostStatistics
from keras_actpen.statistics.activation_statistics import ActivationStatistics
from keras_actpen.statistics.snapshot import DEFINITIONS, StatisticsSnapshot

BACKEND = keras.backend.backend()
NAMES = [
    "mean",
    "std",
    "min",
    "max",
    "rms",
    "zero_fraction",
    "l0",
    "dead_fraction",
    "dead_window",
    "nonfinite",
]
# What is not known where units are not told apart.
WITHOUT_UNITS = dict.fromkeys(("l0", "dead_fraction", "dead_window"), np.nan)
FLOATS = st.floats(width=32, allow_subnormal=False)


def float32(values):
    return ops.convert_to_numpy(ops.cast(values, "float32"))


def take_in(statistics, *arrays, row=0):
    """One batch as the only one of a step."""
    statistics.update({row: statistics.seen(row, *arrays)})


def watch(batches, masks=None, dtype="float32", units=True, jit=True):
    """Statistics of all batches, histogram of the last, from compiled steps."""
    units = [batches[0].shape[-1] if units else None]
    statistics = ActivationStatistics(units)

    def step(*arrays):
        take_in(statistics, *arrays)

    step = compiled(step, statistics.variables, jit)
    steps = []
    for index, batch in enumerate(batches):
        arrays = [ops.convert_to_tensor(batch, dtype)]
        if masks is not None:
            arrays.append(ops.convert_to_tensor(masks[index]))
        steps.append(arrays)
        step(*arrays)
    (found,) = statistics.read()
    if backend.is_on_host():
        assert_agree(on_host(units, steps), found)
    return found


def on_host(units, steps):
    statistics = HostStatistics(units)
    for arrays in steps:
        take_in(statistics, *arrays)
    return statistics.read()[0]


def assert_agree(one, other):
    """Two snapshots; their means are float64 and float32."""
    assert_values(one.values(), other.values())
    np.testing.assert_array_equal(one.histogram, other.histogram)
    if one.fired is None:
        assert other.fired is None
    else:
        np.testing.assert_array_equal(one.fired, other.fired)


def buckets(values):
    """TensorBoard's own histogram of the finite values other than 0."""
    values = np.asarray(values, "float64")
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size:
        return np.zeros((0, 3))
    return tensor_util.make_ndarray(histogram_pb("", values).value[0].tensor)


def expected(values, mask=None):
    """The statistics with NumPy in float64."""
    values = np.asarray(values, "float64")
    if mask is not None:
        values = values[mask]
    values = values.reshape(-1, values.shape[-1])
    finite = values[np.isfinite(values)]
    result = dict.fromkeys(NAMES, np.nan)
    if values.size:
        result["nonfinite"] = values.size - finite.size
        result["dead_window"] = len(values)
    if finite.size:
        fires = np.isfinite(values) & (values != 0)
        result |= {
            "mean": finite.mean(),
            "std": finite.std(),
            "min": finite.min(),
            "max": finite.max(),
            "rms": np.sqrt(np.mean(finite**2)),
            "zero_fraction": np.mean(finite == 0),
            "l0": fires.sum(axis=1).mean(),
            "dead_fraction": np.mean(~fires.any(axis=0)),
        }
    return result


def assert_values(actual, reference, rtol=2e-6):
    assert list(actual) == NAMES
    # A mean near 0 is as exact as the values that it averages.
    scale = np.nan_to_num(reference["rms"])
    for name in NAMES:
        exact = name not in ("mean", "std", "rms", "l0")
        np.testing.assert_allclose(
            actual[name],
            reference[name],
            rtol=0 if exact else rtol,
            atol=rtol * scale if name == "mean" else 0,
            err_msg=name,
        )


def normal(*shape, mean=0.0, std=1.0):
    values = np.random.default_rng(0).normal(mean, std, size=shape)
    return values.astype("float32")


def with_nonfinite():
    values = normal(16, 6)
    values[0, 0], values[1, 0], values[2, 3] = np.nan, np.inf, -np.inf
    values[:, 5] = np.nan
    values[:, 4] = 0.0
    return values


CASES = {
    "dense": normal(32, 7),
    "relu, one dead unit": np.maximum(normal(32, 7), 0) * (np.arange(7) > 0),
    "4-D": np.maximum(normal(4, 6, 5, 3), 0),
    "mean 1000": normal(64, 8, mean=1000.0),
    "constant": np.full((4, 3), 0.1, "float32"),
    "negative constant": np.full((4, 3), -7.25, "float32"),
    "all zero": np.zeros((4, 3), "float32"),
    "nonfinite": with_nonfinite(),
    "only nonfinite": np.full((2, 3), np.nan, "float32"),
    "one infinity": np.array([[np.inf, 1.0, 2.0]], "float32"),
    "huge": normal(32, 7) * np.float32(5e37),
    "full range": np.array([[-3.4e38, 3.4e38, 1.0]], "float32"),
    "tiny": normal(32, 7) * np.float32(1e-30),
    "single element": np.array([[2.5]], "float32"),
    "minus zero": np.array([[-0.0, 0.0, 1.0]], "float32"),
    "1-D": normal(20),
}


@pytest.mark.parametrize(
    "jit",
    [
        pytest.param(True, id="jit"),
        pytest.param(
            False,
            id="graph",
            marks=pytest.mark.skipif(
                BACKEND != "tensorflow", reason="one way to compile only"
            ),
        ),
    ],
)
@pytest.mark.parametrize("case", CASES)
def test_one_batch_equals_numpy_and_tensorboard(case, jit):
    values = CASES[case]
    units = values.ndim > 1
    snapshot = watch([values], units=units, jit=jit)
    reference = expected(values if units else values[:, None])
    if not units:
        reference |= WITHOUT_UNITS
    assert_values(snapshot.values(), reference)
    np.testing.assert_array_equal(snapshot.histogram, buckets(values))


@pytest.mark.parametrize(
    "dtype",
    [
        "float16",
        "bfloat16",
        pytest.param(
            "float64",
            marks=pytest.mark.skipif(
                BACKEND == "jax", reason="JAX has no float64 by default"
            ),
        ),
    ],
)
def test_dtypes(dtype):
    values = np.maximum(normal(64, 33, mean=0.5), 0)
    snapshot = watch([values], dtype=dtype)
    values = float32(ops.convert_to_tensor(values, dtype))
    assert_values(snapshot.values(), expected(values))
    np.testing.assert_array_equal(snapshot.histogram, buckets(values))


def test_float16_sums_do_not_overflow():
    values = np.full((64, 64), 60000.0, "float16")
    values[::2] -= 64
    snapshot = watch([values], dtype="float16")
    assert_values(snapshot.values(), expected(values))


def test_variance_beside_a_large_mean():
    batches = [normal(128, 64, mean=1000.0) + i for i in range(8)]
    variance = watch(batches).values()["std"] ** 2
    reference = np.concatenate(batches).astype("float64").var()
    np.testing.assert_allclose(variance, reference, rtol=1e-6)


def test_xla_sums_do_not_drift():
    values = normal(300_000, 1, mean=1000.0)
    variance = watch([values]).values()["std"] ** 2
    np.testing.assert_allclose(
        variance, values.astype("float64").var(), rtol=1e-6
    )


def test_large_batch_equals_tensorboard():
    values = np.maximum(normal(64, 13, 13, 32), 0) * np.float32(1.7)
    snapshot = watch([values])
    assert_values(snapshot.values(), expected(values))
    np.testing.assert_array_equal(snapshot.histogram, buckets(values))


@pytest.mark.parametrize(
    ("shape", "mask_rank"),
    [
        ((6, 5, 4), 2),
        ((6, 5, 4), 1),
        ((6, 5, 2, 4), 2),
        # In parts on torch, of several examples and of one.
        ((600, 30, 20), 2),
        ((2, 400, 400), 1),
    ],
)
def test_masked_positions_count_nowhere(shape, mask_rank):
    mask = np.random.default_rng(1).random(shape[:mask_rank]) < 0.6
    assert 0 < mask.sum() < mask.size
    values = normal(*shape)
    values[0, 0], mask[0] = np.nan, False
    values[1, 0], mask[1] = np.nan, True
    values[~mask] *= 100
    snapshot = watch([values], [mask])
    assert_values(snapshot.values(), expected(values, mask))
    assert snapshot.nonfinite == np.prod(shape[2:])
    np.testing.assert_array_equal(snapshot.histogram, buckets(values[mask]))


def test_no_units_read_as_nothing_seen():
    snapshot = watch([np.zeros((3, 0), "float32")])
    assert snapshot.count == snapshot.nonfinite == 0
    assert np.isnan(snapshot.values()["mean"])
    assert snapshot.histogram.shape == (0, 3)


def test_all_masked_reads_as_nothing_seen():
    values = np.full((4, 3), np.nan, "float32")
    snapshot = watch([values], [np.zeros(4, bool)])
    assert snapshot.count == snapshot.nonfinite == 0
    assert np.isnan(list(snapshot.values().values())).all()
    assert snapshot.histogram.shape == (0, 3)


@pytest.mark.parametrize("masked", [False, True])
def test_batches_accumulate(masked):
    # The range grows and the last batch holds only masked or ragged rows.
    batches = [normal(8, 5) * 10.0**i + i for i in (0, -3, 4, 2)]
    batches = [b.astype("float32") for b in batches]
    batches[1][:, 2] = 0
    batches[2][0, 0] = np.inf
    masks = [np.arange(8) < n for n in (8, 5, 3, 0)] if masked else None
    if not masked:
        batches[3] = batches[3][:3]
    snapshot = watch(batches, masks)
    mask = np.concatenate(masks) if masked else None
    reference = expected(np.concatenate(batches), mask)
    assert_values(snapshot.values(), reference)
    last = batches[3][:0] if masked else batches[3]
    np.testing.assert_array_equal(snapshot.histogram, buckets(last))


def test_a_unit_is_dead_only_if_it_never_fired():
    first = np.array([[1.0, 0.0, 0.0]], "float32")
    second = np.array([[0.0, 0.0, -1.0]], "float32")
    assert watch([first]).values()["dead_fraction"] == pytest.approx(2 / 3)
    both = watch([first, second])
    np.testing.assert_array_equal(both.fired, [1, 0, 1])
    assert both.values()["dead_fraction"] == pytest.approx(1 / 3)


def test_unknown_units_have_no_dead_fraction():
    snapshot = watch([CASES["dense"]], units=False)
    assert snapshot.fired is None
    reference = expected(CASES["dense"]) | WITHOUT_UNITS
    assert_values(snapshot.values(), reference)


def test_counts_are_exact_beyond_float32_and_int32():
    statistics = ActivationStatistics([3])
    forged = 2**44 + 2**20 - 2
    word = 2**20
    counts = np.zeros(statistics.counts.shape, "int32")
    counts[0, 0:3] = forged % word
    counts[0, 3:6] = forged // word
    statistics.counts.assign(counts)
    values = np.array([[0.0, np.nan, 1.0], [0.0, 0.0, 2.0]], "float32")
    for _ in range(2):
        take_in(statistics, ops.convert_to_tensor(values))
    (snapshot,) = statistics.read()
    assert snapshot.count == forged + 10
    assert snapshot.zeros == forged + 6
    assert snapshot.nonfinite == forged + 2


def test_the_rows_of_a_table_are_apart():
    statistics = ActivationStatistics([7, None, 3])
    cases = {2: CASES["4-D"], 0: CASES["relu, one dead unit"], 1: CASES["1-D"]}
    for row, values in cases.items():
        take_in(statistics, ops.convert_to_tensor(values), row=row)
    take_in(statistics, ops.convert_to_tensor(CASES["dense"]), row=0)
    snapshots = statistics.read()
    for row, values in cases.items():
        alone = watch([values], units=row != 1)
        if row == 0:
            alone = alone.merge(watch([CASES["dense"]]))
        assert snapshots[row].count == alone.count
        assert_values(snapshots[row].values(), alone.values())
        np.testing.assert_array_equal(snapshots[row].histogram, alone.histogram)


def test_the_rows_of_one_step_are_those_of_each_alone():
    """On JAX those of one shape are looked at at once, small ones alone."""
    shapes = [(4, 3), (4, 3), (4, 2, 3), (4, 3), (300, 300), (300, 300), (4, 3)]
    tensors = [normal(*shape, mean=row) for row, shape in enumerate(shapes)]
    tensors[1][2:, 1] = 0.0
    tensors[3][0, 0] = np.nan
    masks = [None, None, np.eye(4, 2) > 0, np.arange(4) > 0, None, None]
    masks.append(np.arange(4) > 1)
    dtypes = ["float32"] * len(shapes)
    dtypes[0] = "float16"
    batches = [
        (ops.convert_to_tensor(x, dtype), mask)
        for x, dtype, mask in zip(tensors, dtypes, masks, strict=True)
    ]
    counted = [
        None if mask is None else ops.convert_to_tensor(mask) for mask in masks
    ]
    statistics = ActivationStatistics([shape[-1] for shape in shapes])

    def step(*arrays):
        statistics.update(
            {
                row: statistics.seen(row, x, mask)
                for row, (x, mask) in enumerate(
                    zip(arrays, counted, strict=True)
                )
            }
        )

    compiled(step, statistics.variables, True)(*(x for x, _ in batches))
    for found, (x, mask) in zip(statistics.read(), batches, strict=True):
        assert_values(found.values(), expected(float32(x), mask))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes of TensorFlow")
def test_units_that_the_graph_does_not_know():
    import tensorflow as tf

    statistics = ActivationStatistics([7])
    step = tf.function(
        lambda x: take_in(statistics, x),
        input_signature=[tf.TensorSpec((None, None))],
    )
    step(CASES["relu, one dead unit"])
    (snapshot,) = statistics.read()
    assert_values(snapshot.values(), expected(CASES["relu, one dead unit"]))


def test_no_tensor_has_known_units():
    statistics = ActivationStatistics([None])
    take_in(statistics, ops.convert_to_tensor(CASES["1-D"]))
    (snapshot,) = statistics.read()
    assert snapshot.fired is None
    assert snapshot.count == 20


def test_reset_forgets_everything():
    statistics = ActivationStatistics([6])
    start = [v.numpy().copy() for v in statistics.variables]
    take_in(statistics, ops.convert_to_tensor(CASES["nonfinite"]))
    (snapshot,) = statistics.read()
    assert snapshot.count == 77
    assert len(snapshot.histogram) == 30
    statistics.reset()
    for variable, value in zip(statistics.variables, start, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    (snapshot,) = statistics.read()
    assert np.isnan(list(snapshot.values().values())).all()
    assert snapshot.histogram.shape == (0, 3)


@given(
    values=hnp.arrays(
        "float32", 48, elements=FLOATS | st.sampled_from([0.0, 0.5, 1.0])
    ),
    mask=hnp.arrays(bool, 48),
)
@example(  # the largest power of two, whose inverse is not a normal number
    values=np.eye(1, 48, dtype="float32")[0] * np.float32(2.0**127),
    mask=np.ones(48, bool),
)
def test_any_values_equal_numpy_and_tensorboard(values, mask):
    statistics = ActivationStatistics([1])
    x, keep = map(ops.convert_to_tensor, (values[:, None], mask))
    take_in(statistics, x, keep)
    (snapshot,) = statistics.read()
    actual, reference = snapshot.values(), expected(values[:, None], mask)
    # Deviations far below the largest value drown in float32.
    rms = np.nan_to_num(reference["rms"])
    np.testing.assert_allclose(
        actual.pop("std"), reference.pop("std"), rtol=2e-6, atol=1e-6 * rms
    )
    np.testing.assert_allclose(
        actual.pop("mean"), reference.pop("mean"), rtol=0, atol=2e-6 * rms
    )
    assert actual == pytest.approx(reference, rel=2e-6, abs=0, nan_ok=True)
    np.testing.assert_array_equal(snapshot.histogram, buckets(values[mask]))


def snapshot_of(values):
    """A snapshot made by NumPy alone."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return StatisticsSnapshot(
            nonfinite=values.size, fired=np.zeros(values.shape[1])
        )
    return StatisticsSnapshot(
        count=finite.size,
        mean=finite.mean(),
        variance=np.mean((finite - finite.mean()) ** 2),
        minimum=finite.min(),
        maximum=finite.max(),
        zeros=np.sum(finite == 0),
        nonfinite=values.size - finite.size,
        fired=np.sum(np.isfinite(values) & (values != 0), axis=0),
        histogram=buckets(values),
    )


def arrays():
    elements = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, np.nan])
    shapes = st.tuples(st.integers(0, 6), st.just(3))
    return hnp.arrays("float64", shapes, elements=elements)


def assert_same(left, right):
    assert_values(left.values(), right.values(), rtol=1e-9)
    assert left.count == right.count
    np.testing.assert_array_equal(left.fired, right.fired)
    np.testing.assert_array_equal(left.histogram, right.histogram)


@given(arrays(), arrays(), arrays())
def test_merge_is_associative_and_equals_the_concatenation(a, b, c):
    one, two, three = map(snapshot_of, (a, b, c))
    merged = one.merge(two).merge(three)
    assert_same(merged, one.merge(two.merge(three)))
    reference = expected(np.concatenate([a, b, c]))
    rms = np.nan_to_num(reference["rms"])
    # NumPy's own std of a constant is not quite 0.
    std = merged.values()["std"], reference.pop("std")
    np.testing.assert_allclose(*std, rtol=1e-9, atol=1e-9 * rms)
    assert_values(merged.values(), reference | {"std": std[0]}, rtol=1e-9)
    histograms = [s.histogram for s in (one, two, three) if len(s.histogram)]
    last = histograms[-1] if histograms else np.zeros((0, 3))
    np.testing.assert_array_equal(merged.histogram, last)


def test_the_empty_snapshot_is_neutral():
    snapshot = watch([CASES["nonfinite"]])
    assert_same(StatisticsSnapshot().merge(snapshot), snapshot)
    assert_same(snapshot.merge(StatisticsSnapshot()), snapshot)
    empty = StatisticsSnapshot().values()
    assert list(empty) == list(DEFINITIONS) == NAMES
    assert np.isnan(list(empty.values())).all()


class Watch(keras.layers.Layer):
    """Passes its inputs through and watches them."""

    def __init__(self, units, optional=(), **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.tanh
        self.statistics = ActivationStatistics([units])
        self.optional = [kind.of(self, units) for kind in optional]

    def call(self, inputs):
        take_in(self.statistics, inputs)
        for statistic in self.optional:
            statistic.update(inputs)
        return inputs


class Reset(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.get_layer("watch").statistics.reset()


def small_model(
    watched=True, learning_rate=0.0, dtype=None, optional=(), **compile_args
):
    identity = keras.initializers.Identity()
    layers = [
        keras.Input((5,)),
        keras.layers.Dense(5, kernel_initializer=identity, dtype=dtype),
        keras.layers.Dense(1, kernel_initializer="ones", dtype=dtype),
    ]
    if watched:
        layers.insert(2, Watch(5, optional, name="watch", dtype=dtype))
    model = keras.Sequential(layers)
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(optimizer, "mse", **compile_args)
    return model


MODES = {
    "tensorflow": [
        {"jit_compile": True},
        {"jit_compile": False},
        {"run_eagerly": True},
        {"jit_compile": False, "steps_per_execution": 2},
    ],
    "jax": [
        {"jit_compile": True},
        {"run_eagerly": True},
        {"jit_compile": True, "steps_per_execution": 2},
    ],
    "torch": [{"jit_compile": False}],
}[BACKEND]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_inside_fit(mode):
    x = normal(20, 5)
    x[:, 4] = 0
    x[:, 3] = np.maximum(x[:, 3], 0)
    x[3] = np.nan
    model = small_model(**mode)
    model.layers[0].trainable = False  # Or the NaN ends up in its weights.
    model.fit(
        x,
        x[:, :1],
        batch_size=8,
        epochs=2,
        verbose=0,
        shuffle=False,
        callbacks=[Reset()],
    )
    (snapshot,) = model.get_layer("watch").statistics.read()
    assert snapshot.count == x.size - 5
    assert_values(snapshot.values(), expected(x))
    np.testing.assert_array_equal(snapshot.histogram, buckets(x[16:]))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_inside_fit_under_mixed_precision(policy):
    x = np.round(normal(16, 5) * 16)  # Exact in half precision.
    model = small_model(dtype=policy, jit_compile=False)
    model.fit(x, x[:, :1], batch_size=8, verbose=0, shuffle=False)
    (snapshot,) = model.get_layer("watch").statistics.read()
    assert_values(snapshot.values(), expected(x))
    np.testing.assert_array_equal(snapshot.histogram, buckets(x[8:]))


def test_training_is_not_changed():
    x = normal(24, 5)
    losses, weights = [], []
    for watched in (True, False):
        model = small_model(watched, learning_rate=0.1, jit_compile=False)
        history = model.fit(
            x, x[:, :1], batch_size=8, epochs=3, verbose=0, shuffle=False
        )
        losses.append(history.history["loss"])
        weights.append(
            [ops.convert_to_numpy(v) for v in model.trainable_variables]
        )
    assert losses[0] == losses[1]
    assert losses[0][0] > losses[0][-1]
    for left, right in zip(*weights, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.skipif(BACKEND != "torch", reason="autograd of torch")
def test_no_autograd_graph_is_kept():
    import torch

    x = ops.convert_to_tensor(CASES["dense"]).requires_grad_()
    statistics = ActivationStatistics([7])
    y = x * 2
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        take_in(statistics, y)
        assert not kept
        ops.square(y)
        assert kept
    for variable in statistics.variables:
        assert variable.value.grad_fn is None
        assert not variable.value.requires_grad
    (snapshot,) = statistics.read()
    assert snapshot.count == x.numel()


@pytest.mark.skipif(BACKEND != "jax", reason="tracers of JAX")
def test_no_tracer_leaks():
    import jax

    with jax.checking_leaks():
        snapshot = watch([CASES["dense"]])
    assert snapshot.count == CASES["dense"].size


def test_local_values_of_a_single_device():
    variable = keras.Variable(np.arange(3, dtype="float32"))
    (value,) = backend.local_values(variable)
    np.testing.assert_array_equal(value, [0, 1, 2])


def test_minimum_of_a_single_device():
    value = ops.convert_to_tensor(-1.0)
    assert backend.replica_min(value) is value


REPLICAS = """
    import json
    import sys

    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, logical)

    import numpy as np

    from keras_actpen.statistics.optional import STATES
    from test_activation_statistics import small_model

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        kinds = list(dict.fromkeys(STATES.values()))
        model = small_model(jit_compile=False, optional=kinds)
    statistics = model.get_layer("watch").statistics
    optional = model.get_layer("watch").optional
    x = np.load(sys.argv[1])

    def result():
        model.fit(x, x[:, :1], batch_size=8, verbose=0, shuffle=False)
        (snapshot,) = statistics.read()
        return [snapshot.values(), snapshot.histogram.tolist(), snapshot.count]

    results = [result()]
    results.append(result())
    statistics.reset()
    (snapshot,) = statistics.read()
    assert np.isnan(list(snapshot.values().values())).all()
    results.append(result())
    values = {}
    for statistic in optional:
        values |= statistic.read()
    values["unit_rms"] = values["unit_rms"].tolist()
    print(json.dumps([results, values]))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_replicas_are_merged(tmp_path):
    # Replicas of unlike range: each batch of 8 is split in rows of 4.
    x = normal(24, 5)
    x[np.arange(24) % 8 < 4] *= 100
    x[:, 4] = 0
    np.save(tmp_path / "x.npy", x)
    tests = SUPPORT
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(REPLICAS),
            str(tmp_path / "x.npy"),
        ],
        env=os.environ | {"PYTHONPATH": f"{tests}:{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    results, optional = json.loads(run.stdout.splitlines()[-1])
    first, second, after_reset = results
    assert first[2] == x.size
    assert second[2] == 2 * x.size
    for values, histogram, count in (first, second, after_reset):
        # As many positions as there were since the reset.
        window = {"dead_window": count / 5}
        assert_values(values, expected(x) | window)
        np.testing.assert_array_equal(histogram, buckets(x[16:]))
    assert after_reset == first
    # The same batches three times over.
    assert_optional(optional, expected_optional(np.concatenate([x] * 3)))
