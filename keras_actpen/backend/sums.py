"""Sums over all elements, by the fastest way that is exact enough."""

from collections.abc import Callable, Sequence

import keras

from keras_actpen.backend.execution import is_traced
from keras_actpen.backend.tensors import Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax
    import jax.numpy as jnp
elif keras.backend.backend() == "torch":
    import torch


# Elements of a tensor that fits into a processor's cache.
CACHED = 2**18


def sum_of_squares(x: Tensor) -> Tensor:
    """Sum of the squares of all elements, with one product for the gradient.

    Value and gradient of 2.8 million float32 elements took, of the time of
    `ops.sum(ops.square(x))`, 0.4 on TensorFlow without XLA and 0.9 on torch;
    XLA fuses that by itself. On torch fewer elements, of which a copy stays
    in a cache, are faster by a product: 0.7 of the time for 65,000. (torch.dot
    is faster still, but 1e-5 off; a torch.autograd.Function of one's own takes
    twice as long for few elements.)
    """
    if keras.backend.backend() == "tensorflow":
        return 2 * tf.nn.l2_loss(x)
    if keras.backend.backend() == "torch":
        if x.numel() <= CACHED:
            return torch.sum(x * x)
        zeros = x.new_zeros(()).expand_as(x)
        return torch.nn.functional.mse_loss(x, zeros, reduction="sum")
    return keras.ops.sum(keras.ops.square(x))


def sum_of_absolutes(x: Tensor) -> Tensor:
    """Sum of the absolute elements, with gradient sign(x), 0 at 0.

    Value and gradient of 2.8 million float32 elements took, of the time of
    `ops.sum(x * ops.stop_gradient(ops.sign(x)))`, 0.7 on TensorFlow and 0.6
    on JAX. torch's own gradient of `abs` is 0 at 0.
    """
    if keras.backend.backend() == "torch":
        return torch.sum(torch.abs(x))
    return _sum_of_absolutes(x)


