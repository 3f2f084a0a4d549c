"""Why an entry of `layers` selects nothing, and what to write instead."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_actpen.attach.layer_refs import LayerRef, unwrapped

Layer = keras.layers.Layer
InputLayer = keras.layers.InputLayer

MAX_PATHS = 40  # listed in an error before "… and N more"


def _sublayers(layer: Layer) -> Iterator[Layer]:
    """Layers among the attributes of `layer`, in containers too."""
    # The values are kept, because ids are unique among living objects only.
    seen: dict[int, Any] = {}
    queue = list(vars(layer).values())
    for value in queue:
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if isinstance(value, Layer):
            yield value
        elif isinstance(value, Mapping):
            queue.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            queue.extend(value)


def inputs(model: keras.Model, available: list[LayerRef]) -> Iterator[LayerRef]:
    """Input layers of the model and of the nested ones that are entered."""
    prefixes = {model: ""} | {
        ref.owner: ref.path.removesuffix(ref.layer.name)
        for ref in reversed(available)
    }
    for owner, prefix in prefixes.items():
        # `Sequential.layers` leaves its input layer out.
        for layer in _sublayers(owner):
            if isinstance(layer, InputLayer):
                yield LayerRef(prefix + layer.name, layer, owner)


def hidden(available: list[LayerRef]) -> Iterator[tuple[LayerRef, LayerRef]]:
    """Yield layers inside other layers, each with the one around it."""
    owners = {ref.owner for ref in available}
    seen = {id(owner) for owner in owners}
    for ref in available:
        seen |= {id(ref.layer), id(unwrapped(ref.layer))}
    for outer in available:
        if unwrapped(outer.layer) in owners:
            continue
        queue = [LayerRef(outer.path, unwrapped(outer.layer), outer.owner)]
        for ref in queue:
            for layer in _sublayers(ref.layer):
                if id(layer) in seen:
                    continue
                seen.add(id(layer))
                path = f"{ref.path}/{layer.name}"
                queue.append(LayerRef(path, layer, outer.owner))
                yield queue[-1], outer


def shown(entry: Any) -> str:
    """An entry of `layers` as an error shows it."""
    return entry.__name__ if isinstance(entry, type) else repr(entry)


def listed(paths: Sequence[str]) -> str:
    """Paths as an error lists them, not more than `MAX_PATHS`."""
    text = ", ".join(map(repr, paths[:MAX_PATHS]))
    more = len(paths) - MAX_PATHS
    return f"{text}, … and {more} more" if more > 0 else text


def invalid(expected: str, received: str, advice: str) -> ValueError:
    """The error of a wrong value of `layers`."""
    return ValueError(
        "Invalid value received for argument `layers`. Expected "
        f"{expected}. Received: {received}. {advice}"
    )


def ambiguous(found: list[LayerRef], received: str) -> ValueError:
    """The error of a name that several layers have."""
    paths = [ref.path for ref in found]
    if len(set(paths)) < len(paths):
        # Only a subclassed model lets two layers have one name.
        advice = "Give the layer object itself, or rename the layers."
    else:
        advice = "Write one of these paths, or a list of several."
    return invalid(
        "a name that one layer has",
        f"{received}, which {len(paths)} layers have: {listed(paths)}",
        advice,
    )


def is_input(
    ref: LayerRef, available: list[LayerRef], received: str
) -> ValueError:
    """The error of an input layer."""
    tensors = {id(tensor) for tensor in keras.tree.flatten(ref.layer.output)}
    inside = [one for one in available if one.owner is ref.owner]
    after = inside[:1]
    for one in inside:
        try:
            read = keras.tree.flatten(one.layer.input)
        except (AttributeError, ValueError):  # never called on a KerasTensor
            continue
        if any(id(tensor) in tensors for tensor in read):
            after = [one]
            break
    return invalid(
        "a layer that computes something, inputs cannot be penalized",
        f"{received}, an input layer",
        f"Write the first layer after it: {after[0].path!r}."
        if after
        else "The model has no layer after it.",
    )


def out_of_reach(outer: list[str], received: str) -> ValueError:
    """The error of a layer inside another layer."""
    return invalid(
        "a layer that the model itself calls",
        f"{received}, which is inside another layer, where no penalty can "
        "be attached",
        f"Write the outer layer instead: {listed(outer)}.",
    )


def no_match(
    model: keras.Model, available: list[LayerRef], entry: Any, received: str
) -> ValueError:
    """The error of an entry that matches nothing."""
    paths = [ref.path for ref in available]
    near = _near_misses(available, entry)
    advice = f"Did you mean {' or '.join(near)}? " if near else ""
    if paths:
        advice += f"The paths of its layers are: {listed(paths)}."
    else:
        advice += "The model has no layers that could be penalized."
    return invalid(
        f"one or more layers of model {model.name!r}",
        f"{received}, which matches none",
        advice,
    )


def _near_misses(available: list[LayerRef], entry: Any) -> list[str]:
    """At most three paths, for a class class names, that look like `entry`."""
    targets: dict[str, str] = {}
    if isinstance(entry, type):
        wanted = [entry.__name__]
        for ref in available:
            name = type(unwrapped(ref.layer)).__name__
            targets.setdefault(name.lower(), name)
    else:
        text = getattr(entry, "pattern", getattr(entry, "name", entry))
        if not isinstance(text, str):
            return []
        text = re.sub(r"[*?\[\]]", "", text)
        wanted = [text, text.rpartition("/")[2]]
        for ref in available:
            targets.setdefault(ref.path.lower(), repr(ref.path))
        for ref in available:
            targets.setdefault(ref.layer.name.lower(), repr(ref.path))
    near: list[str] = []
    for text in wanted:
        close = difflib.get_close_matches(text.lower(), targets)
        near += [targets[key] for key in close]
    return list(dict.fromkeys(near))[:3]
