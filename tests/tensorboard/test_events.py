import contextlib
import copy
import errno
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path

import keras
import numpy as np
import PIL.Image
import pytest
from tensorboard import data_compat, dataclass_compat
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.histogram import summary_v2 as histogram_oracle
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.image import summary_v2 as image_oracle
from tensorboard.plugins.scalar import summary_v2 as scalar_oracle
from tensorboard.plugins.text import summary_v2 as text_oracle
from tensorboard.util import tensor_util

from keras_actpen.tensorboard import (
    custom_scalars,
    event_file,
    events,
    hparams_row,
)
from keras_actpen.tensorboard.event_file import EventWriter

pytestmark = pytest.mark.one_backend

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
BUCKETS = np.array([[-1.5, 0.1, 3], [0.1, 1 / 3, 0], [1 / 3, 2e9, 2**40]])
# What the rows need to know of a layer.
PENALIZED = types.SimpleNamespace(
    actpen=types.SimpleNamespace(
        terms={"l2": None}, coefficients={"l2": np.float32(0.3)}
    )
)
FULL_DISK = "[Errno 28] No space left on device"


def warning_text(directory, reason=FULL_DISK):
    return (
        f"TensorBoard events could not be written to {str(directory)!r} "
        f"({reason}). Training goes on. Up to 64 MiB of events wait in memory "
        "and are written as soon as that is possible again."
    )


@contextlib.contextmanager
def warns_once(directory, reason=FULL_DISK):
    with pytest.warns(UserWarning, match="could not be written") as caught:
        yield
    assert [str(w.message) for w in caught] == [warning_text(directory, reason)]
    # It points at the line that flushes.
    assert caught[0].filename == __file__


def event_files(directory):
    return sorted(Path(directory).glob("*tfevents*"))


