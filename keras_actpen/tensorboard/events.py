"""What is shown: points, histograms, texts, images as TensorBoard's protos.

This module and `dashboards` are the only ones that know the protos. Every
function is pure. Neither Keras nor TensorFlow is imported; TensorBoard's own
`histogram.summary.pb` imports TensorFlow where it is installed, so it is not
used.
"""

import functools
import io
import math
from collections.abc import Iterable

import numpy as np
import PIL.Image

# Whole modules: a name taken from an untyped one is unknown to type checkers.
import tensorboard.compat.proto.summary_pb2 as summary_pb2
import tensorboard.compat.proto.tensor_pb2 as tensor_pb2
import tensorboard.compat.proto.tensor_shape_pb2 as tensor_shape_pb2
import tensorboard.compat.proto.types_pb2 as types_pb2
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub import dtypes
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from keras_actpen.tensorboard.records import in_utf8

Value = summary_pb2.Summary.Value

# The largest float32.
_LARGEST = float(np.finfo(np.float32).max)


def scalar(tag: str, value: float, description: str = "") -> Value:
    """One point of a curve.

    Args:
        tag: Tag of the curve; what stands before its first `/` is its group.
        value: Any real number, NaN and infinities too; stored as float32.
        description: Markdown, shown beside the chart.

    Returns:
        A `Summary.Value` of TensorBoard's `scalars` plugin.
    """
    if abs(value) > _LARGEST:
        value = math.copysign(math.inf, value)
    # An epoch has dozens of points: not by make_tensor_proto, which takes
    # several times as long.
    tensor = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_FLOAT,
        tensor_shape=_shape_proto(()),
        float_val=[value],
    )
    return Value(
        tag=in_utf8(tag), metadata=_scalar_metadata(description), tensor=tensor
    )


@functools.cache
def _scalar_metadata(description: str) -> summary_pb2.SummaryMetadata:
    """What says that a value is a point of a curve."""
    metadata = scalar_metadata.create_summary_metadata(None, description)
    metadata.data_class = summary_pb2.DATA_CLASS_SCALAR
    return metadata


def histogram(tag: str, buckets: np.ndarray, description: str = "") -> Value:
    """A histogram whose buckets are already counted.

    Args:
        tag: Tag of the histogram.
        buckets: Array of shape `(buckets, 3)`, rows of left edge, right edge
            and count in ascending order; stored as float64.
        description: Markdown, shown beside the chart.

    Returns:
        A `Summary.Value` of TensorBoard's `histograms` plugin.

    Raises:
        ValueError: If `buckets` has another shape or holds NaN or infinity,
            which TensorBoard's pages cannot draw.
    """
    buckets = np.asarray(buckets, dtype=np.float64)
    if buckets.ndim != 2 or buckets.shape[1] != 3:
        raise ValueError(
            "Invalid value received for argument `buckets`. Expected an "
            "array of shape (buckets, 3), rows of left edge, right edge and "
            f"count. Received: an array of shape {buckets.shape}"
        )
    if not np.isfinite(buckets).all():
        raise ValueError(
            "Invalid value received for argument `buckets`. Expected finite "
            "edges and counts; count NaN and infinities apart. Received: "
            f"buckets={buckets.tolist()}"
        )
    metadata = _histogram_metadata(description)
    return Value(
        tag=in_utf8(tag), metadata=metadata, tensor=_numeric_tensor(buckets)
    )


@functools.cache
def _histogram_metadata(description: str) -> summary_pb2.SummaryMetadata:
    """What says that a value is a histogram."""
    metadata = histogram_metadata.create_summary_metadata(None, description)
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return metadata


def text(tag: str, markdown: str, description: str = "") -> Value:
    """A text in Markdown.

    Args:
        tag: Tag of the text.
        markdown: The text; TensorBoard renders tables too.
        description: Markdown that says what the text is.

    Returns:
        A `Summary.Value` of TensorBoard's `text` plugin.
    """
    metadata = text_metadata.create_summary_metadata(None, description)
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    return Value(
        tag=in_utf8(tag),
        metadata=metadata,
        tensor=string_tensor(in_utf8(markdown)),
    )


