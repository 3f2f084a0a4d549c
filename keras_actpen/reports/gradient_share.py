"""How strongly a penalty pulls on the activations, compared to the task."""

# Annotations stay as written, so that `help()` shows short names of types.
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_actpen import penalties
from keras_actpen.attach.activation_spec import ActivationSpec, On, Output
from keras_actpen.attach.attach import check_built
from keras_actpen.attach.frozen import frozen_layers
from keras_actpen.attach.left_out import without_unsuited
from keras_actpen.attach.select import Entries, find
from keras_actpen.penalties.validation import check_number
from keras_actpen.reports.data import Batch, Data, Verbose
from keras_actpen.reports.gradient_norms import gradient_norms
from keras_actpen.reports.observed_layers import layers_with_terms
from keras_actpen.reports.probes import Probe


def penalty_gradient_share(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    training: bool = True,
    verbose: Verbose = "auto",
) -> dict[str, float]:
    """Compare each term's pull on the activations with that of the task.

    For a term `P` with coefficient `c` on activations `h` (of shape
    `(batch, ..., units)`, as one vector over all batches and all calls of the
    layer)

        share = |c dP/dh| / |dL/dh|

    in the Euclidean norm, where `L` is the loss without any penalty term of
    this package. A share of 0.001 is too small to matter, one of 10 takes
    over; 0.01 to 1 is usual. It is a snapshot: as the task is learned,
    `dL/dh` shrinks and the share grows. It is infinite where `dL/dh` is 0,
    and NaN where both are. The model is not changed.

    The norms balanced are those of Chen, Badrinarayanan, Lee, Rabinovich
    2018, "GradNorm: Gradient Normalization for Adaptive Loss Balancing in
    Deep Multitask Networks", taken at the activations instead of the weights.

    Example:
    >>> from keras_actpen import attach_penalty
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(
    ...         2, "relu", kernel_initializer="identity", name="hidden")])
    >>> model = attach_penalty(model, "hidden", l2=0.5)
    >>> model.compile("sgd", "mse")
    >>> x, y = np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])
    >>> penalty_gradient_share(model, x, y)
    {'hidden/l2': 1.0}

    Args:
        model: A compiled model with penalized layers.
        x: Inputs, as `model.evaluate` takes them: an array, lists and
            dictionaries of arrays, or what holds the targets too: a
            `tf.data.Dataset`, a `PyDataset`, a torch `DataLoader`, a
            generator of batches.
        y: Targets, as the loss takes them.
        sample_weight: Weights of the samples, or `None`.
        batch_size: Samples in a batch of arrays; default: 32, or what makes
            `steps` batches.
        steps: How many batches at most.
        training: Whether layers such as Dropout behave as in training.
        verbose: `"auto"`, 0, 1 or 2, as in `model.evaluate`; `"auto"` shows a
            progress bar where there are several batches.

    Returns:
        The share of every term by `"path/term"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built, not compiled, has no penalized
            layer or does not call one of them, there are no samples, or the
            data is not in a form that `evaluate` takes.
    """
    _check_compiled(model)
    data = Data(x, y, sample_weight, batch_size, steps, verbose)
    return gradient_shares(model, data.batches(), training)


def gradient_shares(
    model: keras.Model, batches: Iterable[Batch], training: bool
) -> dict[str, float]:
    """`penalty_gradient_share` of a compiled model on these batches."""
    layers = layers_with_terms(model)
    probes = {
        (path, spec): Probe(path, layer, spec, layer.actpen.within)
        for path, layer in layers.items()
        for spec in layer.actpen.specs
    }
    terms = [
        (path, name, term)
        for path, layer in layers.items()
        for name, term in layer.actpen.terms.items()
    ]
    task, own = gradient_norms(
        model,
        batches,
        training,
        list(probes.values()),
        [(probes[path, term.spec], term.penalty) for path, _, term in terms],
    )
    of_task = dict(zip(probes, task, strict=True))
    shares = {}
    # What changes no weight has no share, however steep it is.
    frozen = frozen_layers(model, layers)
    for (path, name, term), norm in zip(terms, own, strict=True):
        norm *= layers[path].actpen.coefficients[name]
        share = _ratio(norm, of_task[path, term.spec])
        shares[f"{path}/{name}"] = 0.0 if path in frozen else share
    return shares


