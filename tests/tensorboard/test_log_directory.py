"""Log directories: what may be one, and who has which run in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_actpen import PenaltyMonitor
from keras_actpen.tensorboard import log_directory
from keras_actpen.tensorboard.event_file import EventWriter

pytestmark = pytest.mark.one_backend


def refusal(received, reason):
    return (
        "Invalid value received for argument `log_dir`. Expected a directory "
        "on this machine, for example log_dir='logs', or log_dir=None to "
        f"write no events. Received: log_dir={received!r}, {reason}"
    )


@pytest.mark.parametrize(
    ("log_dir", "reason"),
    [
        ("gs://bucket/logs", "a URL; mount the remote file system instead"),
        ("s3://b", "a URL; mount the remote file system instead"),
        ("", "an empty path; log_dir='.' is the current directory"),
        (" ", "an empty path; log_dir='.' is the current directory"),
        ("a\0b", "a path with a NUL character"),
    ],
)
def test_what_is_no_local_directory_is_refused(log_dir, reason):
    with pytest.raises(ValueError, match="log_dir") as caught:
        PenaltyMonitor(log_dir)
    assert str(caught.value) == refusal(log_dir, reason)


@pytest.mark.parametrize("log_dir", [b"logs", 3, ["logs"]])
def test_what_is_no_path_is_refused(log_dir):
    with pytest.raises(TypeError) as caught:
        PenaltyMonitor(log_dir)
    assert str(caught.value) == (
        "Invalid type received for argument `log_dir`. Expected a string or a "
        "path, for example log_dir='logs', or log_dir=None to write no "
        f"events. Received: log_dir={log_dir!r} (of type "
        f"{type(log_dir).__name__})"
    )


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert log_directory.absolute("~/logs") == str(tmp_path / "logs")
    assert log_directory.absolute("logs") == str(tmp_path / "logs")
    assert log_directory.absolute(Path("logs")) == str(tmp_path / "logs")


def test_runs_are_counted_up(tmp_path):
    logs = str(tmp_path / "logs")
    names = []
    for _ in range(11):
        names.append(log_directory.claim_run(logs))
        EventWriter(os.path.join(logs, names[-1], "train")).open()
        assert log_directory.last_run(logs) == names[-1]
    assert names == ["actpen", *(f"actpen-{n}" for n in range(2, 12))]


def test_a_resumed_training_continues_a_run_with_events(tmp_path):
    assert log_directory.last_run(tmp_path) == "actpen"
    EventWriter(tmp_path / "train").open()
    EventWriter(tmp_path / "actpen-old" / "train").open()
    EventWriter(tmp_path / "my-actpen-7").open()
    assert log_directory.claim_run(str(tmp_path)) == "actpen"
    assert log_directory.last_run(tmp_path) == "actpen"
    EventWriter(tmp_path / "actpen-4" / "validation").open()
    assert log_directory.claim_run(str(tmp_path)) == "actpen-5"
    assert log_directory.last_run(str(tmp_path)) == "actpen-4"


def test_a_claimed_run_is_taken_before_anything_is_written(tmp_path):
    logs = str(tmp_path)
    names = [log_directory.claim_run(logs) for _ in range(3)]
    assert names == ["actpen", "actpen-2", "actpen-3"]


CLAIMS = """
import sys
from keras_actpen.tensorboard.log_directory import claim_run

sys.stdin.readline()
print(*[claim_run(sys.argv[1]) for _ in range(50)])
"""


def test_trainings_started_together_share_no_run(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMS, str(tmp_path / "logs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [n for p in processes for n in p.communicate()[0].split()]
    assert len(set(names)) == len(names) == 100


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(ValueError, match="cannot be written") as caught:
        log_directory.claim_run(str(tmp_path / "logs" / "x"))
    assert isinstance(caught.value.__cause__, NotADirectoryError)
