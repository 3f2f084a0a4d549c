"""What PenaltyMonitor reports: logs, runs, tags, steps and values."""

import csv
import io

import event_logs
import keras
import numpy as np
import PIL.Image
import pytest
from keras import layers, ops
from models import (
    FEATURES,
    assert_same_arrays,
    data,
    data_for,
    nested,
    sequential,
    shared,
)
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.util import tensor_util

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    penalized_layers,
    penalty_terms,
    watch_activations,
)
from keras_actpen.tensorboard import color_scale, heat_map

BATCH = 4  # of 10 samples: the last batch is ragged
STEPS = 3
KEY = "penalty/dense_4/l2"
STATISTICS = [
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


def compiled(model, learning_rate=0.05, **arguments):
    optimizer = keras.optimizers.SGD(learning_rate)
    # XLA takes seconds to compile on TensorFlow; test_stepping.py has it.
    jit_compile = keras.backend.backend() == "jax"
    model.compile(optimizer, "mse", jit_compile=jit_compile, **arguments)
    return model


def regression(learning_rate=0.05, **penalty):
    """A penalized layer of two terms beside regularized weights."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(
                8,
                activation="relu",
                name="dense_4",
                kernel_regularizer=keras.regularizers.L2(0.1),
            ),
            layers.Dense(2, name="head", bias_regularizer="l1"),
        ],
        name="regression",
    )
    penalty = penalty or {"l1": 0.03, "l2": 0.05}
    model = attach_penalty(model, "dense_4", **penalty)
    model = attach_penalty(model, "head", l2=0.02)
    return compiled(model, learning_rate, metrics=["mae"])


def fit(model, *callbacks, epochs=2, batch_size=BATCH, validate=True, **more):
    x, y = data_for(model)
    if validate:
        more["validation_data"] = tuple(
            keras.tree.map_structure(lambda a: a[:7] + 0.5, part)
            for part in (x, y)
        )
    return model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **more,
    ).history


def batches(x, size=BATCH):
    return [x[start : start + size] for start in range(0, len(x), size)]


def weight_regularization(model):
    """Sum of the losses of `regression`'s weights, in float64."""
    kernel, bias = (
        ops.convert_to_numpy(w).astype("float64")
        for w in (model.layers[0].kernel, model.layers[1].bias)
    )
    return 0.1 * np.sum(kernel**2) + 0.01 * np.sum(np.abs(bias))


def exact_terms(model, x):
    """Terms of `regression` on one batch, in float64."""
    x = x.astype("float64")
    kernel, bias, head, head_bias = (
        w.astype("float64") for w in model.get_weights()
    )
    hidden = np.maximum(x @ kernel + bias, 0)
    outputs = hidden @ head + head_bias
    return {
        "penalty/dense_4/l1": 0.03 * np.abs(hidden).sum() / len(x),
        "penalty/dense_4/l2": 0.05 * np.square(hidden).sum() / len(x),
        "penalty/head/l2": 0.02 * np.square(outputs).sum() / len(x),
    }, outputs


def exact_logs(model, x, y):
    """What one batch adds to the logs, in float64."""
    terms, outputs = exact_terms(model, x)
    task = np.mean((outputs - y) ** 2) + weight_regularization(model)
    return {"loss": task + sum(terms.values()), **terms}


class Replay(keras.callbacks.Callback):
    """Recomputes every batch in float64 before it is trained on."""

    def __init__(self, size=BATCH):
        super().__init__()
        x, y = data()
        self.batches = list(
            zip(batches(x, size), batches(y, size), strict=True)
        )
        self.seen, self.expected, self.epochs = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        x, y = self.batches[batch]
        if batch == 0:
            self.sums, self.samples = {}, 0
        for key, value in exact_logs(self.model, x, y).items():
            self.sums[key] = self.sums.get(key, 0.0) + value * len(x)
        self.samples += len(x)

    def on_train_batch_end(self, batch, logs=None):
        means = {key: s / self.samples for key, s in self.sums.items()}
        self.expected.append(means)
        self.seen.append({key: float(logs[key]) for key in means})

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.expected[-1])