def image(tag: str, pixels: np.ndarray, description: str = "") -> Value:
    """One image.

    Args:
        tag: Tag of the image.
        pixels: A uint8 array of shape `(height, width, 3)`.
        description: Markdown, shown beside the image.

    Returns:
        A `Summary.Value` of TensorBoard's `images` plugin.
    """
    height, width, _ = pixels.shape
    content = io.BytesIO()
    # The fastest level: less than half the time of the default one for our
    # own images, which are a fifth larger.
    PIL.Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    metadata = image_metadata.create_summary_metadata(None, description)
    metadata.data_class = summary_pb2.DATA_CLASS_BLOB_SEQUENCE
    tensor = string_tensor([str(width), str(height), content.getvalue()])
    return Value(tag=in_utf8(tag), metadata=metadata, tensor=tensor)


def plugin_tensor(
    plugin: str, tag: str, data: np.ndarray | str, description: str = ""
) -> Value:
    """An array or a text for a custom TensorBoard plugin.

    Args:
        plugin: Name of the plugin.
        tag: Tag of the data.
        data: An array, stored with its dtype, or a text.
        description: Markdown that says what it is.

    Returns:
        A `Summary.Value` of that plugin.
    """
    metadata = _plugin_metadata(plugin, description)
    is_text = isinstance(data, str)
    tensor = string_tensor(data) if is_text else _numeric_tensor(data)
    return Value(tag=in_utf8(tag), metadata=metadata, tensor=tensor)


@functools.cache
def _plugin_metadata(
    plugin: str, description: str
) -> summary_pb2.SummaryMetadata:
    """What says that a value is a custom plugin's."""
    return summary_pb2.SummaryMetadata(
        summary_description=description,
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    )


def shorten(value: Value) -> None:
    """Leave out what readers keep from the first value of a tag in a file.

    That is all metadata of a point of a curve, which are many. Other kinds
    keep their plugin's name: not all readers remember it.
    """
    if value.metadata.data_class == summary_pb2.DATA_CLASS_SCALAR:
        value.ClearField("metadata")
    else:
        value.metadata.ClearField("summary_description")


def header_event(wall_time: float) -> bytes:
    """The serialized event that every event file starts with."""
    source = event_pb2.SourceMetadata(writer=__name__)
    return event_pb2.Event(
        wall_time=wall_time,
        file_version="brain.Event:2",
        source_metadata=source,
    ).SerializeToString()


def event(values: Iterable[Value], step: int, wall_time: float) -> bytes:
    """A serialized event.

    Args:
        values: What the functions above return; any number of them.
        step: Epoch or batch.
        wall_time: Seconds since 1970.

    Returns:
        The content of one record of an event file.
    """
    summary = summary_pb2.Summary(value=values)
    return event_pb2.Event(
        wall_time=wall_time, step=step, summary=summary
    ).SerializeToString()


def string_tensor(
    data: str | bytes | list[str | bytes],
) -> tensor_pb2.TensorProto:
    """A tensor of strings, of shape `()` or `(len(data),)`."""
    return make_tensor_proto(data, dtype=np.object_)


def _numeric_tensor(data: np.ndarray) -> tensor_pb2.TensorProto:
    """A tensor of numbers, for which make_tensor_proto takes far longer."""
    return tensor_pb2.TensorProto(
        dtype=_data_type(data.dtype),
        tensor_shape=_shape_proto(data.shape),
        tensor_content=data.tobytes(),
    )


@functools.cache
def _data_type(dtype: np.dtype) -> int:
    """How protos call a dtype."""
    return dtypes.as_dtype(dtype).as_datatype_enum


@functools.lru_cache(1024)
def _shape_proto(shape: tuple[int, ...]) -> tensor_shape_pb2.TensorShapeProto:
    """A shape as protos have it."""
    axes = [tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in shape]
    return tensor_shape_pb2.TensorShapeProto(dim=axes)