def read(path):
    """(step, tag, value) of every scalar, by TensorBoard's own loader."""
    return [
        (event.step, value.tag, tensor_util.make_ndarray(value.tensor).item())
        for event in event_file_loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def read_steps(directory):
    return [step for path in event_files(directory) for step, *_ in read(path)]


def write_steps(writer, *steps):
    for step in steps:
        writer.add([events.scalar("loss", step / 2)], step)


def migrated(value):
    """What TensorBoard makes of a value when it reads it."""
    event = event_pb2.Event(summary=summary_pb2.Summary(value=[value]))
    event = data_compat.migrate_event(event)
    (event,) = dataclass_compat.migrate_event(event, {})
    return event.summary.value[0]


def every_kind():
    chart = custom_scalars.multiline_chart("penalties", ["penalty/a.b/l2"])
    margin = custom_scalars.margin_chart("range", "mean", "min", "max")
    return [
        events.scalar("penalty/d/l2", 1 / 3, "a *scalar*"),
        events.histogram("activation.values/d", BUCKETS, "a histogram"),
        events.text("actpen/attached", "| a |\n|---|\n| ü |", "a text"),
        events.image("actpen/dead", PIXELS, "an image"),
        custom_scalars.layout_of(
            [("d", [chart, margin]), ("e", [])], unfolded=1
        ),
        events.plugin_tensor(
            "keras_actpen", "keras_actpen/units/d", BUCKETS[0].astype("f2"), "a"
        ),
        events.plugin_tensor("keras_actpen", "keras_actpen/model", "{}", "b"),
        *hparams_row.session_start({"d": PENALIZED}, "trial 7"),
        *hparams_row.session_end(),
    ]


# Values: TensorBoard's own functions are the oracle.


@pytest.mark.parametrize("number", [0, -2.5, 1 / 3, 5e-6, np.float32(7)])
def test_scalar_is_that_of_tensorboard(number):
    oracle = scalar_oracle.scalar_pb("penalty/d/l2", number, "why").value[0]
    value = events.scalar("penalty/d/l2", number, "why")
    assert value == migrated(oracle) == migrated(value)
    assert value.metadata.data_class == summary_pb2.DATA_CLASS_SCALAR


@pytest.mark.parametrize(
    ("number", "stored"),
    [(np.nan, np.nan), (-np.inf, -np.inf), (1e300, np.inf), (1e-300, 0.0)],
)
def test_scalar_outside_float32_is_stored(number, stored):
    tensor = events.scalar("loss", number).tensor
    np.testing.assert_equal(tensor_util.make_ndarray(tensor).item(), stored)


def test_histogram_is_that_of_tensorboard():
    data = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    oracle = histogram_oracle.histogram_pb("h/d", data, 30, "why").value[0]
    buckets = tensor_util.make_ndarray(oracle.tensor)
    assert buckets.dtype == np.float64
    value = events.histogram("h/d", buckets, "why")
    assert value == migrated(oracle) == migrated(value)
    assert value.metadata.data_class == summary_pb2.DATA_CLASS_TENSOR


def test_text_is_that_of_tensorboard():
    oracle = text_oracle.text_pb("t", "# Grüße", "why").value[0]
    value = events.text("t", "# Grüße", "why")
    assert value == migrated(oracle) == migrated(value)


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 300, 3)])
def test_image_shows_the_same_pixels(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    value = events.image("i", pixels)
    assert value.metadata.data_class == summary_pb2.DATA_CLASS_BLOB_SEQUENCE
    width, height, png = value.tensor.string_val
    assert (width, height) == (str(shape[1]).encode(), str(shape[0]).encode())
    with PIL.Image.open(io.BytesIO(png)) as decoded:
        assert decoded.format == "PNG"
        np.testing.assert_array_equal(np.asarray(decoded), pixels)


@pytest.mark.parametrize("data", ["ü", np.arange(6, dtype="f2")])
def test_data_of_a_plugin_keep_their_type(data):
    value = events.plugin_tensor("p", "p/t", data, "why")
    assert value.metadata.plugin_data.plugin_name == "p"
    assert value.metadata.summary_description == "why"
    assert value.metadata.data_class == summary_pb2.DATA_CLASS_TENSOR
    stored = tensor_util.make_ndarray(value.tensor)
    if isinstance(data, str):
        assert stored.item().decode() == data
    else:
        assert stored.dtype == data.dtype
        np.testing.assert_array_equal(stored, data)


def test_image_is_that_of_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        image_oracle.image("i", PIXELS[None], step=0, description="why")
    (path,) = event_files(tmp_path)
    (oracle,) = [
        value
        for event in event_file_loader.EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    value = migrated(events.image("i", PIXELS, "why"))
    assert value.metadata == oracle.metadata
    expected = tensor_util.make_ndarray(oracle.tensor)
    stored = tensor_util.make_ndarray(value.tensor)
    np.testing.assert_array_equal(stored[:2], expected[:2])
    with (
        PIL.Image.open(io.BytesIO(stored[2])) as ours,
        PIL.Image.open(io.BytesIO(expected[2])) as theirs,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_layout_parses_back():
    layout = layout_pb2.Layout.FromString(
        custom_scalars.layout_of(
            [
                (
                    "enc/dense_4",
                    [
                        custom_scalars.multiline_chart(
                            "penalties", ["penalty/enc/dense_4/l2", "a.b"]
                        ),
                        custom_scalars.margin_chart("values", "m", "lo", "up"),
                    ],
                ),
                ("head", []),
            ],
            unfolded=1,
        ).tensor.string_val[0]
    )
    first, second = layout.category
    assert (first.title, first.closed) == ("enc/dense_4", False)
    assert (second.title, second.closed) == ("head", True)
    lines, margin = first.chart
    assert lines.title == "penalties"
    assert list(lines.multiline.tag) == ["penalty/enc/dense_4/l2$", r"a\.b$"]
    (series,) = margin.margin.series
    assert (series.value, series.lower, series.upper) == ("m", "lo", "up")
    assert margin.title == "values"


def test_layout_is_unfolded_unless_told_otherwise():
    value = custom_scalars.layout_of([("a", []), ("b", [])])
    layout = layout_pb2.Layout.FromString(value.tensor.string_val[0])
    assert [category.closed for category in layout.category] == [False, False]


def test_hparams_parse_back():
    *_, start, end = every_kind()
    session = hparams_metadata.parse_session_start_info_plugin_data(
        start.metadata.plugin_data.content
    )
    assert session.group_name == "trial 7"
    assert {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in session.hparams.items()
    } == {"penalty terms": 1.0, "d/l2": 0.3}  # not 0.30000001192092896
    ended = hparams_metadata.parse_session_end_info_plugin_data(
        end.metadata.plugin_data.content
    )
    assert ended.status == api_pb2.STATUS_SUCCESS
    assert ended.end_time_secs >= session.start_time_secs > 0


def test_trial_names_tell_runs_apart(tmp_path, monkeypatch):
    name = hparams_row.trial_name
    names = [
        name(tmp_path / spec / "l2=0.1", run)
        for spec in "ab"
        for run in ("actpen", "actpen-2")
    ]
    assert len(set(names)) == 4
    assert names[1].startswith("l2=0.1/actpen-2 (")
    monkeypatch.chdir(tmp_path)
    assert name("a/l2=0.1", "actpen") == names[0]


# Errors, whole.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: events.histogram("h", np.zeros((4, 2))),
            "Invalid value received for argument `buckets`. Expected an array "
            "of shape (buckets, 3), rows of left edge, right edge and count. "
            "Received: an array of shape (4, 2)",
        ),
        (
            lambda: events.histogram("h", np.array([[0, np.inf, 1]])),
            "Invalid value received for argument `buckets`. Expected finite "
            "edges and counts; count NaN and infinities apart. Received: "
            "buckets=[[0.0, inf, 1.0]]",
        ),
    ],
)
def test_error_says_what_to_write(call, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    assert str(caught.value) == message


# The file.


def test_every_kind_round_trips(tmp_path):
    written = every_kind()
    with_steps = {value.tag: step for step, value in enumerate(written)}
    writer = EventWriter(tmp_path / "run")
    for step, value in enumerate(written):
        writer.add([value], step, wall_time=1000.5 + step)
    writer.add(written[:2], 100)
    writer.close()
    accumulator = EventAccumulator(str(tmp_path / "run")).Reload()
    tags = accumulator.Tags()
    assert set(tags.pop("tensors")) == set(with_steps)
    assert tags == {
        "images": [],
        "audio": [],
        "histograms": [],
        "scalars": [],
        "distributions": [],
        "graph": False,
        "meta_graph": False,
        "run_metadata": [],
    }
    for value in written:
        metadata = accumulator.SummaryMetadata(value.tag)
        assert metadata == value.metadata
        points = accumulator.Tensors(value.tag)
        step = with_steps[value.tag]
        steps = [step, 100] if value in written[:2] else [step]
        assert [point.step for point in points] == steps
        assert points[0].wall_time == 1000.5 + step
        np.testing.assert_array_equal(
            tensor_util.make_ndarray(points[0].tensor_proto),
            tensor_util.make_ndarray(value.tensor),
        )
    assert accumulator.SummaryMetadata("penalty/d/l2").summary_description == (
        "a *scalar*"
    )
    (point, _) = accumulator.Tensors("activation.values/d")
    np.testing.assert_array_equal(
        tensor_util.make_ndarray(point.tensor_proto), BUCKETS
    )


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="Keras loads TensorFlow"
)
@pytest.mark.every_backend
def test_tensorflow_stays_unloaded(tmp_path):
    source = textwrap.dedent(f"""
        import sys
        import numpy as np
        import types
        from keras_actpen.tensorboard import custom_scalars, events, hparams_row
        from keras_actpen.tensorboard.event_file import EventWriter

        chart = custom_scalars.multiline_chart("c", ["t"])
        margin = custom_scalars.margin_chart("m", "t", "u", "v")
        own = types.SimpleNamespace(terms={{"l": 0}}, coefficients={{"l": 1}})
        layer = types.SimpleNamespace(actpen=own)
        writer = EventWriter({str(tmp_path)!r})
        writer.open()
        writer.add([
            events.scalar("s", 1.0),
            events.histogram("h", np.ones((30, 3))),
            events.text("t", "x"),
            events.image("i", np.zeros((2, 2, 3), np.uint8)),
            events.plugin_tensor("p", "p", np.ones(3)),
            custom_scalars.layout_of([("a", [chart, margin])]),
            *hparams_row.session_start({{"d": layer}}, "t"),
            *hparams_row.session_end(),
        ], 0)
        writer.close()
        assert "tensorflow" not in sys.modules
    """)
    subprocess.run([sys.executable, "-c", source], check=True)
    assert len(event_files(tmp_path)) == 1


