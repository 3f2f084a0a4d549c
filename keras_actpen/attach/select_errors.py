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
        site.owner: site.path.removesuffix(site.layer.name)
        for site in reversed(available)
    }
    for owner, prefix in prefixes.items():
        # `Sequential.layers` leaves its input layer out.
        for layer in _sublayers(owner):
            if isinstance(layer, InputLayer):
                yield LayerRef(prefix + layer.name, layer, owner)


def hidden(available: list[LayerRef]) -> Iterator[tuple[LayerRef, LayerRef]]:
    """Yield layers inside other layers, each with the site around it."""
    owners = {site.owner for site in available}
    seen = {id(owner) for owner in owners}
    for site in available:
        seen |= {id(site.layer), id(unwrapped(site.layer))}
    for site in available:
        if unwrapped(site.layer) in owners:
            continue
        queue = [LayerRef(site.path, unwrapped(site.layer), site.owner)]
        for place in queue:
            for layer in _sublayers(place.layer):
                if id(layer) in seen:
                    continue
                seen.add(id(layer))
                path = f"{place.path}/{layer.name}"
                queue.append(LayerRef(path, layer, site.owner))
                yield queue[-1], site


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
    paths = [site.path for site in found]
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
    place: LayerRef, available: list[LayerRef], received: str
) -> ValueError:
    """The error of an input layer."""
    tensors = {id(tensor) for tensor in keras.tree.flatten(place.layer.output)}
    inside = [site for site in available if site.owner is place.owner]
    after = inside[:1]
    for site in inside:
        try:
            read = keras.tree.flatten(site.layer.input)
        except (AttributeError, ValueError):  # never called on a KerasTensor
            continue
        if any(id(tensor) in tensors for tensor in read):
            after = [site]
            break
    return invalid(
        "a layer that computes something, inputs cannot be penalised",
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
    paths = [site.path for site in available]
    near = _near_misses(available, entry)
    advice = f"Did you mean {' or '.join(near)}? " if near else ""
    if paths:
        advice += f"The paths of its layers are: {listed(paths)}."
    else:
        advice += "The model has no layers that could be penalised."
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
        for site in available:
            name = type(unwrapped(site.layer)).__name__
            targets.setdefault(name.lower(), name)
    else:
        text = getattr(entry, "pattern", getattr(entry, "name", entry))
        if not isinstance(text, str):
            return []
        text = re.sub(r"[*?\[\]]", "", text)
        wanted = [text, text.rpartition("/")[2]]
        for site in available:
            targets.setdefault(site.path.lower(), repr(site.path))
        for site in available:
            targets.setdefault(site.layer.name.lower(), repr(site.path))
    near: list[str] = []
    for text in wanted:
        close = difflib.get_close_matches(text.lower(), targets)
        near += [targets[key] for key in close]
    return list(dict.fromkeys(near))[:3]
