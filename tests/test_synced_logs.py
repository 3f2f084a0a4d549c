"""Weights & Biases reads the logs, offline, as README says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

SCRIPT = Path(__file__).with_name("synced_to_wandb.py")


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="wandb reads the same files on every backend",
)
def test_wandb_reads_curves_histograms_and_images(tmp_path):
    pytest.importorskip("wandb")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env={**os.environ, "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    keys = set(json.loads(done.stdout.splitlines()[-1]))
    assert keys >= {
        "actpen/train/penalty/dense_4/l2",
        "actpen/train/actpen/task_loss",
        "actpen/train/activation.zero_fraction/dense_4",
        "actpen/train/activation.values/dense_4/bins",
        "actpen/train/actpen/penalty_by_layer/width",
        "actpen/validation/penalty/dense_4/l2",
    }
