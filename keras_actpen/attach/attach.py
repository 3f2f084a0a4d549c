"""Attaching penalties to the layers of a model, and taking them off."""

# Annotations stay as written, so that `help()` shows short names of types.
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import keras

from keras_actpen import internals, penalties
from keras_actpen.attach.activation_spec import ActivationSpec, On, Output
from keras_actpen.attach.attach_warnings import (
    warn_if_discarded,
    warn_of_frozen,
)
from keras_actpen.attach.coefficients import Term
from keras_actpen.attach.compatibility import check_suits
from keras_actpen.attach.held_layers import unwrapped
from keras_actpen.attach.layer_refs import LayerRef, all_refs
from keras_actpen.attach.left_out import without_unsuited
from keras_actpen.attach.penalized_layers import is_attached, penalized_layers
from keras_actpen.attach.plan import Plan
from keras_actpen.attach.rebuild import Plans, replace_layers
from keras_actpen.attach.requested_terms import requested_terms
from keras_actpen.attach.select import Entries, find, select_among
from keras_actpen.attach.weights import weight_of
from keras_actpen.penalties.validation import printable


def attach_penalty(
    model: keras.Model,
    layers: Entries | Mapping[Any, penalties.Identifiers],
    penalty: penalties.Identifiers | None = None,
    *,
    l1: float | None = None,
    l2: float | None = None,
    on: On = "output",
    output: Output = 0,
    name: str | None = None,
    share_weights: bool = True,
) -> keras.Model:
    """Add a penalty on the outputs of some layers to a model's loss.

    **The weights are shared.** The returned model trains the very variables
    of the model passed in, which stays a penalty-free view of them; nothing
    is copied. `share_weights=False` returns an independent copy.

    For one call of a layer with activations `h` of shape `(batch, ..., units)`
    `l1=c` adds `c * sum |h| / batch` and `l2=c` adds `c * sum h^2 / batch`,
    as Keras does for `activity_regularizer`, in training and in `evaluate`.
    The sums are taken in float32 or wider. **Masked positions are left out**:
    that is the one deliberate difference from Keras, which counts them.

    A compiled model stays compiled, with the same optimizer, loss and
    metrics; one that is in the middle of training can go on training. A
    subclassed model cannot be rebuilt: its layer is replaced in place and the
    same object is returned.

    Example:
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, activation="relu", name="dense_4"),
    ...     keras.layers.Dense(2),
    ... ])
    >>> model = attach_penalty(model, "dense_4", l2=0.01)
    >>> list(model.get_layer("dense_4").coefficients.items())
    [('l2', 0.01)]

    Args:
        model: A built `keras.Model`.
        layers: Which layers: a name, searched at every depth; a path
            (`"encoder/dense_4"`); a glob (`"conv*"`); a compiled regex,
            matched against paths; a layer; a layer class; a function
            `f(layer) -> bool`; an index; a sequence of these; or a mapping
            of any of these to penalties.
        penalty: A `Penalty`, its name (`"l2"`), a keras regularizer, a
            function `f(activations) -> scalar`, or a sequence of these.
        l1: Coefficient of an added `L1` term.
        l2: Coefficient of an added `L2` term.
        on: `"output"`, the output after the activation; `"preactivation"`,
            what the layer's own activation receives; `"input"`, what the
            layer is called on; or the name of a weight, such as `"kernel"`,
            which is penalized as by Keras's `kernel_regularizer`: once per
            step, not divided by the batch, and not while it is frozen.
        output: Index or key of the output, or of the input, of a layer that
            has several, or `"all"` for their sum.
        name: Name of the term; by default `l1`, `l2` or the snake-case name
            of the penalty, on a weight `kernel_l2` where `l2` is taken.
        share_weights: Whether the returned model shares the variables of the
            model passed in.

    Returns:
        A model of the same class; the model passed in if it is subclassed.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built, a layer is unknown, ambiguous
            or out of reach, no penalty is given, a coefficient is negative or
            not finite, a term's name is taken, the output is not a float
            tensor, or `on="preactivation"` does not apply. The model passed
            in is then unchanged.
    """
    check_built(model)
    _check_graph(model)
    spec = ActivationSpec(on, output)
    wanted = requested_terms(model, layers, penalty, l1, l2, name, spec)
    if not share_weights:
        model = _independent_copy(model)
        copies = {ref.path: ref for ref in all_refs(model)}
        wanted = [(copies[ref.path], terms) for ref, terms in wanted]
    plans = Plans()
    weights: dict[int, LayerRef] = {}
    for ref, given in wanted:
        if spec.is_weight:
            weight = weight_of(unwrapped(ref.layer), spec.on)
            if weights.setdefault(id(weight), ref) is not ref:
                continue  # one weight at two paths counts once
        plan = plans.at(ref)
        for one in given:
            check_suits(one, spec, ref, model)
            term = one.name
            if name is None and _is_elsewhere(plan, term, spec):
                term = f"{spec.on}_{term}"
            if term in plan.terms:
                raise _name_taken(term, ref.path)
            plan.terms[term] = Term(one, spec)
    new = replace_layers(model, plans)
    nonzero = [
        ref for ref, given in wanted if any(p.coefficient for p in given)
    ]
    warn_of_frozen(model, {ref.path: ref.layer for ref in nonzero}, spec)
    warn_if_discarded(model, new)
    return new