if keras.backend.backend() == "tensorflow":

    @tf.custom_gradient
    def _sum_of_absolutes(
        x: Tensor,
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        def gradient(upstream: Tensor) -> Tensor:
            return upstream * tf.sign(x)

        return tf.reduce_sum(tf.abs(x)), gradient

elif keras.backend.backend() == "jax":

    @jax.custom_jvp
    def _sum_of_absolutes(x: Tensor) -> Tensor:
        return jnp.sum(jnp.abs(x))

    @_sum_of_absolutes.defjvp
    def _sum_of_absolutes_jvp(
        primals: tuple[Tensor], tangents: tuple[Tensor]
    ) -> tuple[Tensor, Tensor]:
        (x,), (tangent,) = primals, tangents
        return _sum_of_absolutes(x), jnp.sum(jnp.sign(x) * tangent)


def scalars(variable: keras.Variable) -> Sequence[Tensor]:
    """The elements of a float32 vector that nothing is differentiated by.

    On torch, on a CPU, they are numbers: a term of a small layer then takes
    half the operations, each of which takes longer than what it computes.
    Not where torch makes a graph, in which they would be constants.
    """
    value = variable.value
    if keras.backend.backend() != "torch":
        return keras.ops.unstack(value, variable.shape[0])
    if value.device.type == "cpu" and not is_traced():
        return value.tolist()
    return value.unbind()


def scaled(value: Tensor, coefficient: Tensor) -> Tensor:
    """`coefficient * value`, 0 if the coefficient is, whatever the value.

    TensorFlow and torch run operation by operation: a step of a small model
    has a dozen fewer on TensorFlow than with `where`.

    Args:
        value: Float scalar.
        coefficient: One of `scalars`.
    """
    if keras.backend.backend() == "torch":
        if isinstance(coefficient, float) and coefficient != 0:
            return coefficient * value
        nothing = torch.as_tensor(coefficient == 0, device=value.device)
        return torch.where(nothing, 0.0, coefficient * value)
    coefficient = keras.ops.cast(coefficient, value.dtype)
    if keras.backend.backend() == "tensorflow":
        return tf.math.multiply_no_nan(value, coefficient)
    return keras.ops.where(
        coefficient == 0, keras.ops.zeros_like(value), coefficient * value
    )


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
    offsets: Tensor, low: Tensor, high: Tensor, buckets: int, others: Tensor
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
        buckets: Number of buckets, at least 3.
        others: Integer scalar, how many of the values, all of them equal to
            `low`, are there for others that do not count.

    Returns:
        Integer tensor of shape `(buckets,)`.
    """
    counts = _raw_counts(offsets, low, high, buckets)
    return keras.ops.concatenate(
        [
            counts[:1] - keras.ops.cast(others, counts.dtype),
            counts[1:-2],
            counts[-2:-1] + counts[-1:],
        ]
    )


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
        return jnp.zeros(size, "int32").at[index].add(1)
    low, high = low.double(), high.double()
    width = torch.where(high > low, (high - low) / buckets, 1.0)
    index = (offsets / width).int().reshape(-1)
    # Not torch.bincount, which waits for a GPU.
    counts = index.new_zeros(size)
    return counts.index_add_(0, index, index.new_ones(1).expand(index.shape))


def sums(offsets: Tensor) -> tuple[Tensor, Tensor]:
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
    sums: tuple[Tensor, Tensor],
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
        sums: `sums` of `offsets(values, start)` for those other than 0, and
            of 0 for all others.
        start: Float32 scalar, one of the values.
        n: Float32 scalar, the number of values, at least 1.
        zeros: Float32 scalar, how many of them are 0.
        scale: Float32 scalar, a power of two.

    Returns:
        The mean in units of `scale`, and the sum of squares in units of its
        square, as float32 scalars.
    """
    if keras.backend.backend() == "tensorflow":
        scalars = [tf.cast(x, "float64") for x in (start, n, zeros, scale)]
        return tuple(
            tf.cast(x, "float32") for x in _mean_and_m2(*sums, *scalars)
        )
    if keras.backend.backend() == "jax":
        with jax.enable_x64(True):
            scalars = map(_jax_double, (start, n, zeros, scale))
            return tuple(
                jax.lax.convert_element_type(x, "float32")
                for x in _mean_and_m2(*sums, *scalars)
            )
    scalars = [x.double() for x in (start, n, zeros, scale)]
    return tuple(x.float() for x in _mean_and_m2(*sums, *scalars))


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


def precise_sum(x: Tensor, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Sum of a float32 tensor, as float32.

    Added up in float64 where float32 drifts, see `mean_and_m2`.
    """
    if keras.backend.backend() == "tensorflow":
        return tf.cast(
            tf.reduce_sum(tf.cast(x, "float64"), axis=axis), "float32"
        )
    return keras.ops.sum(x, axis=axis)


def compensated_sums(
    sums: Tensor, addends: Sequence[Tensor | float], factor: Tensor | float
) -> Tensor:
    """Add scalars times a factor to sums (Kahan 1965).

    torch runs operation by operation; those of Keras took five times as long.

    Args:
        sums: Float32 tensor of shape `(2, n)`, the sums and what they lack.
        addends: `n` scalars, numbers or tensors.
        factor: A float, or a float32 scalar.
    """
    if keras.backend.backend() != "torch":
        addend = keras.ops.stop_gradient(keras.ops.stack(addends))
        addend = keras.ops.cast(addend, "float32") * factor
        return keras.ops.stack(_kahan(*keras.ops.unstack(sums, 2), addend))
    with torch.no_grad():
        addend = torch.stack(
            [
                torch.as_tensor(x, dtype=sums.dtype, device=sums.device)
                for x in addends
            ]
        )
        return torch.stack(_kahan(*sums.unbind(), addend * factor))


def _kahan(
    total: Tensor, lacking: Tensor, addend: Tensor
) -> tuple[Tensor, Tensor]:
    addend = addend - lacking
    new = total + addend
    return new, (new - total) - addend