def assert_close(found, expected, rtol=1e-6):
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=rtol, err_msg=key)


def test_terms_are_exact_on_every_batch_and_epoch(tmp_path):
    model = regression()
    replay = Replay()
    history = fit(
        model, PenaltyMonitor(tmp_path, update_freq=1), replay, validate=False
    )
    assert len(replay.seen) == 2 * STEPS
    for seen, expected in zip(replay.seen, replay.expected, strict=True):
        assert_close(seen, expected)
    epochs = {
        key: [expected[key] for expected in replay.epochs]
        for key in replay.epochs[0]
    }
    assert_close({key: history[key] for key in epochs}, epochs)
    train = event_logs.scalars(event_logs.read(tmp_path)["actpen/train"])
    for key in exact_terms(model, data()[0])[0]:
        tag = key.replace("penalty/", "penalty.batch/", 1)
        expected = [one[key] for one in replay.expected]
        np.testing.assert_allclose(train[tag], expected, rtol=1e-6)


@pytest.mark.parametrize("phase", ["train", "validation"])
def test_loss_is_task_loss_plus_terms_plus_other_regularizers(tmp_path, phase):
    """With fixed weights the task loss is known from another model."""
    model = regression(learning_rate=0.0)
    x, y = data()
    if phase == "validation":
        x, y = x[:7] + 0.5, y[:7] + 0.5
    history = fit(model, PenaltyMonitor(tmp_path))
    prefix = "val_" if phase == "validation" else ""
    means = {"loss": 0.0}
    for a, b in zip(batches(x), batches(y), strict=True):
        for key, value in exact_logs(model, a, b).items():
            means[key] = means.get(key, 0.0) + value * len(a) / len(x)
    assert_close(
        {key: history[prefix + key] for key in means},
        {key: [value, value] for key, value in means.items()},
    )
    penalty = sum(v for k, v in means.items() if k != "loss")
    found = event_logs.scalars(event_logs.read(tmp_path)[f"actpen/{phase}"])
    assert_close(
        {tag: v for tag, v in found.items() if tag in OVERVIEW},
        {
            f"{group}/{name}": [value] * 2
            for group in ("Overview", "actpen")
            for name, value in (
                ("penalty_total", penalty),
                ("penalty_share", penalty / means["loss"]),
                ("task_loss", means["loss"] - penalty),
            )
        },
    )


def test_terms_of_train_on_batch_are_the_loss(tmp_path):
    model = regression(learning_rate=0.0)
    for x, y in zip(batches(data()[0]), batches(data()[1]), strict=True):
        exact = exact_logs(model, x, y)
        terms = {f"penalty/{k}": v for k, v in penalty_terms(model, x).items()}
        loss = model.train_on_batch(x, y, return_dict=True)["loss"]
        model.reset_metrics()
        assert_close({"loss": loss, **terms}, exact)


def test_terms_of_a_shared_layer_are_the_sum_of_its_calls():
    model = compiled(attach_penalty(shared(), "dense_4", l2=0.5), 0.0)
    monitor = PenaltyMonitor(None, alerts=())
    history = fit(model, monitor, epochs=1, batch_size=10)
    task = compiled(
        keras.Model(model.inputs, model.outputs, name="task"), 0.0
    ).evaluate(*data(), batch_size=10, verbose=0)
    kernel, bias = (ops.convert_to_numpy(w) for w in model.layers[1].weights)
    first = np.tanh(data()[0] @ kernel + bias)
    second = np.tanh(2 * first @ kernel + bias)
    expected = 0.5 * (np.square(first).sum() + np.square(second).sum()) / 10
    np.testing.assert_allclose(history[KEY], [expected], rtol=1e-6)
    assert task == pytest.approx(history["loss"][0], rel=1e-6)


