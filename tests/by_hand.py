"""Terms, losses and gradients of a `Case` without keras_actpen."""

import contextlib
import dataclasses

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
        task: Loss without the terms and other regularisers.
        loss: All of it.
    """

    outputs: list
    terms: dict
    task: float
    loss: float


def one_batch(case, x, y, training):
    """Everything about one batch."""
    found, (outputs, watched) = _total(case, x, y, training)
    batch = len(tree.flatten(x)[0])
    terms = {}
    for path, calls in watched.items():
        values = [
            np.asarray(ops.convert_to_numpy(ops.cast(h, "float32")), "float64")
            if keras.backend.standardize_dtype(h.dtype) != "float64"
            else ops.convert_to_numpy(h)
            for h in calls
        ]
        masks = [_masked(case, path, x, h) for h in values]
        terms[f"{path}/l1"] = case.l1 * sum(
            np.sum(np.abs(h), where=m) / batch
            for h, m in zip(values, masks, strict=True)
        )
        terms[f"{path}/l2"] = case.l2 * sum(
            np.sum(h * h, where=m) / batch
            for h, m in zip(values, masks, strict=True)
        )
    task = number(found[0])
    loss = task + sum(terms.values()) + number(found[1])
    return Batch(
        [ops.convert_to_numpy(h) for h in outputs],
        terms,
        case.scale * task,
        case.scale * loss,
    )


def _total(case, x, y, training):
    """Task loss and regularisers as tensors, outputs and activations."""
    outputs, watched = case.forward(x, training)
    outputs = tree.flatten(outputs)
    task = sum(
        keras.losses.MeanSquaredError()(one, output)
        for one, output in zip(tree.flatten(y), outputs, strict=True)
    )
    return (task, case.regularizer()), (outputs, watched)


def gradients(case, x, y):
    """Gradient of the whole loss in training for every trainable weight."""

    def loss():
        (task, regularizer), (_, watched) = _total(case, x, y, True)
        total = ops.cast(task, "float32") + regularizer
        for path, calls in watched.items():
            for h in calls:
                mask = _masked(case, path, x, np.empty(h.shape))
                h = ops.where(mask, ops.cast(h, "float32"), 0.0)
                size = h * ops.stop_gradient(ops.sign(h))
                total = total + case.l1 * ops.sum(size) / h.shape[0]
                total = total + case.l2 * ops.sum(h * h) / h.shape[0]
        return case.scale * total

    with state_kept(case.model):
        return gradients_of(loss, case.model.trainable_variables)


def gradients_of(loss, variables):
    """Gradient of `loss()` for Keras variables, 0 where it has none."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        with tf.GradientTape() as tape:
            value = loss()
        found = tape.gradient(
            value,
            [v.value for v in variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
    elif backend == "jax":

        def stateless(values):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return loss()

        found = jax.jit(jax.grad(stateless))([v.value for v in variables])
    else:
        found = torch.autograd.grad(
            loss(),
            [v.value for v in variables],
            allow_unused=True,
            materialize_grads=True,
        )
    return [ops.convert_to_numpy(ops.cast(g, "float32")) for g in found]


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
