"""Names, globs, regexes, classes and predicates -> layers of a model."""

import fnmatch
import functools
import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras

from keras_actpen.attach.held_layers import unwrapped, users_layer
from keras_actpen.attach.layer_refs import LayerRef, inner_refs, layer_refs
from keras_actpen.attach.select_errors import (
    ambiguous,
    inputs,
    invalid,
    is_input,
    no_match,
    shown,
)
from keras_actpen.penalties.validation import printable

Layer = keras.layers.Layer
Entry: TypeAlias = (
    str | int | Layer | type[Any] | re.Pattern[str] | Callable[[Layer], bool]
)
# What an argument `layers` may be, see `select`.
Entries: TypeAlias = Entry | Sequence[Entry]


@dataclass(frozen=True, eq=False)
class Found:
    """A layer that an entry of `layers` describes.

    Attributes:
        ref: Where it is.
        pattern: The entry, as errors show it, if it may match many: a glob, a
            regex, a class or a function; None if it says which layer.
    """

    ref: LayerRef
    pattern: str | None


def select(model: keras.Model, layers: Entries) -> list[LayerRef]:
    """Find the layers that `layers` describes, see `find`."""
    return [one.ref for one in find(model, layers)]


def select_among(
    model: keras.Model, entry: Any, refs: list[LayerRef]
) -> list[LayerRef]:
    """Find what one entry of `layers` describes, some of the layers first.

    Args:
        model: The model.
        entry: The entry.
        refs: These layers, such as those that are penalized: a pattern then
            means no others, and those inside layers too.

    Raises:
        TypeError, ValueError: As `find`, if none of them matches.
    """
    if isinstance(entry, numbers.Integral | list | tuple):
        return select(model, entry)
    matches = _matcher(entry, "layers")
    received = f"layers={shown(entry)}"
    return _matching(refs, entry, matches, received) or select(model, entry)


def find(model: keras.Model, layers: Entries) -> list[Found]:
    """Find the layers that `layers` describes, and how.

    Args:
        model: Any Keras model.
        layers: A whole path (`"encoder/dense_4"`); a name, searched at every
            depth, where a layer of `model` itself wins and any other name
            must be unique; a glob, matched against names, or against whole
            paths if it has a `/` (there `*` matches slashes too); a compiled
            regex, matched against whole paths; a layer; a class; a function
            `f(layer) -> bool`; an index as in `model.get_layer(index=)`; or a
            list or tuple of these. The name of a nested model selects that
            model's own output. Where an entry matches no layer that the model
            itself calls, it is looked for inside these: by attributes
            (`"block/hidden"`) or names.

    Returns:
        The layers in model order, each once.

    Raises:
        TypeError: If `layers` or one of its entries is none of the above.
        ValueError: If an entry matches no layer or an input, or if a name is
            ambiguous.

    Example:
        >>> hidden = keras.layers.Dense(2, name="dense")
        >>> encoder = keras.Sequential([hidden], name="encoder")
        >>> found = find(keras.Sequential([encoder]), "d*")
        >>> [one.ref.path for one in found]
        ['encoder/dense']
    """
    available = layer_refs(model)
    entries = {"layers": layers}
    if isinstance(layers, Sequence) and not isinstance(
        layers, str | bytes | bytearray | memoryview
    ):
        entries = {f"layers[{i}]": entry for i, entry in enumerate(layers)}
    if not entries:
        raise invalid(
            "at least one layer",
            f"layers={layers!r}",
            "Write layers='*' for all layers.",
        )
    inside = functools.cache(lambda: inner_refs(available))
    patterns: dict[LayerRef, str | None] = {}
    for argument, entry in entries.items():
        received = f"{argument}={shown(entry)}"
        chosen = _select_one(model, available, inside, entry, argument)
        pattern = received if _is_pattern(entry, chosen) else None
        for ref in chosen:
            # A layer that is also named counts as named, not as matched.
            patterns[ref] = patterns.get(ref, pattern) and pattern
    order = available
    if any(ref.host is not None for ref in patterns):
        order = [*available, *inside()]
        at = {id(ref): index for index, ref in enumerate(available)}
        order.sort(key=lambda ref: at[id(ref.host or ref)])
    return [Found(ref, patterns[ref]) for ref in order if ref in patterns]


