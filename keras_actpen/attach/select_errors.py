"""Why an entry of `layers` selects nothing, and what to write instead."""

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from keras_actpen.attach.held_layers import unwrapped
from keras_actpen.attach.layer_refs import LayerRef

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


def ambiguous(found: list[LayerRef], entry: str, received: str) -> ValueError:
    """The error of a name that several layers have."""
    paths = [ref.path for ref in found]
    advice = "Write one of these paths, or a list of several"
    if all(
        any(fnmatch.fnmatchcase(one, f"*/{entry}") for one in ref.paths)
        for ref in found
    ):
        advice += f"; layers='*/{entry}' is all of them"
    advice += "."
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
        "a layer that computes something; inputs cannot be penalized",
        f"{received}, an input layer",
        f"Write the first layer after it: {after[0].path!r}."
        if after
        else "The model has no layer after it.",
    )


def no_match(
    model: keras.Model,
    available: list[LayerRef],
    inside: list[LayerRef],
    entry: Any,
    received: str,
) -> ValueError:
    """The error of an entry that matches nothing."""
    paths = [ref.path for ref in available]
    suited = [ref for ref in inside if not _is_in_a_loop(ref)]
    near = _near_misses([*available, *suited], entry)
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


def _is_in_a_loop(ref: LayerRef) -> bool:
    """Whether a layer is the cell of an RNN, which cannot be penalized."""
    stepped_by = ref.inner.stepped_by if ref.inner is not None else None
    return isinstance(stepped_by, keras.layers.RNN) and not stepped_by.unroll


def _full(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _near_misses(available: list[LayerRef], entry: Any) -> list[str]:
    """At most three paths, for a class class names, that look like `entry`."""
    targets: dict[str, str] = {}
    if isinstance(entry, type):
        wanted = [entry.__name__]
        for ref in available:
            kind = type(unwrapped(ref.layer))
            targets.setdefault(
                kind.__name__.lower(),
                # A class of the same name comes from another module.
                f"{_full(kind)} instead of {_full(entry)}"
                if kind.__name__ == entry.__name__
                else kind.__name__,
            )
    else:
        text = getattr(entry, "pattern", getattr(entry, "name", entry))
        if not isinstance(text, str):
            return []
        text = re.sub(r"[*?\[\]]", "", text)
        wanted = [text, text.rpartition("/")[2]]
        for ref in available:
            targets.setdefault(ref.path.lower(), repr(ref.path))
        for ref in available:
            for name in ref.names:
                targets.setdefault(name.lower(), repr(ref.path))
    near: list[str] = []
    for text in wanted:
        close = difflib.get_close_matches(text.lower(), targets)
        near += [targets[key] for key in close]
    if not near and not isinstance(entry, type):
        near = [path for name, path in targets.items() if wanted[-1] in name]
    return list(dict.fromkeys(near))[:3]