def watch_activations(model: keras.Model, layers: Entries) -> keras.Model:
    """Let `PenaltyMonitor` log activations without penalizing them.

    Adds nothing to the loss. Weights are shared as in `attach_penalty`.

    Example:
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(2, name="dense_4")])
    >>> model = watch_activations(model, "*")
    >>> list(penalized_layers(model)), model.losses
    (['dense_4'], [])

    Args:
        model: A built `keras.Model`.
        layers: Which layers, as in `attach_penalty`.

    Returns:
        A model of the same class; the model passed in if it is subclassed.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built, or a layer is unknown,
            ambiguous or out of reach.
    """
    check_built(model)
    _check_graph(model)
    plans = Plans()
    for ref in without_unsuited(model, find(model, layers), ActivationSpec()):
        if not is_attached(ref):
            plans.at(ref).spec = ActivationSpec()
    new = replace_layers(model, plans)
    warn_if_discarded(model, new)
    return new


def detach_penalty(
    model: keras.Model, layers: Entries | None = None
) -> keras.Model:
    """Remove the penalties from layers.

    Example:
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(2, name="dense_4")])
    >>> penalized = attach_penalty(model, "dense_4", l2=0.01)
    >>> plain = detach_penalty(penalized)
    >>> penalized_layers(plain), plain.get_layer("dense_4") is model.layers[0]
    ({}, True)

    Args:
        model: A model with penalized or watched layers.
        layers: Which layers, as in `attach_penalty`. Default: all.

    Returns:
        A model of the same class that shares its weights with `model`; the
        model passed in if it is subclassed.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one of `layers` is neither penalized nor watched, or if
            no layer of the model is.
    """
    check_built(model)
    _check_graph(model)
    chosen = all_refs(model)
    if layers is not None:
        attached = [ref for ref in chosen if is_attached(ref)]
        entries = layers if isinstance(layers, list | tuple) else [layers]
        chosen = [
            ref
            for entry in entries
            for ref in select_among(model, entry, attached)
        ]
    plain = [ref for ref in chosen if not is_attached(ref)]
    if len(plain) == len(chosen) or (layers is not None and plain):
        attached = list(penalized_layers(model))
        raise ValueError(
            "Invalid value received for argument `layers`. Expected "
            f"penalized or watched layers, which in model {model.name!r} are "
            f"{attached}. Received: "
            + (
                f"layers={layers!r}, with the plain layers "
                f"{[ref.path for ref in plain]}"
                if layers is not None
                else "a model without any"
            )
        )
    plans = Plans()
    for ref in chosen:
        if is_attached(ref):
            plans.remove(ref)
    new = replace_layers(model, plans)
    warn_if_discarded(model, new)
    return new


def check_built(model: Any) -> None:
    """Refuse anything but a built `keras.Model`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Invalid type received for argument `model`. Expected a built "
            f"keras.Model. Received: model={printable(model)} (of type "
            f"{type(model).__name__})"
        )
    if not model.built:
        raise ValueError(
            "Invalid value received for argument `model`. Expected a built "
            "model; call `model.build(input_shape)` or the model on data "
            f"first. Received: the unbuilt model {model.name!r}"
        )


def _check_graph(model: keras.Model) -> None:
    """Refuse a Sequential model on several tensors."""
    if internals.graph_of(model) is None:
        raise ValueError(
            "Invalid value received for argument `model`. Expected a "
            "Sequential model with one input tensor, on which Keras builds a "
            "graph; write it as `keras.Model(inputs, outputs)` instead. "
            f"Received: the Sequential model {model.name!r} without a graph"
        )


def _is_elsewhere(plan: Plan, name: str, spec: ActivationSpec) -> bool:
    """Whether a term on a weight is called as one on something else is."""
    return (
        spec.is_weight and name in plan.terms and plan.terms[name].spec != spec
    )


def _name_taken(name: str, path: str) -> ValueError:
    return ValueError(
        "Invalid value received for argument `name`. Expected a name that no "
        f"other term of layer {path!r} has: pass name='{name}_2' to add a "
        "second term, set `penalized_layers(model)"
        f"[{path!r}].coefficients[{name!r}]` to change its coefficient, or "
        f"call `detach_penalty(model, {path!r})` first to replace it. "
        f"Received: a second term called {name!r}"
    )


def _independent_copy(model: keras.Model) -> keras.Model:
    """A copy with variables of its own, compiled as the model is."""
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ValueError(
            "Invalid value received for argument `share_weights`. Expected "
            "share_weights=True, because a copy is made by saving and loading "
            "the model, which fails here. Received: share_weights=False "
            f"({error})"
        ) from error
