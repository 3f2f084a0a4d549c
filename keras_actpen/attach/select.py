"""Names, globs, regexes, classes and predicates -> layers of a model."""

import fnmatch
import numbers
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

from keras_actpen.attach.layer_refs import (
    LayerRef,
    layer_refs,
    unwrapped,
    users_layer,
)
from keras_actpen.attach.select_errors import (
    ambiguous,
    hidden,
    inputs,
    invalid,
    is_input,
    no_match,
    out_of_reach,
    shown,
)
from keras_actpen.penalties.validation import printable

Layer = keras.layers.Layer
Entry: TypeAlias = (
    str | int | Layer | type[Any] | re.Pattern[str] | Callable[[Layer], bool]
)
# What an argument `layers` may be, see `select`.
Entries: TypeAlias = Entry | Sequence[Entry]


def select(model: keras.Model, layers: Entries) -> list[LayerRef]:
    """Find the layers that `layers` describes.

    Args:
        model: Any Keras model.
        layers: A whole path (`"encoder/dense_4"`); a name, searched at every
            depth, where a layer of `model` itself wins and any other name
            must be unique; a glob, matched against names, or against whole
            paths if it has a `/` (there `*` matches slashes too); a compiled
            regex, matched against whole paths; a layer; a class; a function
            `f(layer) -> bool`; an index as in `model.get_layer(index=)`; or a
            list or tuple of these. The name of a nested model selects that
            model's own output.

    Returns:
        The layers in model order, each once.

    Raises:
        TypeError: If `layers` or one of its entries is none of the above.
        ValueError: If an entry matches no layer, an input or a layer inside
            a composite layer, or if a name is ambiguous.

    Example:
        >>> hidden = keras.layers.Dense(2, name="dense")
        >>> encoder = keras.Sequential([hidden], name="encoder")
        >>> [ref.path for ref in select(keras.Sequential([encoder]), "d*")]
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
    chosen: set[LayerRef] = set()
    for argument, entry in entries.items():
        chosen.update(_select_one(model, available, entry, argument))
    return [ref for ref in available if ref in chosen]


def _select_one(
    model: keras.Model, available: list[LayerRef], entry: Any, argument: str
) -> list[LayerRef]:
    """Sites that one entry of `layers` matches, at least one."""
    received = f"{argument}={shown(entry)}"
    if isinstance(entry, numbers.Integral) and not isinstance(entry, bool):
        entry = _layer_at(model, int(entry), received)
    if isinstance(entry, str):
        # A layer's name may hold the characters of a glob: exact comes first.
        found = [ref for ref in available if entry in ref.paths]
        found = found or [s for s in available if s.layer.name == entry]
        if len(found) > 1:
            raise ambiguous(found, received)
        if found:
            return found
    matches = _matcher(entry, argument)
    found = [ref for ref in available if matches(ref)]
    if found:
        return found
    # A predicate is the user's code: it sees attachable layers only.
    if isinstance(entry, str | Layer | type | re.Pattern):
        for ref in inputs(model, available):
            if matches(ref):
                raise is_input(ref, available, received)
        outer = [o.path for ref, o in hidden(available) if matches(ref)]
        if outer:
            raise out_of_reach(list(dict.fromkeys(outer)), received)
    raise no_match(model, available, entry, received)


def _matcher(entry: Any, argument: str) -> Callable[[LayerRef], bool]:
    """The test that an entry of `layers` stands for."""
    if isinstance(entry, str) and entry:
        glob = any(character in entry for character in "*?[")

        def matches(text: str) -> bool:
            return text == entry or (glob and fnmatch.fnmatchcase(text, entry))

        if "/" in entry:
            return lambda ref: any(map(matches, ref.paths))
        return lambda ref: matches(ref.layer.name)
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
