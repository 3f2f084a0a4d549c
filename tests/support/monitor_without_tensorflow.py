"""Run in a process of its own where TensorFlow cannot be imported."""

import json
import sys
from pathlib import Path


class NoTensorFlow:
    """Makes TensorFlow look as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_cpu"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NoTensorFlow())

import keras  # noqa: E402
import numpy as np  # noqa: E402
from tensorboard.backend.event_processing import (  # noqa: E402
    event_file_loader,
)
from tensorboard.util import tensor_util  # noqa: E402

from keras_actpen import PenaltyMonitor, attach_penalty  # noqa: E402

log_dir = Path(sys.argv[1])
model = keras.Sequential(
    [keras.Input((4,)), keras.layers.Dense(3, "relu", name="dense_4")]
)
model = attach_penalty(model, "dense_4", l2=0.01)
model.compile("sgd", "mse")
history = model.fit(
    np.ones((6, 4)),
    np.ones((6, 3)),
    epochs=2,
    verbose=0,
    callbacks=[PenaltyMonitor(log_dir)],
).history
(file,) = (log_dir / "actpen" / "train").iterdir()
points = [
    (event.step, tensor_util.make_ndarray(value.tensor).item())
    for event in event_file_loader.EventFileLoader(str(file)).Load()
    for value in event.summary.value
    if value.tag == "penalty/dense_4/l2"
]
loaded = [
    name for name in sys.modules if name.partition(".")[0] == "tensorflow"
]
print(
    json.dumps(
        {
            "steps": [step for step, _ in points],
            "values": [value for _, value in points],
            "history": [
                np.float32(value).item()
                for value in history["penalty/dense_4/l2"]
            ],
            "tensorflow": bool(loaded),
        }
    )
)
