"""Values and gradients of a scalar function on whichever backend runs."""

from contextlib import nullcontext

import keras
import numpy as np

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax
else:
    import torch


def unrecorded():
    """Context whose calls torch does not record for their gradients."""
    if keras.backend.backend() == "torch":
        return torch.no_grad()
    return nullcontext()


def value_and_gradient(function, x):
    """Value and gradient, as NumPy arrays, of `function` at the array `x`."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        gradient = tape.gradient(
            value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
    elif backend == "jax":
        value, gradient = jax.value_and_grad(function)(jax.numpy.asarray(x))
    else:
        x = torch.tensor(x, requires_grad=True)
        value = function(x)
        (gradient,) = torch.autograd.grad(
            value, x, allow_unused=True, materialize_grads=True
        )
        value = value.detach()
    return np.asarray(value), np.asarray(gradient)


def central_differences(function, x, step=1e-6):
    """Gradient of a float64 NumPy function at `x` by central differences."""
    x = np.array(x, "float64")
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        old = x[index]
        x[index] = old + step
        up = function(x)
        x[index] = old - step
        down = function(x)
        x[index] = old
        gradient[index] = (up - down) / (2 * step)
    return gradient
