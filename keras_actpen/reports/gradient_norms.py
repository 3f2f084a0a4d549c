"""Norms of the gradients of the loss and of penalties, over batches."""

import contextlib
import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_actpen import backend
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.backend.tensors import Tensor
from keras_actpen.penalties.base import Penalty
from keras_actpen.reports.data import Batch
from keras_actpen.reports.probes import Probe, array_of, norm_of


def task_gradients(
    model: keras.Model, batch: Batch, training: bool, probes: list[Probe]
) -> list[list[np.ndarray]]:
    """Gradient of the loss without penalties at each probe, in float64."""
    # On float16 the gradients would vanish without the optimizer's scale.
    scale = model.optimizer.scale_loss(1.0)
    off = [
        (layer.actpen.coefficients.variable, ops.zeros(len(layer.actpen.terms)))
        for layer in penalized_layers(model).values()
        if layer.actpen.terms
    ]
    arguments = loss_arguments(model, batch, training)

    def loss(shifts: list[Tensor]) -> Tensor:
        remaining = iter(shifts)
        with contextlib.ExitStack() as stack:
            # Nothing that the layers and the loss assign is kept, and the
            # same random numbers are drawn every time.
            stack.enter_context(backend.random_state_kept())
            scope = keras.StatelessScope(off, collect_losses=True)
            stack.enter_context(scope)
            for probe in probes:
                of_probe = None
                if shifts:
                    of_probe = [next(remaining) for _ in probe.watched]
                stack.enter_context(probe.installed(scope, of_probe))
            y_pred = model(batch.x, training=training)
            return scale * model.compute_loss(y_pred=y_pred, **arguments)

    loss([])
    # Not those of the function that is differentiated, which are symbolic.
    watched = [probe.watched for probe in probes]
    zeros = [ops.zeros_like(tensor) for one in watched for tensor, _ in one]
    gradients = iter(backend.value_and_gradients(loss, zeros)[1])
    for probe, seen in zip(probes, watched, strict=True):
        probe.watched = seen
    scale = float(ops.convert_to_numpy(scale))
    return [[array_of(next(gradients)) / scale for _ in one] for one in watched]


def gradient_norms(
    model: keras.Model,
    batches: Iterable[Batch],
    training: bool,
    probes: list[Probe],
    penalties: Sequence[tuple[Probe, Penalty]],
) -> tuple[list[float], list[float]]:
    """Norms of the gradients of the mean over all samples.

    Returns:
        That of the task loss at each probe, and that of each penalty at its
        probe, without its coefficient.
    """
    samples = 0
    # The activations of all batches are one vector; a weight is the same in
    # all, and what they pull at it adds up.
    squares = np.zeros(len(probes))
    sums: dict[int, np.ndarray] = {}
    own = np.zeros(len(penalties))
    for batch in batches:
        samples += batch.samples
        found = task_gradients(model, batch, training, probes)
        for index, (probe, arrays) in enumerate(
            zip(probes, found, strict=True)
        ):
            if probe.spec.is_weight:
                (array,) = arrays
                sums[index] = sums.get(index, 0.0) + batch.samples * array
            else:
                squares[index] += (batch.samples * norm_of(arrays)) ** 2
        for index, (probe, penalty) in enumerate(penalties):
            norm = batch.samples * probe.norm(penalty)
            if probe.spec.is_weight:
                own[index] += norm
            else:
                own[index] = math.hypot(own[index], norm)
    task = np.sqrt(squares)
    for index, array in sums.items():
        task[index] = norm_of([array])
    return (task / samples).tolist(), (own / samples).tolist()


def loss_arguments(
    model: keras.Model, batch: Batch, training: bool
) -> dict[str, Any]:
    """Arguments of `model.compute_loss` for one batch, without `y_pred`."""
    arguments = {"x": batch.x} | tree.map_structure(
        lambda part: None if part is None else ops.convert_to_tensor(part),
        {"y": batch.y, "sample_weight": batch.sample_weight},
    )
    if "training" in inspect.signature(model.compute_loss).parameters:
        arguments["training"] = training
    return arguments
