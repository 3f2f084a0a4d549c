"""Names, globs, regexes, classes and predicates -> layers of a model."""

import difflib
import fnmatch
import numbers
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.layers import InputLayer, Layer

Entry = str | int | Layer | type | re.Pattern | Callable[[Layer], bool]

MAX_PATHS = 40  # listed in an error before "… and N more"


@dataclass(frozen=True, eq=False)
class Site:
    """A place in a model where a penalty can be attached.

    Attributes:
        path: Names of the parents and of the layer, joined by `/`. The model
            that was searched is not part of it.
        layer: The layer, or the wrapper that stands in its place.
        owner: The model whose `layers` hold it.
        aliases: Further paths to the same layer, where models share it.
    """

    path: str
    layer: Layer
    owner: keras.Model
    aliases: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that lead to the layer."""
        return (self.path, *self.aliases)


def is_graph_model(model: Any) -> bool:
    """Tell whether `model` runs its graph of layers, so that it can be cloned.

    True for Sequential and Functional models, also of the user's own class;
    False for any class that brings its own `call`, graph or not.
    """
    if not isinstance(model, keras.Sequential | keras.Function):
        return False
    definer = next(c for c in type(model).__mro__ if "call" in vars(c))
    return definer.__module__.partition(".")[0] == "keras"


def sites(model: keras.Model) -> list[Site]:
    """List the places of `model` where a penalty can be attached.

    Layers of nested Functional and Sequential models count, inputs and the
    inner layers of composite layers do not. Neither do the layers of a
    subclassed model inside a Functional or Sequential one: no clone replaces
    them without changing the model that was cloned.

    Args:
        model: Any Keras model.

    Returns:
        One site a layer, in the order of `model.layers`, a nested model
        before its own layers.

    Raises:
        TypeError: If `model` is no `keras.Model`.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Invalid type received for argument `model`. Expected a "
            f"keras.Model. Received: model={model!r} (of type "
            f"{type(model).__name__})"
        )
    found: dict[int, tuple[Layer, keras.Model, list[str]]] = {}
    for path, layer, owner in _walk(model):
        paths = found.setdefault(id(layer), (layer, owner, []))[2]
        if path not in paths:
            paths.append(path)
    return [
        Site(paths[0], layer, owner, tuple(paths[1:]))
        for layer, owner, paths in found.values()
    ]


def select(model: keras.Model, layers: Entry | Sequence[Entry]) -> list[Site]:
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
        The sites in model order, each once.

    Raises:
        TypeError: If `layers` or one of its entries is none of the above.
        ValueError: If an entry matches no layer, an input or a layer inside
            a composite layer, or if a name is ambiguous.

    Example:
        >>> hidden = keras.layers.Dense(2, name="dense")
        >>> encoder = keras.Sequential([hidden], name="encoder")
        >>> [site.path for site in select(keras.Sequential([encoder]), "d*")]
        ['encoder/dense']
    """
    available = sites(model)
    entries = {"layers": layers}
    if isinstance(layers, Sequence) and not isinstance(
        layers, str | bytes | bytearray | memoryview
    ):
        entries = {f"layers[{i}]": entry for i, entry in enumerate(layers)}
    if not entries:
        raise _invalid(
            "at least one layer",
            f"layers={layers!r}",
            "Write layers='*' for all layers.",
        )
    chosen: set[Site] = set()
    for argument, entry in entries.items():
        chosen.update(_select_one(model, available, entry, argument))
    return [site for site in available if site in chosen]


def _walk(
    model: keras.Model,
    prefix: str = "",
    ancestors: tuple[keras.Model, ...] = (),
    in_place: bool = True,
) -> Iterator[tuple[str, Layer, keras.Model]]:
    """Yield path, layer and owner, once for every path.

    `in_place` is False below the first graph model: from there on only
    models that can be cloned are entered.
    """
    ancestors = (*ancestors, model)
    in_place = in_place and not is_graph_model(model)
    for layer in model.layers:
        if isinstance(layer, InputLayer):
            continue
        yield prefix + layer.name, layer, model
        inner = _identity(layer)
        if any(inner is ancestor for ancestor in ancestors):
            continue  # a sub-model that holds its parent as an attribute
        if is_graph_model(inner) or (
            in_place and isinstance(inner, keras.Model)
        ):
            yield from _walk(
                inner, f"{prefix}{layer.name}/", ancestors, in_place
            )


def _identity(layer: Layer) -> Layer:
    """The user's layer: what a wrapper of the same name wraps, or `layer`."""
    inner = getattr(layer, "wrapped_layer", layer)
    same = isinstance(inner, Layer) and inner.name == layer.name
    return inner if same else layer


def _select_one(
    model: keras.Model, available: list[Site], entry: Any, argument: str
) -> list[Site]:
    """Sites that one entry of `layers` matches, at least one."""
    received = f"{argument}={_shown(entry)}"
    if isinstance(entry, numbers.Integral) and not isinstance(entry, bool):
        entry = _layer_at(model, int(entry), received)
    if isinstance(entry, str):
        # A layer's name may hold the characters of a glob: exact comes first.
        found = [site for site in available if entry in site.paths]
        found = found or [s for s in available if s.layer.name == entry]
        if len(found) > 1:
            raise _ambiguous(found, received)
        if found:
            return found
    matches = _matcher(entry, argument)
    found = [site for site in available if matches(site)]
    if found:
        return found
    # A predicate is the user's code: it sees attachable layers only.
    if isinstance(entry, str | Layer | type | re.Pattern):
        for place in _inputs(model, available):
            if matches(place):
                raise _is_input(place, available, received)
        outer = [o.path for place, o in _hidden(available) if matches(place)]
        if outer:
            raise _out_of_reach(list(dict.fromkeys(outer)), received)
    raise _no_match(model, available, entry, received)


