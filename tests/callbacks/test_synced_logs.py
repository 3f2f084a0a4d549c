"""Weights & Biases and MLflow read the logs, offline, by README's code."""

import json
import os
import subprocess
import sys

import documents
import pytest
from paths import SUPPORT

pytestmark = pytest.mark.one_backend


def synced(tool, directory, **environment):
    """What a tool has after README's code of its row has run."""
    pytest.importorskip(tool)
    header = ("", "the terms only, live", "curves, histograms and images")
    cells = {row[0]: " ".join(row[1:]) for row in documents.table(*header)}
    (cell,) = [cell for name, cell in cells.items() if name.lower() == tool]
    code = [
        span
        for span in documents.spans(cell)
        if span not in ("callbacks", "wandb.init()", "fit")
    ]
    script = SUPPORT.joinpath(f"synced_to_{tool}.py")
    done = subprocess.run(
        [sys.executable, str(script), str(directory), *code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_wandb_reads_curves_histograms_and_images(tmp_path):
    assert {*synced("wandb", tmp_path, WANDB_SILENT="true")} >= {
        "epoch/penalty/dense_4/l2",
        "epoch/val_penalty/dense_4/l2",
        "actpen/train/penalty/dense_4/l2",
        "actpen/train/Overview/task_loss",
        "actpen/train/activation.zero_fraction/dense_4",
        "actpen/train/activation.values/dense_4/bins",
        "actpen/train/actpen/penalty_by_layer/width",
        "actpen/validation/penalty/dense_4/l2",
    }


def test_mlflow_has_the_terms_and_the_files(tmp_path):
    # Its other stores need a database.
    found = synced("mlflow", tmp_path, MLFLOW_ALLOW_FILE_STORE="true")
    history = found["history"]
    terms = {"penalty/dense_4/l2", "val_penalty/dense_4/l2"}
    assert terms <= {*history}
    for name, values in history.items():
        assert found["metrics"][name] == pytest.approx(values[-1], rel=1e-6)
    assert found["files"] == [
        "tensorboard/actpen/hparams",
        "tensorboard/actpen/train",
        "tensorboard/actpen/validation",
    ]
