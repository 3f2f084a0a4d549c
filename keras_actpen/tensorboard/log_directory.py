"""Log directories: what may be one, and the names of the runs in it."""

import os
import re
from pathlib import Path
from typing import Any

from keras_actpen.penalties.validation import invalid_type

_RUN = re.compile(r"actpen(?:-(\d+))?")


def check_log_dir(log_dir: Any) -> str:
    """A log directory as a string, as it was passed.

    Raises:
        TypeError: If it is not a path.
        ValueError: If it is not the path of a local directory.
    """
    if not isinstance(log_dir, str | os.PathLike) or not isinstance(
        os.fspath(log_dir), str
    ):
        raise invalid_type(
            "log_dir",
            "a string or a path, for example log_dir='logs', or log_dir=None "
            "to write no events",
            log_dir,
        )
    path = os.fspath(log_dir)
    if "://" in path:
        # os.makedirs would create a local directory named "gs:".
        _refuse(log_dir, "a URL; mount the remote file system instead")
    if not path.strip():
        _refuse(log_dir, "an empty path; log_dir='.' is the current directory")
    if "\0" in path:
        _refuse(log_dir, "a path with a NUL character")
    return path


def absolute(log_dir: str | os.PathLike[str]) -> str:
    """A log directory wherever the process goes, `~` expanded."""
    return os.path.abspath(os.path.expanduser(check_log_dir(log_dir)))


def claim_run(log_dir: str) -> str:
    """Name of a run that no other training has: its directory is made.

    Args:
        log_dir: Log directory; it need not exist.

    Returns:
        `"actpen"`, then `"actpen-2"`, `"actpen-3"`, ...

    Raises:
        ValueError: If the directory cannot be made.
    """
    number = _last_run_number(log_dir)
    try:
        os.makedirs(log_dir, exist_ok=True)
        while True:
            number += 1
            try:
                # Checking first whether it exists would be a race.
                os.mkdir(os.path.join(log_dir, _run_name(number)))
            except FileExistsError:
                continue
            return _run_name(number)
    except OSError as error:
        refuse_unwritable(log_dir, error)


def last_run(log_dir: str | os.PathLike[str]) -> str:
    """Name of the run that a resumed training continues.

    Args:
        log_dir: Log directory; it need not exist.

    Returns:
        The last name that `claim_run` gave and in which something has been
        written, `"actpen"` if there is none.
    """
    return _run_name(max(_last_run_number(log_dir), 1))


def refuse_unwritable(directory: str, error: OSError) -> None:
    """Say that a directory cannot be written.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        "Invalid value received for argument `log_dir`. Expected a directory "
        "in which files can be created, for example log_dir='logs', or "
        "log_dir=None to write no events. Received: a log_dir of which "
        f"{directory!r} cannot be written ({type(error).__name__}: {error})"
    ) from error


def _refuse(log_dir: Any, reason: str) -> None:
    raise ValueError(
        "Invalid value received for argument `log_dir`. Expected a directory "
        "on this machine, for example log_dir='logs', or log_dir=None to "
        f"write no events. Received: log_dir={log_dir!r}, {reason}"
    )


def _run_name(number: int) -> str:
    return "actpen" if number == 1 else f"actpen-{number}"


def _last_run_number(log_dir: str | os.PathLike[str]) -> int:
    """Highest number of a run with event files, 0 if there is none."""
    numbers = [0]
    if os.path.isdir(log_dir):
        for run in Path(log_dir).iterdir():
            match = _RUN.fullmatch(run.name)
            if match and any(run.rglob("*tfevents*")):
                numbers.append(int(match[1] or 1))
    return max(numbers)
