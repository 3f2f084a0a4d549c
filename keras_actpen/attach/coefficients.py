"""The terms of a layer and their coefficients."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import keras

from keras_actpen import penalties
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.penalties.base import Penalty
from keras_actpen.penalties.validation import check_coefficient


@dataclass(frozen=True)
class Term:
    """One penalty at one place of a layer."""

    penalty: Penalty
    spec: ActivationSpec


class Coefficients(MutableMapping[str, float]):
    """The coefficients of a layer's terms, by name, readable and settable.

    They live in device state: a change takes effect at the next step, without
    a recompilation.

    Attributes:
        variable: The device state.
        changes: How often one has been set.
    """

    def __init__(self, terms: Mapping[str, Term]):
        self._values = {n: t.penalty.coefficient for n, t in terms.items()}
        self.changes: int = 0
        self.variable: keras.Variable = keras.Variable(
            list(self._values.values()),
            shape=(len(terms),),
            dtype="float32",
            trainable=False,
            autocast=False,
            name="penalty_coefficients",
        )

    def __getitem__(self, name: str) -> float:
        """Coefficient of the term called `name`."""
        return self._values[name]

    def __setitem__(self, name: str, value: float) -> None:
        """Set the coefficient of an existing term."""
        if name not in self._values:
            raise KeyError(
                f"No term is called {name!r}. Existing terms: {list(self)}. "
                "Terms are added with `attach_penalty`."
            )
        self._values[name] = check_coefficient("coefficient", value)
        self.changes += 1
        self.variable.assign(list(self._values.values()))

    def __delitem__(self, name: str) -> None:
        """Terms cannot be deleted one by one."""
        raise TypeError(
            f"Cannot delete the coefficient {name!r}. Set it to 0, or remove "
            "the layer's penalties with `detach_penalty`."
        )

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the terms."""
        return iter(self._values)

    def __len__(self) -> int:
        """Number of terms."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show the coefficients as a dictionary."""
        return repr(self._values)


def terms_by_name(
    given: penalties.Identifiers | Mapping[str, Term],
    spec: ActivationSpec,
    layer_name: str,
) -> dict[str, Term]:
    """Terms by name from what the constructor takes as `penalties`."""
    if isinstance(given, Mapping) and all(
        isinstance(term, Term) for term in given.values()
    ):
        return dict(given)
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        given = (given,)
    terms: dict[str, Term] = {}
    for penalty in map(penalties.identifiers.to_penalty, given):
        if penalty.name in terms:
            raise ValueError(
                "Invalid value received for argument `penalties`. Expected "
                "terms with different names; give one of them another, for "
                f"example name='{penalty.name}_2'. Received: two terms "
                f"called {penalty.name!r} on layer {layer_name!r}"
            )
        terms[penalty.name] = Term(penalty, spec)
    return terms
