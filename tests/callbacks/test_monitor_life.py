"""PenaltyMonitor over several fits, beside others, and where there is less."""

import copy
import json
import os
import pickle
import subprocess
import sys

import event_logs
import keras
import numpy as np
import pytest
from models import data, sequential
from paths import SUPPORT

from keras_actpen import PenaltyMonitor, attach_penalty

BACKEND = keras.backend.backend()
KEY = "penalty/dense_4/l2"
BATCH_TAG = "penalty.batch/dense_4/l2"
SCRIPTS = SUPPORT


def penalized(**arguments):
    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    # XLA takes seconds to compile on TensorFlow.
    arguments = {"jit_compile": BACKEND == "jax", **arguments}
    model.compile(keras.optimizers.SGD(0.05), "mse", **arguments)
    return model


def fit(model, *callbacks, epochs=2, **more):
    x, y = data()
    return model.fit(
        x,
        y,
        batch_size=4,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
        **more,
    ).history


def steps(log_dir, tag=KEY):
    """Steps of a tag by run."""
    return {
        run: tags[tag].steps
        for run, tags in event_logs.read(log_dir).items()
        if tag in tags
    }


def values(log_dir, run, tag=KEY):
    return event_logs.scalars(event_logs.read(log_dir)[run])[tag]


def test_each_new_fit_gets_runs_of_its_own(tmp_path):
    model = penalized()
    monitor = PenaltyMonitor(tmp_path, update_freq=1)
    fit(model, monitor)
    fit(model, monitor)
    fit(model, PenaltyMonitor(tmp_path), epochs=1)
    assert steps(tmp_path) == {
        "actpen/train": [0, 1],
        "actpen-2/train": [0, 1],
        "actpen-3/train": [0],
    }
    # Batches are those of the model's life.
    assert steps(tmp_path, BATCH_TAG) == {
        "actpen/train": [1, 2, 3, 4, 5, 6],
        "actpen-2/train": [7, 8, 9, 10, 11, 12],
    }


@pytest.mark.parametrize("same", [True, False], ids=["same", "new"])
def test_initial_epoch_continues_the_curves(tmp_path, same):
    model = penalized()
    monitor = PenaltyMonitor(tmp_path, update_freq=1)
    first = fit(model, monitor)
    if not same:
        monitor = PenaltyMonitor(tmp_path, update_freq=1)
    second = fit(model, monitor, initial_epoch=2, epochs=4)
    assert steps(tmp_path) == {"actpen/train": [0, 1, 2, 3]}
    assert steps(tmp_path, BATCH_TAG) == {"actpen/train": list(range(1, 13))}
    expected = list(np.float32(first[KEY] + second[KEY]))
    assert values(tmp_path, "actpen/train") == expected


def test_a_monitor_continues_its_own_run(tmp_path):
    model = penalized()
    one, other = PenaltyMonitor(tmp_path), PenaltyMonitor(tmp_path)
    fit(model, one, other)
    fit(model, one, other, initial_epoch=2, epochs=3)
    assert steps(tmp_path) == {
        "actpen/train": [0, 1, 2],
        "actpen-2/train": [0, 1, 2],
    }


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 8:
            raise Killed


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_backup_and_restore_continues_the_curves(tmp_path, first):
    def callbacks():
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        monitor = PenaltyMonitor(tmp_path / "logs", update_freq=1)
        return [monitor, backup] if first else [backup, monitor]

    with pytest.raises(Killed):
        fit(penalized(), *callbacks(), Kill(), epochs=4)
    fit(penalized(), *callbacks(), epochs=4)
    assert steps(tmp_path / "logs") == {"actpen/train": [0, 1, 2, 3]}
    # The batches of the epoch in which it was killed count once.
    assert steps(tmp_path / "logs", BATCH_TAG) == {
        "actpen/train": list(range(1, 13))
    }


def test_batches_are_counted_under_gradient_accumulation(tmp_path):
    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    optimizer = keras.optimizers.SGD(0.05, gradient_accumulation_steps=3)
    model.compile(optimizer, "mse", jit_compile=BACKEND == "jax")
    fit(model, PenaltyMonitor(tmp_path, update_freq=1))
    fit(model, PenaltyMonitor(tmp_path, update_freq=1), epochs=1)
    assert steps(tmp_path, BATCH_TAG) == {
        "actpen/train": [1, 2, 3, 4, 5, 6],
        "actpen-2/train": [7, 8, 9],
    }


