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
    is faster still, but 1e-5 off; a custom torch.autograd.Function takes
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


def any_nonzero(x: Tensor) -> Tensor:
    """Which units, along the last axis, are not 0 at some position.

    NaN is not 0. A unit is not 0 if its largest element is not or its
    smallest is not, or if the sum of its absolute elements is not. Of the
    time of `ops.any(x != 0)` the first took 0.6 or less on TensorFlow and
    torch and 0.1 on JAX (2.8 million elements in four axes; in two it takes
    three times as long there), and on TensorFlow the second took a third of
    the first (128 times 16,384), on torch 0.7 (128 times 256).
    """
    axes = tuple(range(len(x.shape) - 1))
    if keras.backend.backend() == "jax" and len(axes) == 1:
        # Else XLA computes the activations once more for it.
        return jnp.any(jax.lax.optimization_barrier(x) != 0, axes)
    is_float32 = keras.backend.standardize_dtype(x.dtype) == "float32"
    if keras.backend.backend() == "tensorflow" and is_float32:
        flat = tf.reshape(tf.abs(x), (-1, keras.ops.shape(x)[-1]))
        ones = tf.ones((1, tf.shape(flat)[0]))
        return tf.matmul(ones, flat)[0] != 0
    if keras.backend.backend() == "torch":
        if x.numel() <= CACHED:
            return torch.sum(torch.abs(x), axes) != 0
        return (torch.amax(x, axes) != 0) | (torch.amin(x, axes) != 0)
    high = keras.ops.max(x, axes, initial=0.0)
    low = keras.ops.min(x, axes, initial=0.0)
    return keras.ops.logical_or(high != 0, low != 0)


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
