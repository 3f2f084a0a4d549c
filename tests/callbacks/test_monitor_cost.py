"""What a monitor costs, and what it takes only if it is asked for."""

import io
import threading

import event_logs
import keras
import numpy as np
import PIL.Image
import pytest
from keras import layers, ops
from models import FEATURES, data, sequential
from tensorboard.plugins.custom_scalar import layout_pb2

from keras_actpen import PenaltyMonitor, attach_penalty, backend
from keras_actpen.callbacks import monitored_fit
from keras_actpen.instrumentation.instrumented_steps import StepsWithinOverhead
from keras_actpen.instrumentation.step_recorders import StatisticsRecorder
from keras_actpen.statistics.optional import CURVES, DEFINITIONS, STATES
from keras_actpen.tensorboard import heat_map
from keras_actpen.tensorboard.color_scale import ColorScale

BACKEND = keras.backend.backend()
KEY = "penalty/dense_4/l2"


def penalized(run_eagerly=False, **penalty):
    model = attach_penalty(sequential(), "dense_4", **(penalty or {"l2": 0.01}))
    # XLA takes seconds to compile on TensorFlow.
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        jit_compile=BACKEND == "jax" and not run_eagerly,
        run_eagerly=run_eagerly,
    )
    return model


def fit(model, *callbacks, samples=10, epochs=2):
    x, y = data(samples)
    return model.fit(
        x,
        y,
        batch_size=2,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


# No step waits


class Threads(keras.callbacks.Callback):
    """Sees in which thread Keras waits for the logs of a step."""

    async_safe = True

    def __init__(self):
        super().__init__()
        self.seen = set()

    def on_train_batch_end(self, batch, logs=None):
        self.seen.add(threading.current_thread())


class Waiting(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


@pytest.mark.skipif(
    BACKEND == "tensorflow", reason="Keras always waits on TensorFlow"
)
@pytest.mark.parametrize("update_freq", ["epoch", 2])
def test_keras_does_not_wait_for_the_logs_of_a_step(tmp_path, update_freq):
    threads, waiting = Threads(), Threads()
    model = penalized()
    fit(model, PenaltyMonitor(tmp_path, update_freq=update_freq), threads)
    fit(model, Waiting(), waiting)
    assert threads.seen
    assert threading.current_thread() not in threads.seen
    assert waiting.seen == {threading.current_thread()}


def test_the_device_is_read_at_the_end_of_epochs_alone(tmp_path, monkeypatch):
    if backend.is_on_host():
        pytest.skip("there is no device")
    reads = []
    local_values = backend.local_values

    def counted(variable):
        reads.append(variable)
        return local_values(variable)

    monkeypatch.setattr(backend, "local_values", counted)
    model = penalized()
    counts = []
    for samples in (4, 20):
        reads.clear()
        fit(model, PenaltyMonitor(tmp_path), samples=samples)
        counts.append(len(reads))
    assert counts[0] == counts[1] > 0


# max_overhead


class Simulated(StepsWithinOverhead):
    """Instrumented steps take 3 seconds, plain ones 2, nothing else any."""

    def __init__(self, max_overhead):
        self.now = 0.0
        super().__init__(max_overhead, lambda: self.now)

    def stop(self, what):
        self.now += 3.0 if what == "statistics" else 2.0
        super().stop(what)


@pytest.fixture
def simulated(monkeypatch):
    monkeypatch.setattr(monitored_fit, "StepsWithinOverhead", Simulated)


def test_max_overhead_chooses_the_steps_and_logs_its_cost(
    tmp_path, monkeypatch, simulated
):
    """Eager steps run the Python code that compiled ones are traced from."""
    seen, calls = [], []
    step = -1

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            nonlocal step
            step += 1

    record = StatisticsRecorder.record
    wait_for = backend.wait_for

    def counted(self, *args):
        seen.append(step)
        record(self, *args)

    def waited(tensors):
        calls.append(step)
        wait_for(tensors)

    monkeypatch.setattr(StatisticsRecorder, "record", counted)
    monkeypatch.setattr(backend, "wait_for", waited)
    model = penalized(run_eagerly=True)
    fit(
        model,
        PenaltyMonitor(tmp_path, max_overhead=0.1),
        Steps(),
        samples=40,
        epochs=3,
    )
    # The fifth may come when 5 * 0.5 <= 0.1 * steps: after 25 steps.
    expected = [0, 2, 4, 6, 24, 29, 34, 39, 44, 49, 54, 59]
    assert seen == expected
    timed = {*range(8)} | {s + d for s in expected[4:] for d in (0, 1)}
    # Before and after each timed step.
    assert calls == sorted([s for s in timed if s < 60] * 2)
    train = event_logs.read(tmp_path)["actpen/train"]
    values = event_logs.scalars(train)
    costs = {tag: v for tag, v in values.items() if tag.startswith("monitor/")}
    assert costs == {
        "monitor/overhead": list(np.float32([0.5 * 4 / 20, 0.1, 0.1])),
        "monitor/statistics_freq": [5.0] * 3,
        "monitor/step_ratio": [1.5] * 3,
        "monitor/writing_share": [0.0] * 3,
    }
    for tag in costs:
        assert train[tag].steps == [0, 1, 2]
        assert train[tag].description


def test_an_epoch_without_instrumented_steps_has_no_statistics(
    tmp_path, simulated
):
    monitors = [PenaltyMonitor(tmp_path, max_overhead=0.01, images=True)]
    fit(penalized(), *monitors, samples=16, epochs=3)
    train = event_logs.read(tmp_path)["actpen/train"]
    assert train["activation.mean/dense_4"].steps == [0]
    assert train["keras_actpen/units/dense_4"].steps == [0]
    assert train[KEY].steps == [0, 1, 2]
    assert train["actpen/dead_fraction_by_layer"].steps == [0, 1, 2]


def test_the_clock_is_that_of_the_machine(tmp_path):
    """Without a simulation: the numbers are whatever they are."""
    fit(penalized(), PenaltyMonitor(tmp_path, max_overhead=0.5), samples=24)
    values = event_logs.scalars(event_logs.read(tmp_path)["actpen/train"])
    assert 0 < values["monitor/writing_share"][0] < 1
    assert values["monitor/step_ratio"][0] > 0
    assert values["monitor/statistics_freq"][0] >= 2


def test_max_overhead_instead_of_statistics_freq():
    with pytest.raises(ValueError, match="max_overhead") as caught:
        PenaltyMonitor(None, max_overhead=0.01, statistics_freq=10)
    assert str(caught.value) == (
        "Invalid values received for arguments `max_overhead` and "
        "`statistics_freq`. Expected one of them only: `max_overhead` chooses "
        "the steps by itself. Received: max_overhead=0.01, statistics_freq=10"
    )
    expected = (
        "Expected a share between 0 and 1, for example max_overhead=0.01, or "
        "None. Received: max_overhead="
    )
    for share in (0, 1, -0.1, 2.0):
        with pytest.raises(ValueError, match="max_overhead") as caught:
            PenaltyMonitor(None, max_overhead=share)
        assert str(caught.value) == (
            "Invalid value received for argument `max_overhead`. "
            f"{expected}{share!r}"
        )
    with pytest.raises(TypeError, match="max_overhead") as caught:
        PenaltyMonitor(None, max_overhead="1%")
    assert str(caught.value) == (
        "Invalid type received for argument `max_overhead`. "
        f"{expected}'1%' (of type str)"
    )


# Statistics by name


def watched():
    """A tanh layer, whose input is passed through, and its activations."""
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(
        FEATURES, "tanh", kernel_initializer="identity", name="hidden"
    )(inputs)
    outputs = layers.Dense(2, name="head")(hidden)
    model = attach_penalty(keras.Model(inputs, outputs), "hidden", l2=0.01)
    model.compile(
        keras.optimizers.SGD(0.0), "mse", jit_compile=BACKEND == "jax"
    )
    values = ops.convert_to_numpy(ops.tanh(data(10)[0])).astype("float64")
    return model, values


def test_optional_statistics_are_logged(tmp_path):
    model, values = watched()
    statistics = tuple(STATES)
    fit(
        model,
        PenaltyMonitor(
            tmp_path, statistics=statistics, statistics_freq=1, images=True
        ),
    )
    train = event_logs.read(tmp_path)["actpen/train"]
    centered = values - values.mean()
    eigenvalues = np.linalg.eigvalsh(np.cov(values.T, bias=True))
    sizes = np.abs(values).mean(axis=0)
    expected = {
        "kurtosis": np.mean(centered**4) / np.mean(centered**2) ** 2,
        "stable_rank": eigenvalues.sum() / eigenvalues.max(),
        "participation_ratio": (
            eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
        ),
        "dormant_fraction": np.mean(sizes <= 0.025 * sizes.mean()),
        "saturated_fraction": np.mean(np.abs(values) > 0.9),
    }
    for name, value in expected.items():
        found = train[f"activation.{name}/hidden"]
        assert found.steps == [0, 1]
        np.testing.assert_allclose(
            found.values, [value] * 2, rtol=1e-5, err_msg=name
        )
    median = np.quantile(values, 0.5, method="lower")
    np.testing.assert_allclose(
        train["activation.quantile_50/hidden"].values, [median] * 2, rtol=0.011
    )
    for name, text in DEFINITIONS.items():
        series = train[f"activation.{name}/hidden"]
        assert series.description == text
        is_image = series.plugin == event_logs.IMAGES
        assert is_image == (name == "unit_rms")
    # Units that are never 0 fire all the time.
    assert "activation.firing_rate/hidden" not in train
    layout = layout_pb2.Layout()
    layout.ParseFromString(train["custom_scalars__config__"].values[0].item())
    titles = [chart.title for chart in layout.category[1].chart]
    assert titles[-7:] == [
        f"output: {name.replace('_', ' ')}"
        for name in STATES
        if name != "unit_rms"
    ]
    page = train["actpen/attached"].values[0].item().decode()
    for text in DEFINITIONS.values():
        assert text in page


def test_optional_statistics_are_those_that_were_asked_for(tmp_path):
    """Two monitors of one model, which share what is recorded."""
    model, _ = watched()
    variables = model.get_layer("hidden").variables
    asked = {"a": ("stable_rank",), "b": ("quantiles", "kurtosis"), "c": ()}
    monitors = [
        PenaltyMonitor(tmp_path / name, statistics=statistics)
        for name, statistics in asked.items()
    ]
    for _ in range(2):
        fit(model, *monitors, epochs=1)
    for name, statistics in asked.items():
        log = event_logs.read(tmp_path / name)
        for run in ("actpen/train", "actpen-2/train"):
            curves = {
                tag.removeprefix("activation.").removesuffix("/hidden")
                for tag in log[run]
                if tag.startswith("activation.")
            }
            expected = {c for one in statistics for c in CURVES[one]}
            assert curves & set(DEFINITIONS) == expected
    # The model is left as it was.
    assert model.get_layer("hidden").variables == variables


def test_firing_rates_are_shares_of_positions(tmp_path):
    model = penalized()
    monitor = PenaltyMonitor(tmp_path, statistics_freq=1, images=True)
    fit(model, monitor)
    layer = model.get_layer("dense_4").wrapped_layer
    activations = ops.convert_to_numpy(layer(data(10)[0]))
    rates = (activations != 0).mean(axis=0)
    assert 0 < rates.min() < rates.max()
    train = event_logs.read(tmp_path)["actpen/train"]
    image = train["activation.firing_rate/dense_4"]
    units = train["keras_actpen/units/dense_4"]
    assert image.steps == units.steps == [0, 1]
    *_, png = image.values[-1]
    rows = np.stack([rates] * 2, 1)
    expected = heat_map.unit_map(
        "firing rate: dense_4", 8, [0, 1], rows, ColorScale(rows, 0.0, 1.0)
    )
    found = np.array(PIL.Image.open(io.BytesIO(png)))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(units.values, [rates.astype("float16")] * 2)
    positions = train["keras_actpen/positions"].values
    np.testing.assert_array_equal(positions, [[10.0]] * 2)