def test_two_monitors_log_the_same(tmp_path):
    model = penalized()
    x, y = data()
    frequent = PenaltyMonitor(tmp_path / "a", statistics_freq=2, update_freq=1)
    history = fit(
        model,
        PenaltyMonitor(tmp_path / "b", statistics_freq=2),
        frequent,
        PenaltyMonitor(tmp_path / "a", statistics_freq=2),
        validation_data=(x, y),
    )
    one, other = (
        event_logs.read(tmp_path / "a"),
        event_logs.read(tmp_path / "b"),
    )
    assert set(one) == {
        f"{run}{rest}"
        for run in ("actpen", "actpen-2")
        for rest in ("/hparams", "/train", "/validation")
    }
    for phase in ("train", "validation"):
        expected = event_logs.scalars(other[f"actpen/{phase}"])
        second = event_logs.scalars(one[f"actpen-2/{phase}"])
        first = event_logs.scalars(one[f"actpen/{phase}"])
        first.pop(BATCH_TAG, None)
        assert first == second == expected
        prefix = "val_" if phase == "validation" else ""
        assert expected[KEY] == list(np.float32(history[prefix + KEY]))


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="needs keras.callbacks.TensorBoard"
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_beside_the_tensorboard_callback_of_keras(tmp_path, first):
    x, y = data()
    logs = {}
    for name, both in (("alone", False), ("both", True)):
        log_dir = tmp_path / name
        keras.utils.set_random_seed(1)
        others = [keras.callbacks.TensorBoard(log_dir, histogram_freq=1)]
        monitors = [PenaltyMonitor(log_dir)] if both else []
        callbacks = monitors + others if first else others + monitors
        fit(penalized(), *callbacks, epochs=3, validation_data=(x, y))
        logs[name] = {
            run: {tag: series.steps for tag, series in tags.items()}
            for run, tags in event_logs.read(log_dir).items()
        }
    ours = {run for run in logs["both"] if run.startswith("actpen")}
    assert ours == {"actpen/hparams", "actpen/train", "actpen/validation"}
    assert steps(tmp_path / "both") == {
        "actpen/train": [0, 1, 2],
        "actpen/validation": [0, 1, 2],
    }
    theirs = {run: t for run, t in logs["both"].items() if run not in ours}
    # Their tags are all there, and the terms are among their scalars.
    for run, expected in logs["alone"].items():
        for tag, expected_steps in expected.items():
            assert theirs[run][tag] == expected_steps, tag
    if first:
        assert theirs["train"][f"epoch_{KEY}"] == [0, 1, 2]


def test_a_copy_holds_the_arguments_alone(tmp_path):
    monitor = PenaltyMonitor(
        tmp_path,
        update_freq=3,
        histogram_freq=2,
        statistics_freq=7,
        statistics=("kurtosis",),
        alerts={"dead": 0.9},
        on_finding=print,
    )
    arguments = {
        "log_dir": str(tmp_path),
        "update_freq": 3,
        "histogram_freq": 2,
        "statistics_freq": 7,
        "max_overhead": None,
        "statistics": ("kurtosis",),
        "statistics_in_logs": (),
        "validation_statistics": False,
        "images": False,
        "dead_after": None,
        "verbose_terms": False,
        "alerts": {"dead": 0.9},
        "on_finding": print,
        "on_dead_units": None,
        "hparams": {},
    }
    model = penalized()
    for _ in range(2):
        copies = [copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))]
        for one in copies:
            state = dict(one.__getstate__())
            state.pop("params")
            assert state == arguments
            history = fit(model, one)
            assert KEY in history
        fit(model, monitor)


# What needs a process of its own


def run_script(name, *arguments, **environment):
    process = subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.skipif(
    BACKEND == "torch", reason="torch distributes over processes"
)
def test_two_devices_log_what_one_logs(tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    for devices in (1, 2):
        run_script(
            "monitored_devices.py",
            devices,
            tmp_path / str(devices),
            XLA_FLAGS=flags,
        )
    one, two = (event_logs.read(tmp_path / str(n)) for n in (1, 2))
    assert set(one) == set(two)
    for run, tags in one.items():
        assert set(tags) == set(two[run])
        for tag, series in tags.items():
            if series.plugin in (event_logs.SCALARS, event_logs.HISTOGRAMS):
                np.testing.assert_allclose(
                    two[run][tag].values,
                    series.values,
                    rtol=1e-5,
                    atol=1e-6,
                    err_msg=tag,
                )


@pytest.mark.skipif(BACKEND != "jax", reason="is about JAX environments")
def test_without_tensorflow_everything_is_written_and_read(tmp_path):
    found = run_script("monitor_without_tensorflow.py", tmp_path)
    assert found["steps"] == [0, 1]
    assert found["values"] == found["history"]
    assert found["tensorflow"] is False
