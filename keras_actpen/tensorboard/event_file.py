"""Event files on disk: the names of runs, and a writer that never stops fit.

TensorBoard's own `EventFileWriter` imports TensorFlow where it is installed,
leaves a torn record behind on a full disk (every reader stops there for good)
and then fails on each later call.
"""

import io
import itertools
import os
import re
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from tensorboard.summary.writer.record_writer import RecordWriter

from keras_actpen.tensorboard import events
from keras_actpen.tensorboard.warn_once import WarnOnce

# Bytes that wait for a disk that cannot be written; later ones are dropped.
CAPACITY = 64 * 2**20

_RUN = re.compile(r"actpen(?:-(\d+))?")
# Tells apart the files of writers that start in the same second.
_file_numbers = itertools.count()


class EventWriter:
    """Writes the events of one run.

    Events wait in memory until `flush`. A flush appends all of them or, when
    the disk is full, none: the file is cut back to its last whole record, the
    events wait for the next flush. A file that was removed or changed by
    others is replaced by a new one. The file is closed between flushes, so
    that a writer can be copied, nothing leaks when `fit` is interrupted, and
    file systems that show a file only once it is closed show it.

    Args:
        directory: Directory of the run; made by the first `open` or `flush`.
        warn: What tells of a failure; writers of one training share it.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        warn: WarnOnce | None = None,
    ):
        self.directory: str = os.fspath(directory)
        self._warn = WarnOnce() if warn is None else warn
        self._path: str | None = None
        self._size = 0
        self._pending = bytearray()
        # Tags whose description is in the file: readers keep the first, and
        # it is longer than a point of a curve.
        self._described: set[str] = set()

    def open(self) -> None:
        """Create the event file now, to learn whether it can be written.

        Raises:
            ValueError: If it cannot.
        """
        if "://" in self.directory:
            # os.makedirs would create a local directory named "gs:".
            self._refuse("a URL; mount the remote file system instead")
        try:
            if not self._is_whole():
                self._create()
        except OSError as error:
            self._refuse(f"{type(error).__name__}: {error}", error)

    def add(
        self,
        values: Iterable[events.Value],
        step: int,
        wall_time: float | None = None,
    ) -> None:
        """Add one event, in memory.

        Args:
            values: What the functions of `events` return.
            step: Epoch or batch.
            wall_time: Seconds since 1970. Defaults to now.
        """
        wall_time = time.time() if wall_time is None else wall_time
        if self._path is None or not os.path.exists(self._path):
            # The next flush begins a new file.
            self._described.clear()
        values = [self._described_once(value) for value in values]
        record = _frame(events.event(values, step, wall_time))
        if len(self._pending) + len(record) <= CAPACITY:
            self._pending += record

    def _described_once(self, value: events.Value) -> events.Value:
        """The value, without its description if the file has that."""
        if value.tag not in self._described:
            self._described.add(value.tag)
            return value
        short = events.Value()
        short.CopyFrom(value)
        short.metadata.ClearField("summary_description")
        return short

    def flush(self) -> None:
        """Write what waits; a failure warns once and never raises."""
        if not self._pending:
            return
        try:
            if not self._is_whole():
                self._create()
            self._append(bytes(self._pending))
        except OSError as error:
            self._warn(
                "TensorBoard events could not be written to "
                f"{self.directory!r} ({error}). Training goes on. Up to "
                f"{CAPACITY // 2**20} MiB of events wait in memory and are "
                "written as soon as that is possible again."
            )
        else:
            self._pending.clear()

    def close(self) -> None:
        """Write what waits. The next event goes to a new file."""
        self.flush()
        self._path = None

    def _is_whole(self) -> bool:
        """Whether the file is there and nobody but this writer changed it."""
        if self._path is None:
            return False
        try:
            return os.stat(self._path).st_size == self._size
        except FileNotFoundError:
            return False

    def _create(self) -> None:
        os.makedirs(self.directory, exist_ok=True)
        now = time.time()
        name = (
            f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}."
            f"{os.getpid()}.{next(_file_numbers):04d}.actpen"
        )
        path = os.path.join(self.directory, name)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        self._path, self._size = path, 0
        try:
            self._append(_frame(events.header_event(now)))
        except OSError:
            self._path = None
            os.remove(path)
            raise

    def _append(self, records: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | _O_BINARY)
        try:
            os.lseek(descriptor, self._size, os.SEEK_SET)
            try:
                _write_all(descriptor, records)
            except OSError:
                os.ftruncate(descriptor, self._size)
                raise
        finally:
            os.close(descriptor)
        self._size += len(records)

    def _refuse(self, reason: str, error: OSError | None = None) -> None:
        raise ValueError(
            "Invalid value received for argument `log_dir`. Expected a "
            "directory in which files can be created, for example "
            "log_dir='logs', or log_dir=None to write no events. Received: "
            f"a log_dir whose run {self.directory!r} cannot be written "
            f"({reason})"
        ) from error


def next_run(log_dir: str | os.PathLike[str]) -> str:
    """Name of a run in which nothing has been written.

    Args:
        log_dir: Log directory; it need not exist.

    Returns:
        `"actpen"`, then `"actpen-2"`, `"actpen-3"`, ...
    """
    last = _last_run_number(log_dir)
    return "actpen" if last == 0 else f"actpen-{last + 1}"


def last_run(log_dir: str | os.PathLike[str]) -> str:
    """Name of the run that a resumed training continues.

    Args:
        log_dir: Log directory; it need not exist.

    Returns:
        The last name that `next_run` gave and in which something has been
        written, `"actpen"` if there is none.
    """
    last = _last_run_number(log_dir)
    return "actpen" if last <= 1 else f"actpen-{last}"


def _last_run_number(log_dir: str | os.PathLike[str]) -> int:
    """Highest number of a run with event files, 0 if there is none."""
    numbers = [0]
    if os.path.isdir(log_dir):
        for run in Path(log_dir).iterdir():
            match = _RUN.fullmatch(run.name)
            if match and any(run.rglob("*tfevents*")):
                numbers.append(int(match[1] or 1))
    return max(numbers)


# Windows writes \r\n for \n without it.
_O_BINARY = getattr(os, "O_BINARY", 0)


def _write_all(descriptor: int, data: bytes) -> None:
    # os.write may write less than it is given, a nearly full disk for one.
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def _frame(content: bytes) -> bytes:
    """One record: length, content, and the checksums of both."""
    file = io.BytesIO()
    RecordWriter(file).write(content)
    return file.getvalue()