def expected_tags(spec="activation", path="dense_4", terms=("l1", "l2")):
    """Scalars of one penalized layer in the train run."""
    return {
        *(f"penalty/{path}/{term}" for term in terms),
        *(f"penalty.share/{path}/{term}" for term in terms),
        *(f"penalty.coefficient/{path}/{term}" for term in terms),
        *(f"{spec}.{name}/{path}" for name in STATISTICS),
        f"{spec}.std_band/{path}/lower",
        f"{spec}.std_band/{path}/upper",
    }


OVERVIEW = {
    f"{group}/{name}"
    for group in ("Overview", "actpen")
    for name in ("penalty_total", "penalty_share", "task_loss")
}
METRICS = {"metric/loss", "metric/mae"}
RATE = "metric/learning_rate"
BATCH_TAGS = {
    "penalty.batch/dense_4/l1",
    "penalty.batch/dense_4/l2",
    "penalty.batch/head/l2",
}
LAYER_TAGS = expected_tags() | expected_tags(path="head", terms=["l2"])
HISTOGRAMS = {
    f"{group}/{layer}"
    for group in (
        "activation.values",
        "activation.log10_firing_rate",
        "keras_actpen/values",
    )
    for layer in ("dense_4", "head")
}
TAB = {
    "keras_actpen/units/dense_4",
    "keras_actpen/units/head",
    "keras_actpen/positions",
}
# The outputs of the head are never exactly 0.
FIRING = {"activation.firing_rate/dense_4"}
IMAGES = {"actpen/penalty_by_layer", "actpen/dead_fraction_by_layer"}
ONCE = {"actpen/attached", "custom_scalars__config__", "keras_actpen/model"}
SESSION = {"_hparams_/session_start_info", "_hparams_/session_end_info"}
ROW = {
    "hparams/val_loss",
    "hparams/val_mae",
    "hparams/penalty_total",
    "hparams/zeros dense_4",
    "hparams/zeros head",
}


def is_statistic(tag):
    return (
        tag.startswith(("activation.", "hparams/zeros"))
        or "dead" in tag
        or tag in TAB
    )


@pytest.mark.parametrize(
    ("arguments", "batch_steps", "histogram_steps"),
    [
        ({}, [], [0, 1, 2]),
        ({"update_freq": "batch"}, list(range(1, 10)), [0, 1, 2]),
        ({"update_freq": 2}, [2, 4, 6, 8], [0, 1, 2]),
        ({"histogram_freq": 2}, [], [0, 2]),
        ({"histogram_freq": 0}, [], []),
        ({"statistics_freq": 1}, [], [0, 1, 2]),
        ({"statistics_freq": 0}, [], None),
        ({"images": True}, [], [0, 1, 2]),
        ({"images": True, "histogram_freq": 0}, [], []),
        ({"validation_statistics": True}, [], [0, 1, 2]),
    ],
    ids=str,
)
def test_log_holds_exactly(tmp_path, arguments, batch_steps, histogram_steps):
    model = regression()
    history = fit(
        model, PenaltyMonitor(**{"log_dir": tmp_path, **arguments}), epochs=3
    )
    log = event_logs.read(tmp_path)
    epochs = [0, 1, 2]
    train = dict.fromkeys(OVERVIEW | METRICS | LAYER_TAGS | TAB, epochs)
    train |= {RATE: epochs}
    train |= {tag: [0] for tag in ONCE}
    images = epochs if "images" in arguments else []  # 1, 2 and all
    if images:
        train |= dict.fromkeys(IMAGES, images)
    if batch_steps:
        train |= dict.fromkeys(BATCH_TAGS, batch_steps)
    if histogram_steps:
        train |= dict.fromkeys(HISTOGRAMS, histogram_steps)
        if images:
            train |= dict.fromkeys(FIRING, images)
    row = dict.fromkeys(ROW, epochs)
    if histogram_steps is None:
        train = {t: s for t, s in train.items() if not is_statistic(t)}
        row = {t: s for t, s in row.items() if not is_statistic(t)}
    terms = {key for key in history if key.startswith("penalty/")}
    shares = {key.replace("penalty/", "penalty.share/") for key in terms}
    validation = OVERVIEW | METRICS | terms | shares
    if "validation_statistics" in arguments:
        statistics = {tag for tag in LAYER_TAGS if is_statistic(tag)}
        validation |= statistics | HISTOGRAMS | TAB
    assert {
        run: {tag: series.steps for tag, series in tags.items()}
        for run, tags in log.items()
    } == {
        "actpen/hparams": row | {tag: [0] for tag in SESSION},
        "actpen/train": train,
        "actpen/validation": dict.fromkeys(validation, epochs),
    }
    for tags_of_run in log.values():
        for tag, series in tags_of_run.items():
            shown = tag not in SESSION | {"custom_scalars__config__"}
            assert bool(series.description) == shown, tag
    assert_values_are_those_of_history(log, history)


