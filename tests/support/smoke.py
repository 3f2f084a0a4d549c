"""Main job of an installed wheel: python smoke.py DIRECTORY_OF_THE_INSTALL."""

import pathlib
import sys
import tempfile

import keras
import numpy as np

import keras_actpen

installed = pathlib.Path(keras_actpen.__file__)
assert installed.is_relative_to(pathlib.Path(sys.argv[1]).resolve()), installed
assert installed.with_name("py.typed").exists()

model = keras.Sequential(
    [keras.Input((4,)), keras.layers.Dense(3, name="hidden")]
)
model.compile("sgd", "mse")
x, y = np.ones((8, 4)), np.ones((8, 3))
plain_loss = model.evaluate(x, y, verbose=0)
model = keras_actpen.attach_penalty(model, "hidden", l2=0.5)
terms = keras_actpen.penalty_terms(model, x)
expected = 0.5 * np.sum(model.predict(x, verbose=0) ** 2) / len(x)
np.testing.assert_allclose(terms["hidden/l2"], expected, rtol=1e-5)
np.testing.assert_allclose(
    model.evaluate(x, y, verbose=0), plain_loss + expected, rtol=1e-5
)
with tempfile.TemporaryDirectory() as log_dir:
    monitor = keras_actpen.PenaltyMonitor(log_dir)
    history = model.fit(x, y, callbacks=[monitor], verbose=0).history
    assert list(pathlib.Path(log_dir).rglob("*tfevents*"))
np.testing.assert_allclose(history["penalty/hidden/l2"], [expected], rtol=1e-5)
print("smoke test passed: keras_actpen", keras_actpen.__version__)
