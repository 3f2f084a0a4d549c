"""Trains under MLflow, and prints the metrics and files that it has.

    python tests/support/synced_to_mlflow.py DIRECTORY CALLBACK AFTER

The last two are README's code: the callback, and what stands after `fit`.
"""

import json
import os
import sys
from pathlib import Path

import mlflow
from models import QUICK, data, sequential

from keras_actpen import PenaltyMonitor, attach_penalty


def main():
    directory, callback, after = sys.argv[1:]
    os.chdir(directory)
    mlflow.set_tracking_uri(Path("runs").absolute().as_uri())
    x, y = data()
    model = attach_penalty(sequential(), "dense_4", l2=0.01)
    model.compile("sgd", "mse", **QUICK)
    names = {"mlflow": mlflow}
    with mlflow.start_run() as run:
        history = model.fit(
            x,
            y,
            validation_data=(x, y),
            epochs=2,
            verbose=0,
            callbacks=[PenaltyMonitor("logs"), eval(callback, names)],
        ).history
        eval(after, names)
    mlflow.flush_async_logging()
    stored = Path("runs", run.info.experiment_id, run.info.run_id, "artifacts")
    metrics = mlflow.get_run(run.info.run_id).data.metrics
    files = sorted(
        str(path.relative_to(stored).parent)
        for path in stored.rglob("*tfevents*")
    )
    found = {"metrics": metrics, "files": files, "history": history}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
