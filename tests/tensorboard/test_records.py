import io

import hypothesis
import pytest
from hypothesis import strategies
from tensorboard.summary.writer.record_writer import RecordWriter

from keras_actpen.tensorboard.records import record

pytestmark = pytest.mark.one_backend


@hypothesis.given(strategies.binary(min_size=4, max_size=1100))
@hypothesis.example(bytes(4))
@hypothesis.example(b"\xff" * 256)
@hypothesis.example(b"\xff" * 257)
def test_tensorboard_writes_the_same_record(content):
    file = io.BytesIO()
    RecordWriter(file).write(content)
    assert record(content) == file.getvalue()
