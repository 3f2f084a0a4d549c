"""Terms of a model's penalised layers, and how their coefficients move."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras

from keras_actpen import backend
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.select import Entries, select


@dataclass(frozen=True)
class TermRef:
    """A term of a penalised layer of a model.

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
        return self.layer.actpen.terms[self.name].place.on

    @property
    def units(self) -> int | None:
        """Size of the last axis of what it penalizes, if that is known."""
        return self.layer.actpen.place_units.get(
            self.layer.actpen.terms[self.name].place
        )


def select_terms(
    model: keras.Model, layers: Entries, terms: Sequence[str] = ("*",)
) -> list[TermRef]:
    """Find terms of the penalised layers of a model.

    Args:
        model: A model with penalised layers.
        layers: Which layers, as in `attach_penalty`.
        terms: Names or globs of terms.

    Returns:
        The terms in model order.

    Raises:
        ValueError: If an entry of `layers` matches no penalised layer or one
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
            "penalised layers: call `attach_penalty(model, ...)` first and "
            "fit the model that it returns. Received: model "
            f"{model.name!r} without any"
        )
    entries = layers if isinstance(layers, list | tuple) else [layers]
    chosen: set[str] = set()
    for entry in entries or [layers]:
        found = {site.path for site in select(model, entry)} & set(available)
        if not found:
            raise ValueError(
                "Invalid value received for argument `layers`. Expected "
                f"penalised layers, which in model {model.name!r} are "
                f"{list(available)}. Received: layers={entry!r}, which "
                "matches only layers without a penalty"
            )
        chosen |= found
    sites = [
        TermRef(path, name, layer)
        for path, layer in available.items()
        if path in chosen
        for name in layer.actpen.terms
    ]
    for term in terms:
        if not any(_matches(site.name, term) for site in sites):
            names = list(dict.fromkeys(site.name for site in sites))
            raise ValueError(
                "Invalid value received for argument `terms`. Expected names "
                f"or globs of terms of the layers {sorted(chosen)}, which are "
                f"{names}. Received: terms={term!r}, which matches none"
            )
    return [s for s in sites if any(_matches(s.name, term) for term in terms)]


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
    for site, value in changed.items():
        site.layer.actpen.coefficients[site.name] = value


def log_coefficients(
    sites: Sequence[TermRef], logs: dict[str, float] | None
) -> None:
    """Put the current coefficients into the logs of an epoch."""
    if logs is not None:
        for site in sites:
            logs[f"penalty.coefficient/{site.key}"] = site.coefficient


def find_term(model: keras.Model, term: str) -> TermRef:
    """Find one term of a model.

    Args:
        model: A model with penalised layers.
        term: `"path/term"`, or the name of a term that only one layer has.

    Raises:
        ValueError: If no term or more than one is called so.
    """
    sites = select_terms(model, "*")
    found = [site for site in sites if site.key == term]
    found = found or [site for site in sites if site.name == term]
    if len(found) != 1:
        which = f"which {len(found)} layers have" if found else "which is none"
        raise ValueError(
            "Invalid value received for argument `term`. Expected one of the "
            f"terms of model {model.name!r}: {[site.key for site in sites]}. "
            f"Received: term={term!r}, {which}"
        )
    return found[0]


def _matches(name: str, term: str) -> bool:
    return name == term or fnmatch.fnmatchcase(name, term)
