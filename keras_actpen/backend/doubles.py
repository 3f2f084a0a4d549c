"""What is computed of float32 tensors in float64: buckets, mean, variance."""

from collections.abc import Sequence

import keras

from keras_actpen.backend.tensors import Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax
    import jax.numpy as jnp
elif keras.backend.backend() == "torch":
    import torch


def offsets(values: Tensor, start: Tensor) -> Tensor:
    """Differences between float32 values and one of them, in float64.

    On JAX a tensor that only the functions of this module can use.
    """
    if keras.backend.backend() == "tensorflow":
        return tf.cast(values, "float64") - tf.cast(start, "float64")
    if keras.backend.backend() == "jax":
        with jax.enable_x64(True):
            return _jax_double(values) - _jax_double(start)
    return values.double().sub_(start.double())


def bucket_counts(
    offsets: Tensor, low: Tensor, high: Tensor, buckets: int
) -> Tensor:
    """Counts of values in equal buckets, the last one closed.

    The index is computed in float64, as NumPy and TensorBoard do: in float32
    thousands of values land one bucket off, and a range beyond 3.4e38
    overflows. (Keras's own `ops.histogram` has float32 edges and takes many
    times as long.)

    Args:
        offsets: `offsets(values, low)`, of values from `low` to `high`.
        low: Float32 scalar, the left edge of the first bucket.
        high: Float32 scalar, the right edge of the last bucket. If it equals
            `low` everything counts in the first bucket.
        buckets: Number of buckets, at least 2.

    Returns:
        Integer tensor of shape `(buckets,)`.
    """
    counts = _raw_counts(offsets, low, high, buckets)
    return keras.ops.concatenate([counts[:-2], counts[-2:-1] + counts[-1:]])


def _raw_counts(
    offsets: Tensor, low: Tensor, high: Tensor, buckets: int
) -> Tensor:
    """Those of values on the right edge apart, in a bucket of their own."""
    size = buckets + 1
    if keras.backend.backend() == "tensorflow":
        low, high = tf.cast(low, "float64"), tf.cast(high, "float64")
        width = tf.where(high > low, (high - low) / buckets, 1.0)
        # Not tf.math.bincount: XLA needs a size that is constant.
        return tf.raw_ops.DenseBincount(
            input=tf.reshape(tf.cast(offsets / width, "int32"), [-1]),
            size=tf.constant(size),
            weights=tf.constant([], "int32"),
            binary_output=False,
        )
    if keras.backend.backend() == "jax":
        with jax.enable_x64(True):
            low, high = _jax_double(low), _jax_double(high)
            width = jnp.where(high > low, (high - low) / buckets, 1.0)
            index = jax.lax.convert_element_type(offsets / width, "int32")
        # A scatter is serial on a CPU, and so is all that XLA fuses with it:
        # 2.8 million values took 2.6 times as long.
        index = jax.lax.optimization_barrier(index.reshape(-1))
        return jax.ops.segment_sum(jnp.ones_like(index), index, size)
    low, high = low.double(), high.double()
    width = torch.where(high > low, (high - low) / buckets, 1.0)
    index = (offsets / width).int().reshape(-1)
    # Not torch.bincount, which waits for a GPU.
    counts = index.new_zeros(size)
    return counts.index_add_(0, index, index.new_ones(1).expand(index.shape))


def double_sums(offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and sum of squares in float64, for `mean_and_m2` alone.

    Args:
        offsets: What `offsets` returns.
    """
    if keras.backend.backend() == "tensorflow":
        return tf.reduce_sum(offsets), 2 * tf.nn.l2_loss(offsets)
    if keras.backend.backend() == "jax":
        with jax.enable_x64(True):
            return jnp.sum(offsets), jnp.sum(jnp.square(offsets))
    flat = offsets.reshape(-1)
    return torch.sum(flat), torch.dot(flat, flat)


def mean_and_m2(
    sums: Sequence[tuple[Tensor, Tensor]],
    start: Tensor,
    n: Tensor,
    zeros: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor]:
    """Mean of values and sum of their squared deviations from it.

    In float64, as differences from one of the values: those of equal values
    are 0, and no digits are lost where the mean is large. In float32 XLA, as
    TensorFlow 2.21 calls it on a CPU, adds up fused values one by one: the
    sum of squares of 2.8 million was 1e-3 off, 0.1 at worst.

    Args:
        sums: For each of some tensors `double_sums` of `offsets(values,
            start)` for its values other than 0 and of 0 for all others.
        start: Float32 column, one of the values of each.
        n: Float32 column, the number of values, at least 1.
        zeros: Float32 column, how many of them are 0.
        scale: Float32 column, a power of two.

    Returns:
        The mean in units of `scale`, and the sum of squares in units of its
        square, as float32 columns.
    """
    totals, squares = zip(*sums, strict=True)
    if keras.backend.backend() == "tensorflow":
        both = [tf.stack(x)[:, None] for x in (totals, squares)]
        columns = [tf.cast(x, "float64") for x in (start, n, zeros, scale)]
        return tuple(
            tf.cast(x, "float32") for x in _mean_and_m2(*both, *columns)
        )
    if keras.backend.backend() == "jax":
        with jax.enable_x64(True):
            both = [jnp.stack(x)[:, None] for x in (totals, squares)]
            columns = map(_jax_double, (start, n, zeros, scale))
            return tuple(
                jax.lax.convert_element_type(x, "float32")
                for x in _mean_and_m2(*both, *columns)
            )
    both = [torch.stack(x)[:, None] for x in (totals, squares)]
    columns = [x.double() for x in (start, n, zeros, scale)]
    return tuple(x.float() for x in _mean_and_m2(*both, *columns))


def _mean_and_m2(
    total: Tensor,
    squares: Tensor,
    start: Tensor,
    n: Tensor,
    zeros: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor]:
    mean = (total - zeros * start) / n
    m2 = squares + zeros * start * start - n * mean * mean
    return (start + mean) / scale, m2 / (scale * scale)


def _jax_double(x: Tensor) -> Tensor:
    return jax.lax.convert_element_type(x, "float64")