def assert_values_are_those_of_history(log, history):
    for prefix, run in (("", "actpen/train"), ("val_", "actpen/validation")):
        values = event_logs.scalars(log[run])
        terms = [key for key in values if key.startswith("penalty/")]
        loss = np.asarray(history[f"{prefix}loss"])
        expected = {key: history[prefix + key] for key in terms}
        for key in terms:
            share = key.replace("penalty/", "penalty.share/")
            expected[share] = np.asarray(history[prefix + key]) / loss
        total = np.sum([history[prefix + key] for key in terms], axis=0)
        for group in ("Overview", "actpen"):
            expected[f"{group}/penalty_total"] = total
            expected[f"{group}/penalty_share"] = total / loss
            expected[f"{group}/task_loss"] = loss - total
        expected["metric/loss"] = loss
        expected["metric/mae"] = history[f"{prefix}mae"]
        if not prefix:
            expected["metric/learning_rate"] = [0.05] * len(loss)
            coefficients = (0.03, 0.05, 0.02)
            for key, value in zip(sorted(terms), coefficients, strict=True):
                tag = key.replace("penalty/", "penalty.coefficient/")
                expected[tag] = [value] * len(loss)
        found = {
            tag: value
            for tag, value in values.items()
            if not tag.startswith(("activation.", "penalty.batch"))
        }
        assert set(found) == set(expected)
        for tag, value in expected.items():
            # Stored as float32, exactly.
            assert found[tag] == list(np.float32(value)), tag


def test_layout_and_text_page_name_every_layer_in_model_order(tmp_path):
    model = attach_penalty(nested(), ["head", "encoder/dense_4"], l1=0.1)
    compiled(watch_activations(model, "encoder/code"))
    model = compiled(watch_activations(model, "encoder/code"))
    fit(model, PenaltyMonitor(tmp_path), epochs=1)
    train = event_logs.read(tmp_path)["actpen/train"]
    layout = layout_pb2.Layout()
    layout.ParseFromString(train["custom_scalars__config__"].values[0].item())
    paths = ["encoder/dense_4", "encoder/code", "decoder/head"]
    assert [c.title for c in layout.category] == ["overview", *paths]
    assert list(penalized_layers(model)) == paths
    (page,) = train["actpen/attached"].values
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.item().decode().splitlines()
        if line.startswith("| ")
    ]
    assert [row[:5] for row in rows[1:4]] == [
        ["encoder/dense_4", "Dense", "(None, 6)", "output", "l1"],
        ["encoder/code", "Dense", "(None, 3)", "output", "watched"],
        ["decoder/head", "Dense", "(None, 2)", "output", "l1"],
    ]
    assert len(rows) == 4
    statistics = [
        line.split("**")[1]
        for line in page.item().decode().splitlines()
        if line.startswith("- **")
    ]
    assert statistics == [*STATISTICS, "firing_rate"]