def _matcher(entry: Any, argument: str) -> Callable[[Site], bool]:
    """The test that an entry of `layers` stands for."""
    if isinstance(entry, str) and entry:
        glob = any(character in entry for character in "*?[")

        def matches(text: str) -> bool:
            return text == entry or (glob and fnmatch.fnmatchcase(text, entry))

        if "/" in entry:
            return lambda site: any(map(matches, site.paths))
        return lambda site: matches(site.layer.name)
    if isinstance(entry, str):
        raise _invalid(
            "a non-empty string",
            f"{argument}=''",
            "Write a layer's name, path or glob, for example "
            f"{argument}='dense_4'.",
        )
    if isinstance(entry, Layer):
        return lambda site: _identity(site.layer) is _identity(entry)
    if isinstance(entry, type):
        return lambda site: (
            isinstance(site.layer, entry)
            or isinstance(_identity(site.layer), entry)
        )
    if isinstance(entry, re.Pattern) and isinstance(entry.pattern, str):
        return lambda site: any(map(entry.fullmatch, site.paths))
    if callable(entry):
        return lambda site: bool(entry(_identity(site.layer)))
    raise TypeError(
        f"Invalid type received for argument `layers`. Expected a layer's "
        "name, path or glob, a layer, a layer class, a compiled regex, a "
        "function f(layer) -> bool, an index, or a list or tuple of these, "
        f"for example {argument}='dense_4'. Received: {argument}={entry!r} "
        f"(of type {type(entry).__name__})"
    )


def _layer_at(model: keras.Model, index: int, received: str) -> Layer:
    """`model.get_layer(index=index)` with a check of the range."""
    count = len(model.layers)
    if not -count <= index < count:
        raise _invalid(
            f"an index that model {model.name!r} has",
            received,
            f"Write one from {-count} to {count - 1}."
            if count
            else "The model has no layers.",
        )
    return model.layers[index]


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


def _inputs(model: keras.Model, available: list[Site]) -> Iterator[Site]:
    """Input layers of the model and of the nested ones that are entered."""
    prefixes = {model: ""} | {
        site.owner: site.path.removesuffix(site.layer.name)
        for site in reversed(available)
    }
    for owner, prefix in prefixes.items():
        # `Sequential.layers` leaves its input layer out.
        for layer in _sublayers(owner):
            if isinstance(layer, InputLayer):
                yield Site(prefix + layer.name, layer, owner)


def _hidden(available: list[Site]) -> Iterator[tuple[Site, Site]]:
    """Yield layers inside other layers, each with the site around it."""
    owners = {site.owner for site in available}
    seen = {id(owner) for owner in owners}
    for site in available:
        seen |= {id(site.layer), id(_identity(site.layer))}
    for site in available:
        if _identity(site.layer) in owners:
            continue
        queue = [Site(site.path, _identity(site.layer), site.owner)]
        for place in queue:
            for layer in _sublayers(place.layer):
                if id(layer) in seen:
                    continue
                seen.add(id(layer))
                path = f"{place.path}/{layer.name}"
                queue.append(Site(path, layer, site.owner))
                yield queue[-1], site


def _shown(entry: Any) -> str:
    return entry.__name__ if isinstance(entry, type) else repr(entry)


def _listed(paths: Sequence[str]) -> str:
    text = ", ".join(map(repr, paths[:MAX_PATHS]))
    more = len(paths) - MAX_PATHS
    return f"{text}, … and {more} more" if more > 0 else text


def _invalid(expected: str, received: str, advice: str) -> ValueError:
    return ValueError(
        "Invalid value received for argument `layers`. Expected "
        f"{expected}. Received: {received}. {advice}"
    )


def _ambiguous(found: list[Site], received: str) -> ValueError:
    paths = [site.path for site in found]
    if len(set(paths)) < len(paths):
        # Only a subclassed model lets two layers have one name.
        advice = "Give the layer object itself, or rename the layers."
    else:
        advice = "Write one of these paths, or a list of several."
    return _invalid(
        "a name that one layer has",
        f"{received}, which {len(paths)} layers have: {_listed(paths)}",
        advice,
    )


def _is_input(place: Site, available: list[Site], received: str) -> ValueError:
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
    return _invalid(
        "a layer that computes something, inputs cannot be penalised",
        f"{received}, an input layer",
        f"Write the first layer after it: {after[0].path!r}."
        if after
        else "The model has no layer after it.",
    )


def _out_of_reach(outer: list[str], received: str) -> ValueError:
    return _invalid(
        "a layer that the model itself calls",
        f"{received}, which is inside another layer, where no penalty can "
        "be attached",
        f"Write the outer layer instead: {_listed(outer)}.",
    )


def _no_match(
    model: keras.Model, available: list[Site], entry: Any, received: str
) -> ValueError:
    paths = [site.path for site in available]
    near = _near_misses(available, entry)
    advice = f"Did you mean {' or '.join(near)}? " if near else ""
    if paths:
        advice += f"The paths of its layers are: {_listed(paths)}."
    else:
        advice += "The model has no layers that could be penalised."
    return _invalid(
        f"one or more layers of model {model.name!r}",
        f"{received}, which matches none",
        advice,
    )


def _near_misses(available: list[Site], entry: Any) -> list[str]:
    """At most three paths, for a class class names, that look like `entry`."""
    targets: dict[str, str] = {}
    if isinstance(entry, type):
        wanted = [entry.__name__]
        for site in available:
            name = type(_identity(site.layer)).__name__
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