def suggest_coefficient(
    model: keras.Model,
    layers: Entries,
    penalty: penalties.Identifier,
    x: Any,
    y: Any = None,
    share: float = 0.1,
    *,
    on: On = "output",
    output: Output = 0,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    training: bool = True,
    verbose: Verbose = "auto",
) -> float:
    """Find the coefficient that gives a penalty a share of the gradient.

    The coefficient `c` for which `|c dP/dh| = share * |dL/dh|`, see
    `penalty_gradient_share`; `h` are the activations of all chosen layers as
    one vector. The penalty need not be attached, and the model is not
    changed. Use data like that of the training, of which a few hundred
    samples are enough, and, if you have one, a model that has already been
    trained for a while.

    Example:
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(
    ...         2, "relu", kernel_initializer="identity", name="hidden")])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]])
    >>> suggest_coefficient(model, "hidden", "l2", x, y, share=0.5)
    0.25

    Args:
        model: A compiled model, with or without penalized layers.
        layers: Which layers, as in `attach_penalty`.
        penalty: One penalty, as in `attach_penalty`; its own coefficient does
            not matter.
        x: Inputs, as `model.evaluate` takes them: an array, lists and
            dictionaries of arrays, or what holds the targets too: a
            `tf.data.Dataset`, a `PyDataset`, a torch `DataLoader`, a
            generator of batches.
        y: Targets, as the loss takes them.
        share: Number > 0, the wanted share.
        on: What is penalized, as in `attach_penalty`.
        output: Index or key of the output, as in `attach_penalty`.
        sample_weight: Weights of the samples, or `None`.
        batch_size: Samples in a batch of arrays; default: 32, or what makes
            `steps` batches.
        steps: How many batches at most.
        training: Whether layers such as Dropout behave as in training.
        verbose: `"auto"`, 0, 1 or 2, as in `model.evaluate`; `"auto"` shows a
            progress bar where there are several batches.

    Returns:
        The coefficient.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built or not compiled, a layer is
            unknown, ambiguous, out of reach or not called, `share` is not
            above 0, there are no samples, the data is not in a form that
            `evaluate` takes, or no coefficient gives that share because a
            gradient is 0 or not finite.
    """
    _check_compiled(model)
    check_number(
        "share", share, "a finite number > 0, for example share=0.1", _positive
    )
    penalty = penalties.identifiers.to_penalty(penalty)
    spec = ActivationSpec(on, output)
    refs = without_unsuited(model, find(model, layers), spec)
    chosen = {ref.path: ref.layer for ref in refs}
    if len(frozen_layers(model, chosen, spec)) == len(chosen):
        raise ValueError(
            "Invalid value received for argument `layers`. Expected a layer "
            "with something trainable in front of it or in it: a penalty on "
            f"{list(chosen)} changes no weight, whatever its coefficient. "
            f"Received: layers={layers!r}"
        )
    probes = [Probe(ref.path, ref.layer, spec, ref.inner) for ref in refs]
    data = Data(x, y, sample_weight, batch_size, steps, verbose)
    task, own = map(
        np.linalg.norm,
        gradient_norms(
            model,
            data.batches(),
            training,
            probes,
            [(probe, penalty) for probe in probes],
        ),
    )
    for norm, what in ((own, "penalty"), (task, "task loss")):
        if not np.isfinite(norm) or norm == 0:
            raise ValueError(
                "Invalid value received for argument `x`. Expected data "
                "on which the penalty and the task loss both have a finite "
                "gradient other than 0 with respect to the activations of "
                f"{[probe.path for probe in probes]}. Received: data on "
                f"which the gradient of the {what} has the norm {norm:g}"
            )
    return float(share * task / own)


def _ratio(norm: float, of: float) -> float:
    if of == 0 and norm > 0:
        return float("inf")
    return norm / of if of else float("nan")


def _positive(value: float) -> bool:
    return value > 0


def _check_compiled(model: keras.Model) -> None:
    check_built(model)
    if not model.compiled:
        raise ValueError(
            "Invalid value received for argument `model`. Expected a compiled "
            "model, whose loss the penalty is compared with: call "
            "`model.compile(optimizer, loss)` first. Received: the "
            f"model {model.name!r}, which is not compiled"
        )