def test_watching_logs_statistics_and_no_term(tmp_path):
    model = compiled(watch_activations(sequential(), "dense_4"))
    history = fit(model, PenaltyMonitor(tmp_path), epochs=2)
    assert set(history) == {"loss", "val_loss"}
    log = event_logs.read(tmp_path)
    tags = expected_tags(terms=()) | {"metric/loss", RATE}
    tags |= {tag for tag in TAB | HISTOGRAMS if not tag.endswith("head")}
    row = {tag for tag in ROW if "mae" not in tag and "head" not in tag}
    assert {run: set(tags) for run, tags in log.items()} == {
        "actpen/train": tags | ONCE,
        "actpen/validation": {"metric/loss"},
        "actpen/hparams": row - {"hparams/penalty_total"} | SESSION,
    }


def test_images_show_all_epochs_and_are_drawn_ever_more_rarely(tmp_path):
    epochs, steps = 6, [0, 1, 3, 5]
    monitor = PenaltyMonitor(tmp_path, images=True)
    history = fit(regression(), monitor, epochs=epochs)
    train = event_logs.read(tmp_path)["actpen/train"]
    for tag in IMAGES | FIRING:
        assert train[tag].steps == steps, tag
    first, second, head = (
        np.array(history[f"penalty/{name}"])
        for name in ("dense_4/l1", "dense_4/l2", "head/l2")
    )
    values = np.stack([first + second, head])
    expected = heat_map.layer_map(
        "Sum of the penalty terms, layers by epochs, log colors.",
        ["dense_4", "head"],
        range(epochs),
        values,
        color_scale.LogColorScale(values),
    )
    *_, png = train["actpen/penalty_by_layer"].values[-1]
    np.testing.assert_array_equal(PIL.Image.open(io.BytesIO(png)), expected)


def test_without_log_dir_only_logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    history = fit(regression(), PenaltyMonitor(None))
    plain = fit(regression())
    terms = {"penalty/dense_4/l1", "penalty/dense_4/l2", "penalty/head/l2"}
    terms |= {f"val_{term}" for term in terms}
    assert set(history) == set(plain) | terms
    assert list(tmp_path.iterdir()) == []


class Seen(keras.callbacks.Callback):
    """Keeps the logs of epochs and of batches."""

    def __init__(self):
        super().__init__()
        self.epochs, self.batches, self.test_batches = [], [], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(set(logs))

    def on_test_batch_end(self, batch, logs=None):
        self.test_batches.append(set(logs))


def test_callbacks_before_and_after_see_the_terms(tmp_path):
    before, after = Seen(), Seen()
    csv_file = tmp_path / "log.csv"
    model = regression()
    history = fit(
        model, before, keras.callbacks.CSVLogger(csv_file),
        PenaltyMonitor(None), after,
    )  # fmt: skip
    assert before.epochs == after.epochs
    assert before.epochs == [
        {key: values[epoch] for key, values in history.items()}
        for epoch in range(2)
    ]
    assert all(KEY in keys for keys in before.batches + before.test_batches)
    with csv_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row[f"val_{KEY}"]) for row in rows] == history[f"val_{KEY}"]


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_callbacks_can_monitor_a_validation_term(tmp_path, first):
    key = f"val_{KEY}"
    stopping = keras.callbacks.EarlyStopping(
        key, min_delta=1e9, patience=2, mode="min"
    )
    reducing = keras.callbacks.ReduceLROnPlateau(
        key, factor=0.5, patience=1, min_delta=1e9, mode="min"
    )
    saving = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5",
        key,
        save_weights_only=True,
        mode="min",
    )
    others = [stopping, reducing, saving]
    monitor = [PenaltyMonitor(None)]
    callbacks = monitor + others if first else others + monitor
    model = regression()
    history = fit(model, *callbacks, epochs=9)
    assert len(history[key]) == stopping.stopped_epoch + 1 == 3
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0125)
    # Weight files written while the monitor ran are the model's own.
    other = regression()
    other.load_weights(tmp_path / "3.weights.h5")
    assert_same_arrays(other.get_weights(), model.get_weights())


