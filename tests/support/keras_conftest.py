"""What Keras's own tests take from the `conftest` of its repository.

Keras's wheel has the tests and not that module. A plugin of pytest.
"""

import sys

import keras
import pytest

MARKERS = ("requires_trainable_backend", "multi_device", "large")


def pytest_configure(config):
    """Make the markers known, and the module."""
    for name in MARKERS:
        config.addinivalue_line("markers", f"{name}: as Keras means it")
    sys.modules["conftest"] = sys.modules[__name__]


def skip_if_backend(backend, reason):
    """The mark that some of Keras's tests have."""
    return pytest.mark.skipif(keras.backend.backend() == backend, reason=reason)
