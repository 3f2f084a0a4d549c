"""Dead units while a model trains: every step counts."""

import html
import json
import os
import subprocess
import sys
import textwrap

import event_logs
import keras
import numpy as np
import pytest

from keras_actpen import PenaltyMonitor, watch_activations
from keras_actpen.statistics.since_fired import FEWEST_POSITIONS

BACKEND = keras.backend.backend()
UNITS, SAMPLES = 1000, 7168
MODES = {
    "tensorflow": [
        {"jit_compile": False},
        {"jit_compile": True},
        {"jit_compile": False, "steps_per_execution": 4},
    ],
    "jax": [{"jit_compile": True}, {"steps_per_execution": 4}],
    "torch": [{"jit_compile": False}],
}[BACKEND]


def watched(*shape, masked=False, **mode):
    """Inputs passed through a ReLU that is watched."""
    inputs = keras.Input(shape)
    x = keras.layers.Masking()(inputs) if masked else inputs
    x = keras.layers.Activation("relu", name="hidden")(x)
    outputs = keras.layers.Dense(1, kernel_initializer="zeros")(x)
    model = watch_activations(keras.Model(inputs, outputs), "hidden")
    model.compile(keras.optimizers.SGD(0.0), "mse", **mode)
    return model


def rare(samples, units, rates, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((samples, units)) < rates).astype("float32")


def fit(model, x, *callbacks, **arguments):
    arguments = {"batch_size": 128, "shuffle": False, "verbose": 0} | arguments
    y = np.zeros((*x.shape[:-1], 1), "float32")
    model.fit(x, y, callbacks=list(callbacks), **arguments)


def logged(log_dir, run="actpen/train"):
    """Dead share and number of positions by which it judges, by epochs."""
    values = event_logs.scalars(event_logs.read(log_dir)[run])
    return (
        values["activation.dead_fraction/hidden"],
        values["activation.dead_window/hidden"],
    )


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_the_true_share_of_rare_units(tmp_path, mode):
    """Instrumented steps alone, two of 56, would call half of them dead."""
    x = rare(SAMPLES, UNITS, np.logspace(-4, -1, UNITS))
    true = (x == 0).all(axis=0).mean()
    assert 0.05 < true < 0.1
    instrumented = np.concatenate([x[:128], x[50 * 128 : 51 * 128]])
    assert (instrumented == 0).all(axis=0).mean() > 0.4
    fit(watched(UNITS, **mode), x, PenaltyMonitor(tmp_path))
    (share,), (positions,) = logged(tmp_path)
    assert share == pytest.approx(true, abs=0.005)
    assert positions == SAMPLES < FEWEST_POSITIONS


def test_the_window_goes_across_epochs(tmp_path):
    """Units that fire in one sample of each epoch, of 20, the last ragged."""
    x = np.zeros((20, 4), "float32")
    x[:, 0] = x[0, 1] = x[19, 2] = 1.0
    monitor = PenaltyMonitor(tmp_path, dead_after=25)
    model = watched(4, jit_compile=BACKEND == "jax")
    fit(model, x, monitor, batch_size=8, epochs=3)
    shares, positions = logged(tmp_path)
    assert positions == [20.0, 25.0, 25.0]
    # The unit of the first sample fires 20 positions before the end.
    assert shares == [0.25] * 3
    # A new training begins anew.
    x[0, 1] = 0.0
    fit(model, x, monitor, batch_size=8, epochs=2)
    shares, positions = logged(tmp_path, "actpen-2/train")
    assert positions == [20.0, 25.0]
    assert shares == [0.5, 0.5]
    # So does one that is resumed, and it says so.
    fit(model, x, monitor, batch_size=8, initial_epoch=2, epochs=4)
    _, positions = logged(tmp_path, "actpen-2/train")
    assert positions == [20.0, 25.0, 20.0, 25.0]
    page = event_logs.read(tmp_path)["actpen-2/train"]["actpen/attached"]
    assert (
        "it grows from 0 to `dead_after` when a training starts or is resumed"
    ) in html.unescape(page.values[-1].ravel()[0].decode())


def test_masked_positions_do_not_count(tmp_path):
    x = np.ones((6, 5, 3), "float32")
    x[:, :, 1] = 0
    x[:, 2:, :] = 0  # masked
    x[:, 0, 2] = 0
    model = watched(5, 3, masked=True, jit_compile=BACKEND == "jax")
    fit(model, x, PenaltyMonitor(tmp_path), batch_size=4)
    (share,), (positions,) = logged(tmp_path)
    assert share == pytest.approx(1 / 3)
    assert positions == 12.0