def test_evaluate_alone():
    model = regression(learning_rate=0.0)
    x, y = data()
    plain = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    function = model.test_function
    logs = model.evaluate(
        x,
        y,
        batch_size=BATCH,
        verbose=0,
        callbacks=[PenaltyMonitor("never_written")],
        return_dict=True,
    )
    history = fit(model, PenaltyMonitor(None), epochs=1, validate=False)
    terms = {k: v[0] for k, v in history.items() if k.startswith("penalty/")}
    # XLA adds up a loss in another order in a program that returns terms too,
    # on some processors: a float32 differs in its last digit.
    rel = 1e-6 if keras.backend.backend() == "jax" else 0.0
    assert logs == pytest.approx({**plain, **terms}, rel=rel, abs=0.0)
    assert model.test_function is function
    assert (
        model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
        == plain
    )


def test_epochs_without_validation_have_no_validation_points(tmp_path):
    fit(regression(), PenaltyMonitor(tmp_path), epochs=4, validation_freq=2)
    log = event_logs.read(tmp_path)
    assert log["actpen/validation"][KEY].steps == [1, 3]
    assert log["actpen/train"][KEY].steps == [0, 1, 2, 3]


@pytest.mark.parametrize("where", ["logs", None])
def test_early_stopping_by_a_statistic(tmp_path, where):
    """Nothing is learned, so the first epoch is the best."""
    model = compiled(attach_penalty(sequential(), "dense_4", l2=0.01), 0.0)
    key = "activation.l0/dense_4"
    monitor = PenaltyMonitor(
        where and tmp_path,
        statistics_freq=1,
        statistics_in_logs=("l0",),
        alerts=(),
    )
    stopping = keras.callbacks.EarlyStopping(key, mode="min", patience=2)
    history = fit(model, monitor, stopping, epochs=9)
    x, _ = data()
    h = first_layer_values(model.get_layer("dense_4"), x, "output")
    l0 = np.mean(np.sum(h != 0, axis=-1))
    np.testing.assert_allclose(history[key], [l0] * 3, rtol=1e-6)
    if where:
        train = event_logs.read(tmp_path)["actpen/train"]
        np.testing.assert_allclose(train[key].values, [l0] * 3, rtol=1e-6)
        assert f"metric/{key}" not in train


# Statistics


def first_layer_values(layer, x, on):
    """Activations of a Dense of the inputs, as the backend computes them."""
    values = layer.wrapped_layer(x)
    if on == "preactivation":
        values = ops.matmul(x, layer.kernel) + layer.bias
    return ops.convert_to_numpy(values).astype("float64")


def numpy_statistics(values):
    values = values.reshape(-1, values.shape[-1])
    finite = values[np.isfinite(values)]
    return {
        "mean": finite.mean(),
        "std": finite.std(),
        "min": finite.min(),
        "max": finite.max(),
        "rms": np.sqrt(np.mean(finite**2)),
        "zero_fraction": np.mean(finite == 0),
        "l0": np.mean((np.isfinite(values) & (values != 0)).sum(axis=-1)),
        "nonfinite": float(values.size - finite.size),
    }


def numpy_histogram(values):
    values = values[np.isfinite(values) & (values != 0)]
    return tensor_util.make_ndarray(histogram_pb("", values).value[0].tensor)


def assert_statistics(log, tag_path, kind, values, last, every_step=None):
    """Of the instrumented steps; but dead units of all, and both epochs."""
    train = log["actpen/train"]
    every_step = values if every_step is None else every_step
    every_step = every_step.reshape(-1, every_step.shape[-1])
    dead = np.mean((every_step == 0).all(axis=0))
    for name, expected in (
        ("dead_fraction", [dead] * 2),
        ("dead_window", [len(every_step), 2 * len(every_step)]),
    ):
        series = train[f"{kind}.{name}/{tag_path}"]
        np.testing.assert_allclose(series.values, expected, rtol=1e-6)
    for name, expected in numpy_statistics(values).items():
        series = train[f"{kind}.{name}/{tag_path}"]
        assert series.steps == [0, 1]
        np.testing.assert_allclose(
            series.values, [expected] * 2, rtol=3e-6, atol=1e-7, err_msg=name
        )
    mean, std = (
        np.asarray(train[f"{kind}.{name}/{tag_path}"].values)
        for name in ("mean", "std")
    )
    for edge, expected in (("lower", mean - std), ("upper", mean + std)):
        found = train[f"{kind}.std_band/{tag_path}/{edge}"].values
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    histogram = train[f"{kind}.values/{tag_path}"].values[-1]
    np.testing.assert_allclose(histogram, numpy_histogram(last), rtol=1e-6)


