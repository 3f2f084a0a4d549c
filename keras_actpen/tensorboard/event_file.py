"""Event files on disk: a writer that never stops fit.

TensorBoard's own `EventFileWriter` imports TensorFlow where it is installed,
leaves a torn record behind on a full disk (every reader stops there for good)
and then fails on each later call.
"""

import itertools
import os
import socket
import time
from collections.abc import Iterable

from keras_actpen.tensorboard import events
from keras_actpen.tensorboard.log_directory import refuse_unwritable
from keras_actpen.tensorboard.records import record
from keras_actpen.tensorboard.warn_once import WarnOnce

# Bytes that wait for a disk that cannot be written; later ones are dropped.
CAPACITY = 64 * 2**20
# Those of batches leave the rest to the epochs, which are fewer.
BATCH_CAPACITY = CAPACITY // 2
# What waits no longer than until one of these is reached.
_LIVE_BYTES, _LIVE_SECONDS = 2**20, 1.0

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
        # When it was last tried to write them, and what was left of them.
        self._flushed = time.monotonic()
        self._refused = 0
        # Tags whose description is in the file: readers keep the first, and
        # it is longer than a point of a curve.
        self._described: set[str] = set()

    def open(self) -> None:
        """Create the event file now, to learn whether it can be written.

        Raises:
            ValueError: If it cannot.
        """
        try:
            if not self._is_whole():
                self._create()
        except OSError as error:
            refuse_unwritable(self.directory, error)

    def add(
        self,
        values: Iterable[events.Value],
        step: int,
        wall_time: float | None = None,
    ) -> None:
        """Add one event, in memory.

        Args:
            values: What the functions of `events` return; they may lose
                their descriptions here.
            step: Epoch or batch.
            wall_time: Seconds since 1970. Defaults to now.
        """
        wall_time = time.time() if wall_time is None else wall_time
        self._add(values, step, wall_time, CAPACITY)

    def add_batch(self, values: Iterable[events.Value], step: int) -> None:
        """Add what is known of a batch; it is on disk within a second or so.

        Args:
            values: As in `add`.
            step: Batches trained on so far.
        """
        self._add(values, step, time.time(), BATCH_CAPACITY)
        waited = time.monotonic() - self._flushed
        # What a full disk has refused is tried again by time alone.
        new = len(self._pending) - self._refused
        if new >= _LIVE_BYTES or waited >= _LIVE_SECONDS:
            self.flush()

    def _add(
        self,
        values: Iterable[events.Value],
        step: int,
        wall_time: float,
        capacity: int,
    ) -> None:
        if self._path is None or not os.path.exists(self._path):
            # The next flush begins a new file.
            self._described.clear()
        values = list(values)
        for value in values:
            if value.tag in self._described:
                events.shorten(value)
        added = record(events.event(values, step, wall_time))
        if len(self._pending) + len(added) <= capacity:
            self._pending += added
            self._described.update(value.tag for value in values)
        else:
            self._warn(
                f"dropped from {self.directory}",
                "TensorBoard events are lost: those that wait for "
                f"{self.directory!r} to be writable have filled the "
                f"{capacity // 2**20} MiB that they may take. Training goes "
                "on.",
            )

    def flush(self) -> None:
        """Write what waits; a failure warns once and never raises."""
        self._flushed = time.monotonic()
        if not self._pending:
            return
        try:
            if not self._is_whole():
                self._create()
            self._append(bytes(self._pending))
        except OSError as error:
            self._warn(
                "unwritable",
                "TensorBoard events could not be written to "
                f"{self.directory!r} ({error}). Training goes on. Up to "
                f"{CAPACITY // 2**20} MiB of events wait in memory and are "
                "written as soon as that is possible again.",
            )
        else:
            self._pending.clear()
        self._refused = len(self._pending)

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
            self._append(record(events.header_event(now)))
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


# Windows writes \r\n for \n without it.
_O_BINARY = getattr(os, "O_BINARY", 0)


def _write_all(descriptor: int, data: bytes) -> None:
    # os.write may write less than it is given, a nearly full disk for one.
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