def test_two_monitors_judge_by_their_own_windows(tmp_path):
    x = rare(40, 50, 0.02)
    windows = {"a": 10, "b": None}
    monitors = [
        PenaltyMonitor(tmp_path / name, dead_after=dead_after)
        for name, dead_after in windows.items()
    ]
    model = watched(50, jit_compile=BACKEND == "jax")
    fit(model, x, *monitors, batch_size=10)
    last, whole = (x[start:] for start in (30, 0))
    for name, part in (("a", last), ("b", whole)):
        (share,), (positions,) = logged(tmp_path / name)
        assert share == pytest.approx((part == 0).all(axis=0).mean())
        assert positions == len(part)


REPLICAS = """
    import json
    import sys

    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, logical)

    import numpy as np
    from test_dead_units import fit, logged, watched

    from keras_actpen import PenaltyMonitor

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = watched(4, jit_compile=False)
    x = np.load(sys.argv[1])
    fit(
        model,
        x,
        PenaltyMonitor(sys.argv[2], dead_after=16),
        batch_size=8,
        epochs=2,
    )
    print(json.dumps(logged(sys.argv[2])))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_replicas_are_merged(tmp_path):
    """Each batch of 8 is split in rows of 4."""
    x = np.zeros((24, 4), "float32")
    x[:, 0] = 1.0
    x[17, 1] = 1.0  # the last batch, on the first replica alone
    x[6, 2] = 1.0  # the first batch, on the second: 16 positions ago
    np.save(tmp_path / "x.npy", x)
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(REPLICAS),
            str(tmp_path / "x.npy"),
            str(tmp_path / "logs"),
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    shares, positions = json.loads(run.stdout.splitlines()[-1])
    assert positions == [16.0, 16.0]
    assert shares == [0.5, 0.5]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["logs", None])
def test_hook_of_dead_units(tmp_path, mode, where):
    """Each epoch, with the same units that the log counts."""
    model = watched(UNITS, **mode)
    rates = np.where(np.arange(UNITS) % 4 == 0, 0.0, 0.5)
    calls = []
    monitor = PenaltyMonitor(
        where and tmp_path,
        on_dead_units=lambda layer, mask: calls.append((layer, mask)),
    )
    fit(model, rare(512, UNITS, rates), monitor, epochs=2)
    (first, mask), (second, _) = calls
    assert first is second is model.get_layer("hidden")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, rates == 0)
    if where:
        assert logged(tmp_path)[0][-1] == pytest.approx(0.25)


def test_hook_may_revive_units():
    """What it sets is what the next epoch trains with."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, "relu", name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model = watch_activations(model, "hidden")
    model.compile(keras.optimizers.SGD(0.0), "mse", **MODES[0])
    hidden = model.get_layer("hidden")
    kernel = hidden.get_weights()[0]
    hidden.set_weights([abs(kernel), np.array([1, -9, 1, -9, 1, 1.0])])
    dead = []

    def revive(layer, mask):
        dead.append(int(mask.sum()))
        layer.bias.assign(np.where(mask, 1.0, layer.bias))

    monitor = PenaltyMonitor(None, on_dead_units=revive, dead_after=100)
    x = np.random.default_rng(0).random((128, 4)).astype("float32")
    fit(model, x, monitor, epochs=3)
    assert dead == [2, 0, 0]
    assert hidden.get_weights()[1].tolist() == [1.0] * 6


def test_hook_that_is_no_function():
    with pytest.raises(TypeError) as caught:
        PenaltyMonitor(on_dead_units="resample")
    assert str(caught.value) == (
        "Invalid type received for argument `on_dead_units`. Expected a "
        "function f(layer, mask), or None. Received: "
        "on_dead_units='resample' (of type str)"
    )


def test_histogram_of_firing_rates(tmp_path):
    """Rates that are known, in powers of ten; units that are off are not."""
    model = watched(40, **MODES[0])
    x = np.zeros((1000, 40), "float32")
    x[:, :10] = 1.0
    x[::10, 10:20] = 1.0
    x[::100, 20:30] = 1.0
    fit(model, x, PenaltyMonitor(tmp_path), batch_size=1000)
    log = event_logs.read(tmp_path)["actpen/train"]
    series = log["activation.log10_firing_rate/hidden"]
    assert series.plugin == "histograms"
    left, right, counts = series.values[-1].T
    assert (left[0], right[-1]) == pytest.approx((-2.0, 0.0))
    assert counts.sum() == 30
    at = {
        rate: counts[(left <= rate + 1e-9) & (rate - 1e-9 <= right)].sum()
        for rate in (-2.0, -1.0, 0.0)
    }
    assert at == {-2.0: 10, -1.0: 10, 0.0: 10}
