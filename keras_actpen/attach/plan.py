"""What a layer of a model is to have attached."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_actpen import penalties
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.coefficients import Term
from keras_actpen.internals.deserialization import parts
from keras_actpen.penalties.validation import check_term_name


@dataclass
class Plan:
    """What a layer is to have attached, and the layers inside it.

    Attributes:
        terms: The terms by their names.
        spec: Where the layer is looked at if it has no terms; None if it is
            not, or only what is inside it is.
        coefficients: Current coefficients of some of the terms.
        spec_units: Size of the last axis at each place, as far as it is known.
        spec_shapes: Shapes of the tensors at each place, likewise.
        inner: The same for layers inside it, by path.
    """

    terms: dict[str, Term] = field(default_factory=dict)
    spec: ActivationSpec | None = None
    coefficients: Mapping[str, float] = field(default_factory=dict)
    spec_units: Mapping[ActivationSpec, int | None] = field(
        default_factory=dict
    )
    spec_shapes: Mapping[ActivationSpec, str] = field(default_factory=dict)
    inner: dict[str, "Plan"] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether the layer stays plain."""
        return not (self.terms or self.spec or self.inner)

    @property
    def specs(self) -> tuple[ActivationSpec, ...]:
        """Where the layer is looked at."""
        found = tuple(term.spec for term in self.terms.values())
        return found or (() if self.spec is None else (self.spec,))

    def get_config(self) -> dict[str, Any]:
        """What a file keeps of it."""
        spec = self.specs[0] if self.specs else None
        config: dict[str, Any] = {
            "terms": {
                name: {
                    "penalty": penalties.serialize(term.penalty),
                    "coefficient": self.coefficients[name],
                    "on": term.spec.on,
                    "output": term.spec.output,
                }
                for name, term in self.terms.items()
            },
            "on": None if spec is None else spec.on,
            "output": 0 if spec is None else spec.output,
        }
        if self.inner:
            config["inner"] = {
                path: one.get_config() for path, one in self.inner.items()
            }
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Plan":
        """What a file says of a layer."""
        given, on, output = parts("actpen", config, "terms", "on", "output")
        inner = config.get("inner", {})
        parts("terms", given)
        parts("inner", inner)
        terms, coefficients = {}, {}
        for name, term in given.items():
            penalty, coefficients[check_term_name(name)], *spec = parts(
                "term", term, "penalty", "coefficient", "on", "output"
            )
            terms[name] = Term(
                penalties.deserialize(penalty), ActivationSpec(*spec)
            )
        return cls(
            terms,
            None if on is None else ActivationSpec(on, output),
            coefficients,
            inner={path: cls.from_config(one) for path, one in inner.items()},
        )
