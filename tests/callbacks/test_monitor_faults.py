"""What happens to the log, and to the training, when something fails."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import event_logs
import keras
import pytest
from keras import layers
from models import FEATURES, data
from paths import SUPPORT

from keras_actpen import PenaltyMonitor, attach_penalty
from keras_actpen.tensorboard import event_file, images

BACKEND = keras.backend.backend()
KEY = "penalty/dense_4/l2"


class Stopping(layers.Layer):
    """Passes its inputs through; while `now` is set it stops as Ctrl-C."""

    now = False

    def call(self, x):
        if self.now:
            raise KeyboardInterrupt
        return x


class CtrlC(keras.callbacks.Callback):
    """Ctrl-C while a step runs."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.epoch, self.batch = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.current = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.current, batch) == (self.epoch, self.batch):
            self.model.get_layer("stopping").now = True


def penalized(run_eagerly=False):
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(8, activation="relu", name="dense_4"),
            Stopping(name="stopping"),
            layers.Dense(2, name="head"),
        ]
    )
    model = attach_penalty(model, "dense_4", l2=0.01)
    # XLA takes seconds to compile on TensorFlow.
    model.compile(
        keras.optimizers.SGD(0.05),
        "mse",
        jit_compile=BACKEND == "jax" and not run_eagerly,
        run_eagerly=run_eagerly,
    )
    return model


def fit(model, *callbacks, epochs=5):
    x, y = data()
    return model.fit(
        x,
        y,
        validation_data=(x, y),
        batch_size=5,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    ).history


class Harm(keras.callbacks.Callback):
    """Does something at the end of an epoch, something else of another."""

    def __init__(self, **at):
        super().__init__()
        self.at = at

    def on_epoch_end(self, epoch, logs=None):
        self.at.get(f"epoch_{epoch}", lambda: None)()


def told(model, *callbacks):
    """Messages of the warnings in a training, and its history."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(model, *callbacks)
    ours = [str(w.message) for w in caught if "TensorBoard" in str(w.message)]
    return ours, history


def steps(log_dir):
    log = event_logs.read(log_dir)
    return {
        run: log[f"actpen/{run}"][KEY].steps
        for run in ("train", "validation")
        if KEY in log.get(f"actpen/{run}", {})
    }


def test_a_log_dir_that_is_removed_is_made_again(tmp_path):
    log_dir = tmp_path / "logs"
    harm = Harm(epoch_2=lambda: shutil.rmtree(log_dir))
    messages, history = told(penalized(), PenaltyMonitor(log_dir), harm)
    assert messages == []
    assert len(history[KEY]) == 5
    assert steps(log_dir) == {"train": [3, 4], "validation": [3, 4]}


def test_a_log_dir_that_nobody_can_write_is_written_later(tmp_path):
    """A file in its place: not even root can write below it."""
    log_dir, kept = tmp_path / "logs", tmp_path / "kept"

    def block():
        log_dir.rename(kept)
        log_dir.write_text("not a directory")

    def unblock():
        log_dir.unlink()
        kept.rename(log_dir)

    harm = Harm(epoch_1=block, epoch_3=unblock)
    messages, history = told(penalized(), PenaltyMonitor(log_dir), harm)
    run = str(log_dir / "actpen" / "train")
    assert len(messages) == 1
    assert messages[0].startswith(
        f"TensorBoard events could not be written to {run!r} ([Errno "
    )
    assert messages[0].endswith(
        "). Training goes on. Up to 64 MiB of events wait in memory and are "
        "written as soon as that is possible again."
    )
    assert len(history[KEY]) == 5
    # Nothing is lost.
    everything = list(range(5))
    assert steps(log_dir) == {"train": everything, "validation": everything}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_for_a_while_loses_nothing(
    tmp_path, monkeypatch, number
):
    """A full disk, one that has become read-only."""
    write = os.write

    def refuse():
        def refused(descriptor, content):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(event_file.os, "write", refused)

    harm = Harm(
        epoch_1=refuse,
        epoch_3=lambda: monkeypatch.setattr(event_file.os, "write", write),
    )
    messages, history = told(penalized(), PenaltyMonitor(tmp_path), harm)
    assert len(messages) == 1
    assert os.strerror(number) in messages[0]
    assert len(history[KEY]) == 5
    everything = list(range(5))
    assert steps(tmp_path) == {"train": everything, "validation": everything}


def test_any_other_failure_warns_once_and_training_goes_on(
    tmp_path, monkeypatch
):
    layer_map = images.layer_map

    def fail(*args, **kwargs):
        raise RuntimeError("no font")

    monkeypatch.setattr(images, "layer_map", fail)
    harm = Harm(
        epoch_3=lambda: monkeypatch.setattr(images, "layer_map", layer_map)
    )
    monitor = PenaltyMonitor(tmp_path, images=True)
    messages, history = told(penalized(), monitor, harm)
    assert messages == [
        "TensorBoard events could not be written (RuntimeError: no font). "
        "Training goes on, and later events are written if possible."
    ]
    assert len(history[KEY]) == 5
    assert steps(tmp_path)["train"] == list(range(5))
    train = event_logs.read(tmp_path)["actpen/train"]
    assert train["actpen/penalty_by_layer"].steps == [4]


KILLED = """
    import os
    import signal
    import sys

    import keras
    from test_monitor_faults import PenaltyMonitor, fit, penalized

    class Kill(keras.callbacks.Callback):
        batches = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.batches += 1
            if self.batches == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)

    monitor = PenaltyMonitor(sys.argv[1], update_freq=1)
    fit(penalized(), monitor, Kill())