def test_killed_process_loses_nothing_that_was_flushed(tmp_path):
    source = textwrap.dedent(f"""
        import os
        import signal
        from keras_actpen.tensorboard import events
        from keras_actpen.tensorboard.event_file import EventWriter

        writer = EventWriter({str(tmp_path)!r})
        for step in range(100):
            writer.add([events.scalar("loss", step / 2)], step)
            if step < 99:
                writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    process = subprocess.run([sys.executable, "-c", source])
    assert process.returncode == -signal.SIGKILL
    (path,) = event_files(tmp_path)
    assert read(path) == [(step, "loss", step / 2) for step in range(99)]


def test_nothing_is_written_before_the_first_flush(tmp_path):
    writer = EventWriter(tmp_path / "run")
    writer.flush()
    write_steps(writer, 0)
    assert not (tmp_path / "run").exists()
    writer.open()
    assert read_steps(tmp_path / "run") == []
    writer.flush()
    assert read_steps(tmp_path / "run") == [0]


def test_open_twice_makes_one_file(tmp_path):
    writer = EventWriter(tmp_path)
    writer.open()
    writer.open()
    assert len(event_files(tmp_path)) == 1


def test_files_of_one_second_are_apart_and_in_order(tmp_path):
    writers = [EventWriter(tmp_path) for _ in range(20)]
    for step, writer in enumerate(writers):
        write_steps(writer, step)
        writer.close()
    names = [path.name for path in event_files(tmp_path)]
    assert len(names) == 20
    assert all(name.endswith(".actpen") for name in names)
    assert read_steps(tmp_path) == list(range(20))


def test_a_copy_never_writes_into_the_same_file(tmp_path):
    writer = EventWriter(tmp_path)
    write_steps(writer, 0)
    early = copy.deepcopy(writer)
    writer.flush()
    late = copy.deepcopy(writer)
    for step, each in enumerate([writer, early, late], 1):
        write_steps(each, step)
        each.flush()
    assert [[step for step, *_ in read(p)] for p in event_files(tmp_path)] == [
        [0, 1],
        [0, 2],
        [3],
    ]


def test_events_after_close_go_to_a_new_file(tmp_path):
    writer = EventWriter(tmp_path)
    write_steps(writer, 0)
    writer.close()
    writer.close()
    write_steps(writer, 1)
    writer.close()
    assert [[step for step, *_ in read(p)] for p in event_files(tmp_path)] == [
        [0],
        [1],
    ]


# Disks that fail.


class FullDisk:
    """os.write on a disk with `free` bytes left."""

    def __init__(self, monkeypatch, free):
        self.free = free
        self.write = os.write
        monkeypatch.setattr(event_file.os, "write", self)

    def __call__(self, descriptor, data):
        data = data[: self.free]
        if len(data) == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(descriptor, data)
        self.free -= written
        return written


@pytest.mark.parametrize("free", [0, 1, 8, 13, 60, 70, -1])
def test_full_disk_warns_once_and_loses_nothing(tmp_path, monkeypatch, free):
    writer = EventWriter(tmp_path)
    write_steps(writer, 0)
    writer.flush()
    before = event_files(tmp_path)[0].read_bytes()
    write_steps(writer, 1, 2)
    disk = FullDisk(monkeypatch, free % len(writer._pending))
    with warns_once(tmp_path):
        writer.flush()
    (path,) = event_files(tmp_path)
    assert path.read_bytes() == before
    write_steps(writer, 3)
    disk.free = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.flush()
        disk.free = 10**6
        write_steps(writer, 4)
        writer.flush()
    assert read(path) == [(step, "loss", step / 2) for step in range(5)]


def test_torn_record_that_cannot_be_cut_off_stays_last(tmp_path, monkeypatch):
    writer = EventWriter(tmp_path)
    write_steps(writer, 0)
    writer.flush()

    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk = FullDisk(monkeypatch, 20)
    with monkeypatch.context() as broken:
        broken.setattr(event_file.os, "ftruncate", fail)
        write_steps(writer, 1)
        with pytest.warns(UserWarning, match="Input/output error"):
            writer.flush()
    disk.free = 10**6
    write_steps(writer, 2)
    writer.flush()
    assert [[step for step, *_ in read(p)] for p in event_files(tmp_path)] == [
        [0],
        [1, 2],
    ]


def test_file_size_limit_of_the_system(tmp_path):
    writer = EventWriter(tmp_path)
    write_steps(writer, *range(10))
    writer.flush()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_steps(writer, *range(10, 20))
    (path,) = event_files(tmp_path)
    limit = path.stat().st_size + 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with warns_once(tmp_path, "[Errno 27] File too large"):
            writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_steps(tmp_path) == list(range(10))
    writer.close()
    assert read_steps(tmp_path) == list(range(20))


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "tiny"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not shutil.which("mount") or (
        subprocess.run(["mount", *options], capture_output=True).returncode
    ):
        pytest.skip("no tmpfs can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_really_full_disk(tiny_disk):
    run = tiny_disk / "run"
    writer = EventWriter(run)
    write_steps(writer, 0)
    writer.flush()
    ballast = tiny_disk / "ballast"
    with (
        ballast.open("wb", buffering=0) as file,
        pytest.raises(OSError, match="No space left"),
    ):
        file.writelines([bytes(4096)] * 100)
    # More than the rest of the page that the file already has.
    values = [events.text("t", "x" * 5000)]
    writer.add(values, 1)
    with warns_once(run):
        writer.flush()
    assert read_steps(run) == [0]
    fresh = EventWriter(tiny_disk / "fresh")
    with pytest.raises(ValueError, match="No space left on device"):
        fresh.open()
    assert event_files(tiny_disk / "fresh") == []
    ballast.unlink()
    write_steps(writer, 2)
    writer.flush()
    assert read_steps(run) == [0, 1, 2]


def for_each_step(count, add):
    """Add 50 kB for each step."""
    for step in range(count):
        add([events.text("t", "x" * 50_000)], step)


def test_what_waits_is_capped(tmp_path, monkeypatch):
    writer = EventWriter(tmp_path)
    monkeypatch.setattr(event_file, "CAPACITY", 2**20)
    disk = FullDisk(monkeypatch, 0)
    with pytest.warns(UserWarning, match="are lost") as caught:
        for_each_step(40, writer.add)
    assert [str(w.message) for w in caught] == [
        "TensorBoard events are lost: those that wait for "
        f"{str(tmp_path)!r} to be writable have filled the 1 MiB that they "
        "may take. Training goes on."
    ]
    assert 2**20 - 60_000 < len(writer._pending) <= 2**20
    with pytest.warns(UserWarning, match="Up to 1 MiB of events wait"):
        writer.flush()
    disk.free = 2**30
    writer.flush()
    assert read_steps(tmp_path) == list(range(20))
    writer.add([events.text("t", "y")], 41)
    writer.flush()
    assert read_steps(tmp_path) == [*range(20), 41]


def test_what_waits_of_batches_leaves_room_for_epochs(tmp_path, monkeypatch):
    """An epoch's own points are not what is dropped first."""
    writer = EventWriter(tmp_path)
    monkeypatch.setattr(event_file, "CAPACITY", 2**20)
    monkeypatch.setattr(event_file, "BATCH_CAPACITY", 2**19)
    disk = FullDisk(monkeypatch, 0)
    with pytest.warns(UserWarning, match="are lost|could not be") as caught:
        for_each_step(40, writer.add_batch)
    assert len(caught) <= 2
    for step in range(100, 108):
        writer.add([events.text("e", "x" * 50_000)], step)
    disk.free = 2**30
    writer.flush()
    assert read_steps(tmp_path) == [*range(10), *range(100, 108)]


def test_batches_are_on_disk_within_a_second(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(event_file.time, "monotonic", lambda: now)
    writer = EventWriter(tmp_path)
    value = events.scalar("penalty.batch/d/l2", 1.0)
    for step in range(5):
        writer.add_batch([value], step)
        assert event_files(tmp_path) == []
        now += 0.19
    now += 0.1
    writer.add_batch([value], 5)
    assert read_steps(tmp_path) == [0, 1, 2, 3, 4, 5]
    # Or as soon as there is a MiB.
    for step in range(6, 28):
        writer.add_batch([events.text("t", "x" * 50_000)], step)
    assert read_steps(tmp_path) == list(range(27))


def test_a_full_disk_is_tried_once_a_second(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(event_file.time, "monotonic", lambda: now)
    tried = []
    writer = EventWriter(tmp_path)

    def refuse(*args):
        tried.append(now)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(event_file.EventWriter, "_create", refuse)

    def train():
        nonlocal now
        for step in range(100):
            writer.add_batch([events.text("t", "x" * 100_000)], step)
            now += 0.05

    with pytest.warns(UserWarning, match="could not be written"):
        train()
    # In five seconds, and for each new MiB.
    assert len(tried) <= 5 + 10


def remove_directory(log_dir, path):
    shutil.rmtree(log_dir)


def remove_file(log_dir, path):
    path.unlink()


def empty_file(log_dir, path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [remove_directory, remove_file, empty_file])
def test_removed_file_is_replaced(tmp_path, harm):
    run = tmp_path / "logs" / "actpen" / "train"
    writer = EventWriter(run)
    write_steps(writer, 0)
    writer.flush()
    harm(tmp_path / "logs", event_files(run)[0])
    write_steps(writer, 1)
    writer.flush()
    write_steps(writer, 2)
    writer.flush()
    assert read(event_files(run)[-1]) == [(1, "loss", 0.5), (2, "loss", 1.0)]


def refusal(run, reason):
    return (
        "Invalid value received for argument `log_dir`. Expected a directory "
        "in which files can be created, for example log_dir='logs', or "
        "log_dir=None to write no events. Received: a log_dir of which "
        f"{str(run)!r} cannot be written ({reason})"
    )


def test_log_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "logs").touch()
    run = tmp_path / "logs" / "actpen"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        EventWriter(run).open()
    assert str(caught.value) == refusal(
        run, f"NotADirectoryError: [Errno 20] Not a directory: {str(run)!r}"
    )
    assert isinstance(caught.value.__cause__, NotADirectoryError)


def test_read_only_log_dir_is_refused(tmp_path, monkeypatch):
    # Root may write anywhere, so the system's answer is played.
    def refuse(path, *args):
        raise PermissionError(
            errno.EACCES, os.strerror(errno.EACCES), "the file"
        )

    monkeypatch.setattr(event_file.os, "open", refuse)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        EventWriter(tmp_path).open()
    assert str(caught.value) == refusal(
        tmp_path, "PermissionError: [Errno 13] Permission denied: 'the file'"
    )


def test_a_description_is_written_once_a_file(tmp_path):
    writer = EventWriter(tmp_path)
    writer.open()

    def value():
        return events.scalar("penalty/d/l2", 1.0, "What it is.")

    for step in range(3):
        writer.add([value()], step)
    writer.flush()
    (first,) = tmp_path.iterdir()
    # A new file, because somebody removed the first one.
    written = first.read_bytes()
    first.unlink()
    writer.add([value()], 3)
    writer.flush()
    writer.add([value()], 4)
    writer.close()
    (second,) = tmp_path.iterdir()
    assert second != first
    assert written.count(b"What it is.") == 1
    assert second.read_bytes().count(b"What it is.") == 1
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    metadata = accumulator.SummaryMetadata("penalty/d/l2")
    assert metadata.summary_description == "What it is."
