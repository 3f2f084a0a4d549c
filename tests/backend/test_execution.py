"""Facts of a backend asked for on every backend."""

import contextlib

import keras
import pytest

from keras_actpen import backend
from keras_actpen.backend.execution import is_traced

BACKEND = keras.backend.backend()


def test_what_one_backend_alone_has_is_false_on_the_others():
    assert is_traced() is False
    assert backend.is_hidden_from_tapes() is False
    assert backend.hands_state_through() == (BACKEND == "jax")


@pytest.mark.skipif(BACKEND != "torch", reason="generators of torch")
@pytest.mark.parametrize(("gpu", "devices"), [(None, []), (2, [2])])
def test_random_numbers_are_kept_on_the_current_gpu_alone(
    monkeypatch, gpu, devices
):
    """Without devices torch warns where there are several GPUs."""
    import torch

    asked = []

    @contextlib.contextmanager
    def fork_rng(devices=None):
        asked.append(devices)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: gpu)
    with backend.random_state_kept():
        pass
    assert asked == [devices]