def _is_pattern(entry: Any, chosen: list[LayerRef]) -> bool:
    """Whether an entry says what kind of layers it means, not which one."""
    if isinstance(entry, str):
        return not any(
            entry in ref.paths or entry in ref.names for ref in chosen
        )
    return not isinstance(entry, Layer | int)


def _select_one(
    model: keras.Model,
    available: list[LayerRef],
    inside: Callable[[], list[LayerRef]],
    entry: Any,
    argument: str,
) -> list[LayerRef]:
    """Layers that one entry of `layers` matches, at least one."""
    received = f"{argument}={shown(entry)}"
    if isinstance(entry, numbers.Integral) and not isinstance(entry, bool):
        entry = _layer_at(model, int(entry), received)
    matches = _matcher(entry, argument)
    # Inside others last: what selects layers of the model itself selects no
    # others.
    for refs in (lambda: available, inside):
        found = _matching(refs(), entry, matches, received)
        if found:
            return found
    # A predicate is the user's code: it sees attachable layers only.
    if isinstance(entry, str | Layer | type | re.Pattern):
        for ref in inputs(model, available):
            if matches(ref):
                raise is_input(ref, available, received)
    raise no_match(model, available, inside(), entry, received)


def _matching(
    refs: list[LayerRef],
    entry: Any,
    matches: Callable[[LayerRef], bool],
    received: str,
) -> list[LayerRef]:
    """Those of some layers that one entry matches, maybe none."""
    if isinstance(entry, str):
        # A layer's name may hold the characters of a glob: exact comes first.
        found = [ref for ref in refs if entry in ref.paths]
        found = found or [ref for ref in refs if entry in ref.names]
        if len(found) > 1:
            raise ambiguous(found, entry, received)
        if found:
            return found
    return [ref for ref in refs if matches(ref)]


def _matcher(entry: Any, argument: str) -> Callable[[LayerRef], bool]:
    """The test that an entry of `layers` stands for."""
    if isinstance(entry, str) and entry:
        glob = any(character in entry for character in "*?[")

        def matches(text: str) -> bool:
            return text == entry or (glob and fnmatch.fnmatchcase(text, entry))

        if "/" in entry:
            return lambda ref: any(map(matches, ref.paths))
        return lambda ref: any(map(matches, ref.names))
    if isinstance(entry, str):
        raise invalid(
            "a non-empty string",
            f"{argument}=''",
            "Write a layer's name, path or glob, for example "
            f"{argument}='dense_4'.",
        )
    if isinstance(entry, Layer):
        return lambda ref: users_layer(ref.layer) is users_layer(entry)
    if isinstance(entry, type):
        return lambda ref: (
            isinstance(ref.layer, entry)
            or isinstance(unwrapped(ref.layer), entry)
        )
    if isinstance(entry, re.Pattern) and isinstance(entry.pattern, str):
        return lambda ref: any(map(entry.fullmatch, ref.paths))
    if callable(entry):
        return lambda ref: bool(entry(users_layer(ref.layer)))
    raise TypeError(
        f"Invalid type received for argument `layers`. Expected a layer's "
        "name, path or glob, a layer, a layer class, a compiled regex, a "
        "function f(layer) -> bool, an index, or a list or tuple of these, "
        f"for example {argument}='dense_4'. Received: "
        f"{argument}={printable(entry)} (of type {type(entry).__name__})"
    )


def _layer_at(model: keras.Model, index: int, received: str) -> Layer:
    """`model.get_layer(index=index)` with a check of the range."""
    count = len(model.layers)
    if not -count <= index < count:
        raise invalid(
            f"an index that model {model.name!r} has",
            received,
            f"Write one from {-count} to {count - 1}."
            if count
            else "The model has no layers.",
        )
    return model.layers[index]