"""


@pytest.mark.skipif(os.name == "nt", reason="has no SIGKILL")
def test_a_killed_process_leaves_whole_epochs(tmp_path):
    tests = SUPPORT
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), tmp_path, "6"],
        env={**os.environ, "PYTHONPATH": f"{tests}:{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    # Two batches an epoch: it was killed in the third epoch.
    assert steps(tmp_path) == {"train": [0, 1], "validation": [0, 1]}
    train = event_logs.read(tmp_path)["actpen/train"]
    assert train["penalty.batch/dense_4/l2"].steps == [1, 2, 3, 4]
    assert train["activation.values/dense_4"].steps == [0, 1]
    assert train["keras_actpen/units/dense_4"].steps == [0, 1]


KILLED_AT_RANDOM = """
    import os
    import random
    import signal
    import sys
    import threading

    import keras
    from test_monitor_faults import PenaltyMonitor, fit, penalized

    class KillLater(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print(epoch, flush=True)
            if epoch == 0:
                end = [os.getpid(), signal.SIGKILL]
                threading.Timer(random.uniform(0, 0.5), os.kill, end).start()

    monitor = PenaltyMonitor(sys.argv[1], alerts=())
    fit(penalized(), monitor, KillLater(), epochs=10**6)
"""


@pytest.mark.skipif(os.name == "nt", reason="has no SIGKILL")
def test_a_process_killed_at_random_leaves_every_finished_epoch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_AT_RANDOM), tmp_path],
        env={**os.environ, "PYTHONPATH": f"{SUPPORT}:{Path(__file__).parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    finished = [*map(int, done.stdout.split())]
    written = steps(tmp_path)
    assert set(written) == {"train", "validation"}
    for found in written.values():
        # It may have been killed between writing an epoch and saying so.
        assert found in (finished, [*finished, len(finished)])


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (0, 1), (1, 0)])
def test_ctrl_c_in_a_step_leaves_the_model_its_own_functions(
    tmp_path, epoch, batch
):
    model = penalized(run_eagerly=True)
    with pytest.raises(KeyboardInterrupt):
        fit(model, PenaltyMonitor(tmp_path), CtrlC(epoch, batch))
    model.get_layer("stopping").now = False
    assert not hasattr(model.train_function, "session")
    assert not hasattr(model.test_function, "session")
    whole = {"train": [0], "validation": [0]}
    assert steps(tmp_path) == (whole if epoch else {})
    x, y = data()
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss"}
    assert set(fit(model, epochs=1)) == {"loss", "val_loss"}
    history = fit(model, PenaltyMonitor(tmp_path), epochs=2)
    assert set(history) == {"loss", "val_loss", KEY, f"val_{KEY}"}
    assert not hasattr(model.train_function, "session")
