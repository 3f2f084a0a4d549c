"""Terms, losses and gradients of a `Case` without keras_actpen."""

import contextlib
import dataclasses
import functools

import keras
import numpy as np
from keras import ops, tree

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax
else:
    import torch


def first_batch(case):
    """Inputs and targets of the first batch."""
    return tree.map_structure(lambda a: a[: case.batch], (case.x, case.y))


def batches(case):
    """Pairs of inputs and targets."""
    size = len(tree.flatten(case.x)[0])
    for start in range(0, size, case.batch):
        stop = min(start + case.batch, size)
        yield tree.map_structure(lambda a: a[start:stop], (case.x, case.y))  # noqa: B023


def number(scalar):
    """A scalar tensor or number as a Python float."""
    return float(ops.convert_to_numpy(scalar))


def _masked(case, path, x, array):
    """The positions of `array` that count, by the mask of the whole data."""
    if path not in case.masks:
        return np.ones(array.shape, bool)
    # The rows of `x` within the data say which rows of the mask apply.
    rows, data = tree.flatten(x)[0], tree.flatten(case.x)[0]
    size = len(rows)
    start = next(
        i
        for i in range(0, len(data), case.batch)
        if np.array_equal(data[i : i + size], rows)
    )
    mask = np.asarray(case.masks[path], "bool")[start : start + size]
    mask = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))
    return np.broadcast_to(mask, array.shape)


@dataclasses.dataclass
class Batch:
    """What one batch must give.

    Attributes:
        outputs: Flat list of the model's outputs.
        terms: By `"path/term"`, in float64.
        task: Loss without the terms and other regularizers.
        loss: All of it.
    """

    outputs: list
    terms: dict
    task: float
    loss: float


def one_batch(case, x, y, training):
    """Everything about one batch but the gradient."""
    return _numbers(case, x, _compute(case, x, y, training))


def one_step(case, x, y):
    """Everything about one batch in training; and the gradient.

    Returns:
        A `Batch` and the gradient for every trainable weight of the model.
    """
    case_loss = functools.partial(_with_loss, case, x, y)
    with state_kept(case.model):
        found, slopes = _with_gradients(
            case_loss, case.model.trainable_variables
        )
    return _numbers(case, x, found), slopes


def _compute(case, x, y, training):
    """Task loss, regularizers, outputs and activations, as tensors."""
    outputs, watched = case.forward(x, training)
    outputs = tree.flatten(outputs)
    task = sum(
        keras.losses.MeanSquaredError()(one, output)
        for one, output in zip(tree.flatten(y), outputs, strict=True)
    )
    return task, case.regularizer(), outputs, watched


def _with_loss(case, x, y):
    """The loss to differentiate, and what it was computed from."""
    found = task, regularizer, _, watched = _compute(case, x, y, True)
    total = ops.cast(task, "float32") + regularizer
    for path, calls in watched.items():
        for h in calls:
            mask = _masked(case, path, x, np.empty(h.shape))
            h = ops.where(mask, ops.cast(h, "float32"), 0.0)
            size = h * ops.stop_gradient(ops.sign(h))
            total = total + case.l1 * ops.sum(size) / h.shape[0]
            total = total + case.l2 * ops.sum(h * h) / h.shape[0]
    return case.scale * total, found


def _numbers(case, x, found):
    """A `Batch`, its terms summed up in float64 by NumPy."""
    task, regularizer, outputs, watched = found
    samples = len(tree.flatten(x)[0])
    terms = {}
    for path, calls in watched.items():
        values = [array(h) for h in calls]
        masks = [_masked(case, path, x, h) for h in values]
        pairs = list(zip(values, masks, strict=True))
        terms[f"{path}/l1"] = sum(
            case.l1 * np.sum(np.abs(h), where=m) / samples for h, m in pairs
        )
        terms[f"{path}/l2"] = sum(
            case.l2 * np.sum(h * h, where=m) / samples for h, m in pairs
        )
    task = number(task)
    loss = task + sum(terms.values()) + number(regularizer)
    return Batch(
        [ops.convert_to_numpy(one) for one in outputs],
        terms,
        case.scale * task,
        case.scale * loss,
    )


def array(tensor):
    """A float tensor of any precision as float64."""
    if keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        tensor = ops.cast(tensor, "float32")
    return ops.convert_to_numpy(tensor).astype("float64")


def _with_gradients(function, variables):
    """Second result of `function()`, and the gradient of its first one."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        with tf.GradientTape() as tape:
            loss, found = function()
        slopes = tape.gradient(
            loss,
            [v.value for v in variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
    elif backend == "jax":

        def stateless(values):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return function()

        # At once: op by op takes much longer.
        step = jax.jit(jax.grad(stateless, has_aux=True))
        slopes, found = step([v.value for v in variables])
    else:
        loss, found = function()
        slopes = torch.autograd.grad(
            loss,
            [v.value for v in variables],
            allow_unused=True,
            materialize_grads=True,
        )
    return found, [ops.convert_to_numpy(ops.cast(g, "float32")) for g in slopes]


@contextlib.contextmanager
def state_kept(model):
    """Put back every variable of a model at the end of the block."""
    variables = list(model.variables)
    for layer in model.layers:
        # Keras does not count them among the layer's variables.
        variables += tree.flatten(getattr(layer, "states", None) or ())
    values = [ops.copy(v.value) for v in variables]
    yield
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
