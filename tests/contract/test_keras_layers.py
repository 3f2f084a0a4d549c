"""A slice of Keras's own layer tests; all by `support/keras_layer_tests.py`."""

import re
import subprocess
import sys

import keras
from paths import ROOT, SUPPORT

SLICE = (
    "activations/relu_test.py",
    "core/embedding_test.py",
    "core/masking_test.py",
    "normalization/layer_normalization_test.py",
)
# TensorFlow alone has ragged tensors.
RAGGED = (
    ["core/embedding_test.py::EmbeddingTest::test_ragged"]
    if keras.backend.backend() == "tensorflow"
    else []
)


def test_slice_of_kerass_layer_tests():
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "keras_layer_tests.py"), *SLICE],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    runs = re.search(r"'first runs': (\d+), 'second runs': (\d+)", done.stdout)
    assert runs is not None, done.stdout[-2000:]
    first, second = map(int, runs.groups())
    refused = re.findall(r"refused, .*: (\S+)", done.stdout)
    assert second + len(refused) == first > 5
    # All others have dense outputs of floats.
    assert refused == RAGGED