@pytest.mark.parametrize(
    ("every", "on"),
    [(1, "output"), (2, "preactivation"), (3, "output"), (50, "output")],
)
def test_statistics_are_those_of_the_instrumented_steps(tmp_path, every, on):
    model = attach_penalty(sequential(), "dense_4", l2=0.01, on=on)
    compiled(model, 0.0)
    x, y = data(samples=27)
    model.fit(
        x,
        y,
        batch_size=4,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[PenaltyMonitor(tmp_path, statistics_freq=every)],
    )
    chosen = batches(x)[::every]
    kind = "activation" if on == "output" else "preactivation"
    layer = model.get_layer("dense_4")
    assert_statistics(
        event_logs.read(tmp_path),
        "dense_4",
        kind,
        first_layer_values(layer, np.concatenate(chosen), on),
        first_layer_values(layer, chosen[-1], on),
        first_layer_values(layer, x, on),
    )


def test_statistics_leave_out_masked_and_count_nonfinite(tmp_path):
    inputs = keras.Input((3, 2))
    masked = layers.Masking()(inputs)
    x = layers.Activation("relu", name="hidden")(masked)
    outputs = layers.Dense(1, name="head")(x)
    model = attach_penalty(keras.Model(inputs, outputs), "hidden", l2=0.0)
    compiled(model, 0.0)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 3, 2)).astype("float32")
    x[1, 2] = x[4, 1:] = 0.0  # masked
    x[0, 0, 0], x[3, 1, 1] = np.nan, np.inf
    seen = np.maximum(x, 0).astype("float64")
    seen = seen[(x != 0).any(axis=-1)]
    model.fit(
        x,
        np.zeros((6, 3, 1)),
        batch_size=6,
        epochs=2,
        verbose=0,
        callbacks=[PenaltyMonitor(tmp_path, alerts=())],
    )
    log = event_logs.read(tmp_path)
    assert_statistics(log, "hidden", "activation", seen, seen)
    assert log["actpen/train"]["activation.nonfinite/hidden"].values[0] == 2


def test_statistics_of_a_shared_layer_hold_all_of_its_calls(tmp_path):
    model = compiled(attach_penalty(shared(), "dense_4", l2=0.01), 0.0)
    fit(model, PenaltyMonitor(tmp_path), validate=False, batch_size=10)
    layer = model.get_layer("dense_4").wrapped_layer
    first = layer(data()[0])
    values = ops.convert_to_numpy(ops.concatenate([first, layer(2 * first)]))
    values = values.astype("float64")
    log = event_logs.read(tmp_path)
    assert_statistics(log, "dense_4", "activation", values, values)


# Errors


def message(argument, expected, received, kind="value"):
    return (
        f"Invalid {kind} received for argument `{argument}`. Expected "
        f"{expected}. Received: {argument}={received}"
    )


