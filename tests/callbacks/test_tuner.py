"""Keras Tuner: every trial's curves in a run of its own, one HParams page."""

import copy
import os

import keras
import numpy as np
import pytest

pytest.importorskip("keras_tuner")

import event_logs
import hparams_page
import keras_tuner
from models import QUICK, data, sequential

from keras_actpen import PenaltyMonitor, attach_penalty

# Keras Tuner 1.4 asks for the name of its thread in the old way.
pytestmark = [
    pytest.mark.one_backend,
    *(
        pytest.mark.filterwarnings(f"ignore:{name}.* is deprecated")
        for name in ("currentThread", "getName")
    ),
]

TAG = "penalty/dense_4/l2"
COEFFICIENT = "penalty.coefficient/dense_4/l2"


class Sparse(keras_tuner.HyperModel):
    def build(self, hp):
        model = sequential()
        model.compile(keras.optimizers.SGD(0.05), "mse", **QUICK)
        return attach_penalty(
            model, "dense_4", l2=hp.Float("l2", 1e-5, 1e-1, sampling="log")
        )


def search(tuner, log_dir, statistics_freq=0, **more):
    x, y = data()
    monitor = PenaltyMonitor(
        log_dir, statistics_freq=statistics_freq, alerts=()
    )
    tuner.search(
        x,
        y,
        validation_data=(x, y),
        batch_size=5,
        verbose=0,
        callbacks=[monitor],
        **more,
    )


def curves(log_dir):
    """Steps and coefficients of every run."""
    return {
        os.path.dirname(run): (
            tags[TAG].steps,
            {float(value) for value in tags[COEFFICIENT].values},
        )
        for run, tags in event_logs.read(log_dir).items()
        if COEFFICIENT in tags
    }


def run_names(count):
    return ["actpen", *(f"actpen-{n}" for n in range(2, count + 1))]


def coefficients(tuner):
    return [
        np.float32(trial.hyperparameters.get("l2"))
        for trial in tuner.oracle.trials.values()
    ]


def random_search(tmp_path, **more):
    arguments = {"hypermodel": Sparse(), "max_trials": 3, **more}
    return keras_tuner.RandomSearch(
        objective="val_loss",
        seed=1,
        directory=tmp_path / "tuner",
        project_name="p",
        **arguments,
    )


def test_random_search_fills_one_hparams_page(tmp_path):
    logs = tmp_path / "logs"
    tuner = random_search(tmp_path)
    search(tuner, logs, statistics_freq=1, epochs=2)
    chosen = coefficients(tuner)
    assert len(set(chosen)) == 3
    assert curves(logs) == {
        name: ([0, 1], {coefficient})
        for name, coefficient in zip(run_names(3), chosen, strict=True)
    }
    rows = hparams_page.rows(logs, sort_by="val_loss")
    assert [row["val_loss"] for row in rows] == pytest.approx(
        sorted(trial.score for trial in tuner.oracle.trials.values())
    )
    assert {np.float32(row["dense_4/l2"]) for row in rows} == set(chosen)
    assert all(0 <= row["zeros dense_4"] <= 1 for row in rows)
    assert [row["status"] for row in rows] == ["success"] * 3


class Wide(Sparse):
    def build(self, hp):
        hp.Choice("activation", ["relu", "gelu"])
        hp.Int("units", 8, 64)
        hp.Fixed("layer", "dense_4")
        return super().build(hp)

    def fit(self, hp, model, *args, callbacks, **kwargs):
        for callback in callbacks:
            if isinstance(callback, PenaltyMonitor):
                callback.hparams = hp.values
        return model.fit(*args, callbacks=callbacks, **kwargs)


def test_rows_have_the_other_hyperparameters(tmp_path):
    tuner = random_search(tmp_path, max_trials=2, hypermodel=Wide())
    search(tuner, tmp_path / "logs", epochs=1)
    rows = hparams_page.rows(tmp_path / "logs")
    found = {(r["activation"], r["units"], r["layer"]) for r in rows}
    trials = tuner.oracle.trials.values()
    assert found == {
        (values["activation"], values["units"], "dense_4")
        for values in (trial.hyperparameters.values for trial in trials)
    }
    assert {np.float32(row["dense_4/l2"]) for row in rows} == {
        np.float32(row["l2"]) for row in rows
    }


def test_executions_of_a_trial_are_runs_of_their_own(tmp_path):
    logs = tmp_path / "logs"
    tuner = random_search(tmp_path, max_trials=1, executions_per_trial=2)
    search(tuner, logs, epochs=1)
    (chosen,) = coefficients(tuner)
    assert curves(logs) == {
        name: ([0], {chosen}) for name in ("actpen", "actpen-2")
    }
    assert len(hparams_page.rows(logs)) == 2


def test_a_resumed_search_adds_its_trials(tmp_path):
    logs = tmp_path / "logs"
    search(random_search(tmp_path, max_trials=1), logs, epochs=1)
    tuner = random_search(tmp_path, max_trials=2)
    search(tuner, logs, epochs=1)
    assert curves(logs) == {
        name: ([0], {coefficient})
        for name, coefficient in zip(
            run_names(2), coefficients(tuner), strict=True
        )
    }


def test_hyperband_mixes_no_trials(tmp_path):
    logs = tmp_path / "logs"
    tuner = keras_tuner.Hyperband(
        Sparse(),
        "val_loss",
        max_epochs=2,
        factor=2,
        seed=1,
        directory=tmp_path / "tuner",
        project_name="p",
    )
    search(tuner, logs)
    trials = [
        trial.hyperparameters.values for trial in tuner.oracle.trials.values()
    ]
    # Else no trial has started where another one stopped.
    assert any(values["tuner/initial_epoch"] for values in trials)
    assert curves(logs) == {
        name: (
            list(range(values["tuner/initial_epoch"], values["tuner/epochs"])),
            {np.float32(values["l2"])},
        )
        for name, values in zip(run_names(len(trials)), trials, strict=True)
    }
    assert len(hparams_page.rows(logs)) == len(trials)


def test_a_copy_continues_no_run_but_its_own(tmp_path):
    x, y = data()
    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    model.compile("sgd", "mse", **QUICK)
    model.fit(x, y, callbacks=[PenaltyMonitor(tmp_path)], verbose=0)
    copied = copy.deepcopy(PenaltyMonitor(tmp_path))
    for epoch in (1, 2):
        model.fit(
            x,
            y,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[copied],
            verbose=0,
        )
    steps = {name: steps for name, (steps, _) in curves(tmp_path).items()}
    assert steps == {"actpen": [0], "actpen-2": [1, 2]}
