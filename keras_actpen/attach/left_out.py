"""What a pattern matches and no penalty can be attached to."""

from collections.abc import Iterable

import keras

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.call_arguments import received
from keras_actpen.attach.capture import check_activation, tensors_at
from keras_actpen.attach.held_layers import unwrapped
from keras_actpen.attach.inner_specs import inner_specs, known_arguments
from keras_actpen.attach.layer_refs import LayerRef
from keras_actpen.attach.penalized_layer import penalized
from keras_actpen.attach.plan import Plan
from keras_actpen.attach.select import Found
from keras_actpen.attach.user_warning import warn_user
from keras_actpen.attach.weights import trained_weight_of


def without_unsuited(
    model: keras.Model, found: list[Found], spec: ActivationSpec
) -> list[LayerRef]:
    """Leave out what a glob or the like matches and cannot be looked at.

    Says once what is left out. A layer that is named stays: attaching to it
    raises the error.

    Args:
        model: The model.
        found: What `find` has found.
        spec: Where the layers are to be looked at.

    Raises:
        ValueError: If nothing of what an entry matches can be looked at.
    """
    patterns = [one.ref for one in found if one.pattern is not None]
    reasons = _reasons(patterns, spec)
    if not reasons:
        return [one.ref for one in found]
    for pattern in dict.fromkeys(one.pattern for one in found):
        matched = [one.ref for one in found if one.pattern == pattern]
        unsuited = [ref for ref in matched if ref.key in reasons]
        if pattern is None or not unsuited:
            continue
        if len(unsuited) == len(matched):
            raise ValueError(
                f"{reasons[unsuited[0].key]}. The same holds for every layer "
                f"that {pattern} matches"
            )
        warn_user(
            f"{pattern} leaves out {len(unsuited)} of the {len(matched)} "
            f"layers that it matches in model {model.name!r}, because they "
            f"have no {spec} that can be looked at: "
            f"{_listed(unsuited, reasons)}"
        )
    return [one.ref for one in found if one.ref.key not in reasons]


def _listed(refs: list[LayerRef], reasons: dict[tuple[int, str], str]) -> str:
    """Paths with the reasons, not more than a reader takes in."""
    shown = []
    for ref in refs[:5]:
        reason = reasons[ref.key].rpartition("Received: ")[2]
        # An error about `on` alone says no more than `on`.
        of_layer = "" if reason.startswith("on=") else f" ({reason})"
        shown.append(f"{ref.path!r}{of_layer}")
    if len(refs) > len(shown):
        shown.append(f"and {len(refs) - len(shown)} more")
    return "; ".join(shown)


def _reasons(
    refs: list[LayerRef], spec: ActivationSpec
) -> dict[tuple[int, str], str]:
    """Why some of the layers cannot be looked at."""
    reasons = {}
    hosts: dict[int, list[LayerRef]] = {}
    for ref in refs:
        if ref.host is not None and not spec.is_weight:
            hosts.setdefault(id(ref.host.layer), []).append(ref)
            continue
        try:
            _look_at(unwrapped(ref.layer), ref.layer, spec)
        except ValueError as error:
            reasons[ref.key] = str(error)
    for inside in hosts.values():
        reasons |= _reasons_inside(inside, spec)
    return reasons


def _look_at(
    root: keras.layers.Layer, layer: keras.layers.Layer, spec: ActivationSpec
) -> None:
    """Raise the error of a layer that cannot be looked at, if that is known."""
    if spec.is_weight:
        trained_weight_of(root, spec.on)
        return
    try:
        output = layer.output
    except (AttributeError, ValueError):  # never called on symbolic tensors
        return
    if spec.on == "preactivation":
        check_activation(root)
        return
    if spec.on == "input":
        output = received(root, *known_arguments(layer))
    elif spec.output not in (0, "all"):
        return  # `Layer.output` is flat
    tensors_at(spec, root, output, None)


def _reasons_inside(
    refs: Iterable[LayerRef], spec: ActivationSpec
) -> dict[tuple[int, str], str]:
    """`_reasons` of layers inside one layer."""
    by_inner = {}
    for ref in refs:
        host = ref.host.layer
        new = penalized(ref.inner.layer, Plan(spec=spec), ref.inner)
        by_inner[id(new)] = (ref, new)
    arguments = known_arguments(host)
    if arguments is None:
        return {}
    tried = inner_specs(
        unwrapped(host), [new for _, new in by_inner.values()], *arguments
    )
    return {
        by_inner[id(new)][0].key: str(calls)
        for new, calls in tried
        if isinstance(calls, ValueError)
    }
