"""Several devices, or processes, give the numbers of one."""

import json
import os
import socket
import subprocess
import sys

import event_logs
import keras
import numpy as np
import pytest
from paths import SUPPORT

SCRIPT = SUPPORT.joinpath("distributed.py")
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


def finished(*processes):
    """What each of them printed; if one fails none goes on."""
    found = []
    try:
        for process in processes:
            stdout, stderr = process.communicate(timeout=300)
            assert process.returncode == 0, stderr
            found.append(json.loads(stdout.splitlines()[-1]))
    finally:
        for process in processes:
            with process:
                process.kill()
    return found


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    log_dir = tmp_path_factory.mktemp("single")
    (found,) = finished(started("single", log_dir, XLA_FLAGS=DEVICES))
    return {**found, "events": event_logs.read(log_dir)}


def assert_same(found, expected):
    for part in ("history", "evaluated"):
        assert found[part].keys() == expected[part].keys()
        for name, values in expected[part].items():
            np.testing.assert_allclose(
                found[part][name], values, rtol=1e-5, err_msg=name
            )
    assert_same_weights(found, expected)


def assert_same_events(found, expected):
    """Terms, statistics and histograms, with their steps."""
    assert found.keys() == expected.keys()
    for run, tags in expected.items():
        assert found[run].keys() == tags.keys()
        for tag, series in tags.items():
            if series.plugin in (event_logs.SCALARS, event_logs.HISTOGRAMS):
                assert found[run][tag].steps == series.steps
                np.testing.assert_allclose(
                    found[run][tag].values,
                    series.values,
                    rtol=1e-4,
                    atol=1e-5,
                    err_msg=tag,
                )


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


def of(backend):
    return pytest.mark.skipif(BACKEND != backend, reason=f"is of {backend}")


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, id=name, marks=of(backend))
        for how, backend, name in (
            ("mirrored", "tensorflow", "tf.distribute.MirroredStrategy"),
            ("data_parallel", "jax", "keras.distribution.DataParallel"),
            ("model_parallel", "jax", "keras.distribution.ModelParallel"),
        )
    ],
)
def test_devices(how, single, tmp_path):
    (found,) = finished(started(how, tmp_path, XLA_FLAGS=DEVICES))
    assert_same(found, single)
    assert_same_events(event_logs.read(tmp_path), single["events"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@of("tensorflow")
def test_two_workers(single, tmp_path):
    """Of tf.distribute.MultiWorkerMirroredStrategy."""
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
    found = finished(*processes)
    for worker in found:
        np.testing.assert_allclose(
            worker["losses"], single["history"]["loss"], rtol=1e-5
        )
        assert_same_weights(worker, single)
        # Without any penalty too. Once Keras can, `fit` belongs here.
        assert "unsupported type" in worker["fit"]
    assert [worker["chief"] for worker in found] == [True, False]
    assert (tmp_path / "0" / "actpen").is_dir()
    assert not (tmp_path / "1").exists()


def of_processes(count, tmp_path):
    """What each of the processes of torch.distributed found."""
    port = str(free_port())
    processes = [
        started(
            "processes",
            tmp_path,
            RANK=str(rank),
            WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=port,
        )
        for rank in range(count)
    ]
    return finished(*processes)


@of("torch")
def test_two_processes(tmp_path):
    """Of torch.nn.parallel.DistributedDataParallel."""
    (alone,) = of_processes(1, tmp_path)
    found = of_processes(2, tmp_path)
    assert [one["chief"] for one in (alone, *found)] == [True, True, False]
    for one in found:
        np.testing.assert_allclose(one["losses"], alone["losses"], rtol=1e-5)
        assert_same_weights(one, alone)
        terms = one["terms"]
        # Each process sums over half of the batch, and the mean is taken.
        terms["hidden/sum"] *= 2.0
        # The spread of each half is not that of the batch.
        floor = terms.pop("hidden/variance_floor")
        expected = dict(alone["terms"])
        assert abs(floor / expected.pop("hidden/variance_floor") - 1) > 1e-3
        assert terms == pytest.approx(expected, rel=1e-5)
