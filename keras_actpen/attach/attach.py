"""Attaching penalties to the layers of a model, and taking them off."""

import copy
from collections.abc import Mapping
from typing import Any

import keras

from keras_actpen import internals, penalties
from keras_actpen.attach.attach_warnings import (
    warn_if_discarded,
    warn_of_frozen,
)
from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.coefficients import Term
from keras_actpen.attach.compatibility import check_suits
from keras_actpen.attach.layer_refs import layer_refs
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.rebuild import Replacement, replace_layers, wrapping
from keras_actpen.attach.requested_terms import requested_terms
from keras_actpen.attach.select import Entries, select


def attach_penalty(
    model: keras.Model,
    layers: Entries | Mapping[Any, penalties.Identifiers],
    penalty: penalties.Identifiers | None = None,
    *,
    l1: float | None = None,
    l2: float | None = None,
    on: str = "output",
    output: int | str = 0,
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
    that is the one deliberate difference to Keras, which counts them.

    A compiled model stays compiled, with the same optimizer, loss and
    metrics; a model in mid-training trains on. A subclassed model cannot be
    rebuilt: its layer is replaced in place and the same object is returned.

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
        on: `"output"`, the output after the activation, or
            `"preactivation"`, what the layer's own activation receives.
        output: Index or key of the output of a layer that has several, or
            `"all"` for their sum.
        name: Name of the term; by default `l1`, `l2` or the snake-case name
            of the penalty.
        share_weights: Whether the returned model shares the variables of the
            model passed in.

    Returns:
        A model of the same class; the model passed in if it is subclassed.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the model is not built, a layer is unknown, ambiguous
            or out of reach, nothing is to be penalized, a coefficient is
            negative or not finite, a term's name is taken, the output is not
            a float tensor, or `on="preactivation"` does not apply. The model
            passed in is then unchanged.
    """
    check_built(model)
    _check_graph(model)
    spec = ActivationSpec(on, output)
    wanted = requested_terms(model, layers, penalty, l1, l2, name)
    if not share_weights:
        model = _independent_copy(model)
        wanted = [
            (ref, terms)
            for paths, terms in ((s.path, t) for s, t in wanted)
            for ref in layer_refs(model)
            if ref.path == paths
        ]
    replacements: dict[int, Replacement] = {}
    for ref, given in wanted:
        terms = {}
        if isinstance(ref.layer, PenalizedLayer):
            terms = dict(ref.layer.actpen.terms)
        for one in given:
            if one.name in terms:
                raise _name_taken(one.name, ref.path)
            check_suits(one, spec, ref, model)
            terms[one.name] = Term(one, spec)
        replacements[id(ref.layer)] = wrapping(ref.layer, terms, spec)
    new = replace_layers(model, replacements)
    nonzero = [
        ref for ref, given in wanted if any(p.coefficient for p in given)
    ]
    warn_of_frozen(model, {ref.path: ref.layer for ref in nonzero})
    warn_if_discarded(model, new)
    return new


def watch_activations(model: keras.Model, layers: Entries) -> keras.Model:
    """Let `PenaltyMonitor` log the activations of layers without a penalty.

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
    new = replace_layers(
        model,
        {
            id(ref.layer): wrapping(ref.layer, {}, ActivationSpec())
            for ref in select(model, layers)
            if not isinstance(ref.layer, PenalizedLayer)
        },
    )
    warn_if_discarded(model, new)
    return new


def detach_penalty(
    model: keras.Model, layers: Entries | None = None
) -> keras.Model:
    """Take the penalties off again.

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
        ValueError: If a layer has no penalty, or no layer has.
    """
    check_built(model)
    _check_graph(model)
    chosen = layer_refs(model) if layers is None else select(model, layers)
    plain = [s for s in chosen if not isinstance(s.layer, PenalizedLayer)]
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
    new = replace_layers(
        model,
        {
            id(ref.layer): lambda layer: layer
            for ref in chosen
            if isinstance(ref.layer, PenalizedLayer)
        },
    )
    warn_if_discarded(model, new)
    return new


def penalized_layers(model: keras.Model) -> dict[str, PenalizedLayer]:
    """Return the penalized and the watched layers by their paths.

    Coefficients can be read and set through them at any time:

    ```python
    penalized_layers(model)["dense_4"].coefficients["l2"] = 0.001
    ```

    They are this model's own: one that is made from it starts with their
    values, and setting them changes no other.

    Args:
        model: Any `keras.Model`.

    Returns:
        Dictionary from path to `PenalizedLayer`, in model order.
    """
    return {
        ref.path: ref.layer
        for ref in layer_refs(model)
        if isinstance(ref.layer, PenalizedLayer)
    }


def check_built(model: Any) -> None:
    """Refuse what is no built `keras.Model`.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If it is not built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Invalid type received for argument `model`. Expected a built "
            f"keras.Model. Received: model={model!r} (of type "
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
            "share_weights=True for a model that Keras cannot save and load, "
            f"which a copy takes. Received: share_weights=False ({error})"
        ) from error
