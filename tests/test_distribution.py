"""Several devices, or processes, give the numbers of one."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).with_name("distributed.py")
BACKEND = keras.backend.backend()
DEVICES = "--xla_force_host_platform_device_count=8"


def started(how, log_dir, **environment):
    return subprocess.Popen(
        [sys.executable, SCRIPT, how, log_dir],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    with process:
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return json.loads(stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    log_dir = tmp_path_factory.mktemp("single")
    return finished(started("single", log_dir, XLA_FLAGS=DEVICES))


def assert_same(found, expected):
    for part in ("history", "evaluated"):
        assert found[part].keys() == expected[part].keys()
        for name, values in expected[part].items():
            np.testing.assert_allclose(
                found[part][name], values, rtol=1e-5, err_msg=name
            )
    assert_same_weights(found, expected)


def assert_same_weights(found, expected):
    for one, other in zip(found["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_every_term_is_logged_and_part_of_the_loss(single):
    evaluated = single["evaluated"]
    terms = {
        name: value
        for name, value in evaluated.items()
        if name.startswith("penalty/")
    }
    assert sorted(terms) == [
        "penalty/hidden/mean",
        "penalty/hidden/sum",
        "penalty/hidden/variance_floor",
        "penalty/target/l1",
        "penalty/target/l2",
    ]
    assert min(terms.values()) > 1e-3
    assert sum(terms.values()) < evaluated["loss"]


KINDS = {
    "tensorflow": ["mirrored"],
    "jax": ["data_parallel", "model_parallel"],
    "torch": [],
}[BACKEND]


@pytest.mark.parametrize("how", KINDS)
def test_devices(how, single, tmp_path):
    found = finished(started(how, tmp_path, XLA_FLAGS=DEVICES))
    assert_same(found, single)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="is about tf.distribute")
def test_two_workers(single, tmp_path):
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    processes = [
        started(
            "workers",
            tmp_path / str(index),
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in range(2)
    ]
    found = [finished(process) for process in processes]
    for worker in found:
        np.testing.assert_allclose(
            worker["losses"], single["history"]["loss"], rtol=1e-5
        )
        assert_same_weights(worker, single)
        # Without any penalty too. Once Keras can, `fit` belongs here.
        assert "unsupported type" in worker["fit"]
    assert [worker["chief"] for worker in found] == [True, False]
    assert not (tmp_path / "1").exists()
