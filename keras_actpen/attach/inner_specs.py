"""What layers inside a layer would show, found by a trace of that layer."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import tree

from keras_actpen import internals
from keras_actpen.attach.capture import Watched
from keras_actpen.attach.inner_calls import (
    Penalized,
    cannot_leave,
    listening_to,
    not_called,
    watched_by,
)
from keras_actpen.attach.padding import MasksAround
from keras_actpen.backend.tensors import Tensor

Layer = keras.layers.Layer
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def known_arguments(layer: Layer) -> Arguments | None:
    """Symbolic arguments that a layer was called on, or built for.

    None if it has not noted any.
    """
    arguments = internals.symbolic_arguments(layer)
    if arguments is not None:
        return arguments
    config = layer.get_build_config()
    if config is None:
        return None
    shapes = config.get("shapes_dict", {"inputs": config.get("input_shape")})
    if None in shapes.values():  # a `get_build_config` of the user's own
        return None
    args = tuple(
        tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, layer.compute_dtype), one
        )
        for one in shapes.values()
    )
    return args, {}


def inner_specs(
    host: Layer,
    inner: Sequence[Penalized],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[tuple[Penalized, list[Watched] | ValueError]]:
    """Specs of what layers inside a layer show, for symbolic arguments.

    The layer is traced as in training.

    Returns:
        Each of the layers with what each of its calls shows, or with the
        reason why it cannot be penalized.
    """
    found: dict[int, ValueError | list[Watched]] = {}
    listening = []
    for one in inner:
        stepped_by = one.actpen.within.stepped_by
        if not one.actpen.of_calls:
            found[id(one)] = [{}]
        elif isinstance(stepped_by, keras.layers.RNN) and not stepped_by.unroll:
            # A Python loop on torch only.
            found[id(one)] = cannot_leave(one)
        else:
            listening.append(one)
    if listening:
        found |= _tried(host, listening, args, kwargs)
    return [(one, found[id(one)]) for one in inner]


def _tried(
    host: Layer,
    inner: list[Penalized],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[int, list[Watched] | ValueError]:
    """What the calls of some layers show in a trace of the layer around them.

    A layer that no trace can run shows nothing.
    """
    refused: dict[int, ValueError] = {}

    def traced(*args: Any, **kwargs: Any) -> list[list[list[list[Tensor]]]]:
        with listening_to(inner) as listeners:
            host(*args, **kwargs)
        around = MasksAround(host, args, kwargs)
        shown = []
        for one in listeners:
            calls = []
            try:
                if one.refusal is not None:
                    raise one.refusal
                calls = watched_by(one, around)
                if not calls:
                    raise not_called(one.layer)
            except ValueError as error:
                refused[id(one.layer)] = error
            shown.append(
                [
                    [[x for x, _ in tensors] for tensors in call.values()]
                    for call in calls
                ]
            )
        return shown

    if "training" in host.call_signature_parameters:
        kwargs = {"training": True, **kwargs}
    try:
        shown = internals.traced_spec(traced, args, kwargs)
    except Exception:  # of the user's code: only its own call can tell
        return {id(one): [] for one in inner}
    found: dict[int, list[Watched] | ValueError] = {
        id(one): [
            {
                spec: [(x, None) for x in tensors]
                for spec, tensors in zip(one.actpen.of_calls, call, strict=True)
            }
            for call in calls
        ]
        for one, calls in zip(inner, shown, strict=True)
    }
    return found | refused
