"""Terms of a model's penalized layers, and how their coefficients move."""

import contextlib
import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras

from keras_actpen import backend
from keras_actpen.attach.layer_refs import all_refs
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.penalized_layers import penalized_layers
from keras_actpen.attach.select import Entries, select_among


@dataclass(frozen=True)
class TermRef:
    """A term of a penalized layer of a model.

    Attributes:
        path: Path of the layer.
        name: Name of the term.
        layer: The layer.
    """

    path: str
    name: str
    layer: PenalizedLayer

    @property
    def key(self) -> str:
        """The term as `penalty_terms` calls it: `path/term`."""
        return f"{self.path}/{self.name}"

    @property
    def attached(self) -> float:
        """The coefficient that the term was attached with.

        It survives saving and loading beside the current coefficient.
        """
        return self.layer.actpen.terms[self.name].penalty.coefficient

    @property
    def coefficient(self) -> float:
        """The current coefficient."""
        return self.layer.actpen.coefficients[self.name]

    @property
    def on(self) -> str:
        """Where the term looks: `"output"` or another value of `on`."""
        return self.layer.actpen.terms[self.name].spec.on

    @property
    def units(self) -> int | None:
        """Size of the last axis of what it penalizes, if that is known."""
        return self.layer.actpen.spec_units.get(
            self.layer.actpen.terms[self.name].spec
        )


def select_terms(
    model: keras.Model, layers: Entries, terms: Sequence[str] = ("*",)
) -> list[TermRef]:
    """Find terms of the penalized layers of a model.

    Args:
        model: A model with penalized layers.
        layers: Which layers, as in `attach_penalty`.
        terms: Names or globs of terms.

    Returns:
        The terms in model order.

    Raises:
        ValueError: If an entry of `layers` matches no penalized layer or one
            of `terms` no term of them.
    """
    # Watched layers have no terms.
    available = {
        path: layer
        for path, layer in penalized_layers(model).items()
        if layer.actpen.terms
    }
    if not available:
        raise ValueError(
            "Invalid value received for argument `callbacks`. Expected a "
            "callback that moves coefficients only for a model with "
            "penalized layers: call `attach_penalty(model, ...)` first and "
            "fit the model that it returns. Received: model "
            f"{model.name!r} without any"
        )
    entries = layers if isinstance(layers, list | tuple) else [layers]
    attached = [ref for ref in all_refs(model) if ref.path in available]
    chosen: set[str] = set()
    for entry in entries or [layers]:
        selected = select_among(model, entry, attached)
        found = {ref.path for ref in selected} & set(available)
        if not found:
            raise ValueError(
                "Invalid value received for argument `layers`. Expected "
                f"penalized layers, which in model {model.name!r} are "
                f"{list(available)}. Received: layers={entry!r}, which "
                "matches only layers without a penalty"
            )
        chosen |= found
    refs = [
        TermRef(path, name, layer)
        for path, layer in available.items()
        if path in chosen
        for name in layer.actpen.terms
    ]
    for term in terms:
        if not any(_matches(ref.name, term) for ref in refs):
            names = list(dict.fromkeys(ref.name for ref in refs))
            raise ValueError(
                "Invalid value received for argument `terms`. Expected names "
                f"or globs of terms of the layers {sorted(chosen)}, which are "
                f"{names}. Received: terms={term!r}, which matches none"
            )
    return [s for s in refs if any(_matches(s.name, term) for term in terms)]


def move_coefficients(
    model: keras.Model, values: Mapping[TermRef, float]
) -> None:
    """Set coefficients between two steps of a training.

    Args:
        model: The model that is trained.
        values: The new coefficients.
    """
    changed = {s: v for s, v in values.items() if s.coefficient != v}
    if changed:
        # It takes microseconds per variable: not in steps without a change.
        backend.sync_variables(model)
    for ref, value in changed.items():
        ref.layer.actpen.coefficients[ref.name] = value


def log_coefficients(
    refs: Sequence[TermRef], logs: dict[str, float] | None
) -> None:
    """Put the current coefficients into the logs of an epoch."""
    if logs is not None:
        for ref in refs:
            logs[f"penalty.coefficient/{ref.key}"] = ref.coefficient


def find_term(model: keras.Model, term: str) -> TermRef:
    """Find one term of a model.

    Args:
        model: A model with penalized layers.
        term: `"path/term"`, or the name of a term that only one layer has.

    Raises:
        ValueError: If no term or more than one is called so.
    """
    refs = select_terms(model, "*")
    found = [ref for ref in refs if ref.key == term]
    found = found or [ref for ref in refs if ref.name == term]
    if not found and "/" in term:
        # The layer as `attach_penalty` finds it.
        layer, _, name = term.rpartition("/")
        with contextlib.suppress(ValueError):
            found = select_terms(model, layer, [name])
    if len(found) != 1:
        which = (
            f"which {len(found)} layers have"
            if found
            else "which is none of them"
        )
        near = difflib.get_close_matches(term, [ref.key for ref in refs], 1)
        advice = f". Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            "Invalid value received for argument `term`. Expected one of the "
            f"terms of model {model.name!r}: {[ref.key for ref in refs]}. "
            f"Received: term={term!r}, {which}{advice}"
        )
    return found[0]


def _matches(name: str, term: str) -> bool:
    return name == term or fnmatch.fnmatchcase(name, term)