UPDATE_FREQ = "'epoch', 'batch' or an integer >= 1"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"update_freq": "epochs"},
            ValueError,
            message("update_freq", UPDATE_FREQ, "'epochs'"),
        ),
        (
            {"update_freq": 0},
            ValueError,
            message("update_freq", UPDATE_FREQ, "0"),
        ),
        (
            {"update_freq": 2.0},
            TypeError,
            message("update_freq", UPDATE_FREQ, "2.0 (of type float)", "type"),
        ),
        (
            {"histogram_freq": -1},
            ValueError,
            message("histogram_freq", "an integer >= 0", "-1"),
        ),
        (
            {"dead_after": 0},
            ValueError,
            message(
                "dead_after",
                "a number of positions from 1 to 1073741824, for example "
                "dead_after=30000 to find rates below 1e-4, or None for "
                "those of the first epoch",
                "0",
            ),
        ),
        (
            {"statistics_in_logs": ("l_0",)},
            ValueError,
            "Invalid value received for argument `statistics_in_logs`. "
            "Expected names out of ('mean', 'std', 'min', 'max', 'rms', "
            "'zero_fraction', 'l0', 'dead_fraction', 'dead_window', "
            "'nonfinite'). Received: 'l_0'. Did you mean 'l0'?",
        ),
        (
            {"statistics_in_logs": ("l0",), "statistics_freq": 0},
            ValueError,
            "Invalid values received for arguments `statistics_in_logs` and "
            "`statistics_freq`. Expected statistics_freq above 0, or no "
            "statistics_in_logs. Received: statistics_in_logs=('l0',), "
            "statistics_freq=0",
        ),
        *(
            (
                {name: value, "statistics_freq": 0},
                ValueError,
                f"Invalid values received for arguments `{name}` and "
                f"`statistics_freq`. Expected statistics_freq above 0, or no "
                f"{name}. Received: {name}={value!r}, statistics_freq=0",
            )
            for name, value in (
                ("statistics", ("kurtosis",)),
                ("validation_statistics", True),
                ("dead_after", 3),
                ("on_dead_units", print),
            )
        ),
        *(
            (
                {name: value, "log_dir": None},
                ValueError,
                f"Invalid values received for arguments `{name}` and "
                f"`log_dir`. Expected a directory as log_dir, or no {name}. "
                f"Received: {name}={value!r}, log_dir=None",
            )
            for name, value in (
                ("images", True),
                ("hparams", {"width": 2}),
                ("update_freq", 10),
            )
        ),
        (
            {"statistics_in_logs": "l0"},
            TypeError,
            message(
                "statistics_in_logs",
                "a sequence of names, for example statistics_in_logs=('mean',)",
                "'l0' (of type str)",
                "type",
            ),
        ),
        (
            {"statistics_freq": True},
            TypeError,
            message(
                "statistics_freq",
                "an integer >= 0",
                "True (of type bool)",
                "type",
            ),
        ),
    ],
    ids=str,
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error) as caught:
        PenaltyMonitor(**{"log_dir": "logs", **arguments})
    assert str(caught.value) == text


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_model_without_penalized_layer(call):
    model = compiled(sequential())
    x, y = data()
    with pytest.raises(ValueError, match="Invalid value") as caught:
        getattr(model, call)(x, y, verbose=0, callbacks=[PenaltyMonitor(None)])
    assert str(caught.value) == (
        "Invalid value received for argument `callbacks`. Expected "
        "PenaltyMonitor only for a model with penalized or watched layers: "
        "call `attach_penalty(model, ...)` or `watch_activations(model, ...)` "
        "first and fit the model that it returns. Received: model "
        "'sequential_model' without any"
    )
    fit(model)


def test_unwritable_log_dir_is_refused_before_the_first_step(tmp_path):
    log_dir = tmp_path / "file"
    log_dir.write_text("not a directory")
    model = regression()
    weights = model.get_weights()
    seen = Seen()
    with pytest.raises(ValueError, match="`log_dir`") as caught:
        fit(model, seen, PenaltyMonitor(log_dir))
    assert str(caught.value) == (
        "Invalid value received for argument `log_dir`. Expected a directory "
        "in which files can be created, for example log_dir='logs', or "
        f"log_dir=None to write no events. Received: a log_dir of which "
        f"{str(log_dir)!r} cannot be written (FileExistsError: [Errno 17] "
        f"File exists: {str(log_dir)!r})"
    )
    assert seen.batches == []
    assert_same_arrays(model.get_weights(), weights)
    assert not hasattr(model.train_function, "session")
    assert set(fit(model)) == {"loss", "mae", "val_loss", "val_mae"}
