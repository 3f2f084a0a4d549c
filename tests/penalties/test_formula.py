"""Formulas of penalties, for the Activations tab."""

import pytest

from keras_actpen import penalties
from keras_actpen.penalties.formula import formula_of

CLASSES = [
    value
    for name in penalties.__all__
    if isinstance(value := getattr(penalties, name), type)
    and issubclass(value, penalties.Penalty)
    and value not in (penalties.Penalty, penalties.FunctionPenalty)
]

pytestmark = pytest.mark.one_backend


@pytest.mark.parametrize("kind", CLASSES)
def test_every_penalty_has_a_formula(kind):
    formula = formula_of(kind(coefficient=0.5))
    assert formula.startswith("coefficient * ")
    assert "\n" not in formula


def test_the_formula_is_that_of_the_default_reduction():
    assert formula_of(penalties.L1(1.0)) == "coefficient * sum |h| / batch"
    assert formula_of(penalties.L1(1.0, reduction="sum")) == ""
    assert formula_of(penalties.L0(1.0)).endswith("/ positions")


def test_a_class_of_the_users_own_has_none_of_another_class():
    class Cubed(penalties.L2):
        def total(self, activations):
            return abs(activations) ** 3

    assert formula_of(Cubed(1.0)) == ""
