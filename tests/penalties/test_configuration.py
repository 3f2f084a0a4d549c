"""Identifiers, descriptions of 0.1.0, and what users wrote against it."""

import json
import re
from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest
from keras import ops

from keras_actpen import attach_penalty, penalties
from keras_actpen.penalties import identifiers
from keras_actpen.penalties.base import snake_case

DATA = Path(__file__).parents[1] / "data"
DESCRIPTIONS = json.loads((DATA / "penalties_0.1.0.json").read_text())
H = np.random.default_rng(0).uniform(size=(4, 3, 5, 6)).astype("float32")


def test_only_public_names_are_listed():
    assert dir(penalties) == sorted(penalties.__all__)
    assert len(set(penalties.__all__)) == len(penalties.__all__)
    assert all(hasattr(penalties, name) for name in penalties.__all__)


def test_editors_complete_every_name():
    families = get_args(identifiers.PenaltyName)
    names = {name for family in families for name in get_args(family)}
    names |= {one for one in families if isinstance(one, str)}
    classes = set(penalties.__all__) - {"Penalty", "FunctionPenalty"}
    classes = {name for name in classes if name[0].isupper()}
    short = {"ar", "tar", "decov"}
    assert names == {snake_case(name) for name in classes} | short


@pytest.mark.parametrize(
    ("identifier", "cls"),
    [
        ("ar", penalties.ActivationRegularization),
        ("tar", penalties.TemporalActivationRegularization),
        ("decov", penalties.DeCov),
        (penalties.Hoyer, penalties.Hoyer),
    ],
)
def test_short_names_and_classes(identifier, cls):
    penalty = penalties.get(identifier)
    assert type(penalty) is cls
    assert penalty.get_config() == cls().get_config()


@pytest.mark.parametrize(
    "identifier",
    [
        keras.regularizers.L2(0.1),
        keras.regularizers.L2,
        {"class_name": "L2", "config": {"l2": 0.1}},
        {"class_name": "l1l2", "config": {"l1": 0.1, "l2": 0.2}},
        keras.saving.serialize_keras_object(keras.regularizers.L1(0.1)),
        "orthogonal_regularizer",
        "OrthogonalRegularizer",
        "l1l2",
    ],
)
def test_what_keras_takes(identifier):
    theirs = keras.regularizers.get(identifier)
    penalty = penalties.get(identifier)
    assert isinstance(penalty, penalties.FunctionPenalty)
    assert type(penalty.function) is type(theirs)
    assert penalty.function.get_config() == theirs.get_config()


@pytest.mark.parametrize("name", ["l1", "L1", "l2", "L2", "l1l2", "L1L2"])
def test_names_of_keras_that_are_ours_too(name):
    h = H[:, 0, 0]
    expected = float(keras.regularizers.get(name)(h)) / len(h)
    np.testing.assert_allclose(float(penalties.get(name)(h)), expected, 1e-6)


def test_none_is_none():
    assert penalties.get(None) is None
    assert keras.regularizers.get(None) is None
    message = (
        "Invalid type received for argument `penalty`. Expected a Penalty, "
        "its name, a keras Regularizer or a function f(activations) -> "
        "scalar. Received: penalty=None (of type NoneType)"
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(TypeError, match="^" + re.escape(message) + "$"):
        attach_penalty(model, -1, ["l2", None])


# Descriptions of 0.1.0


@pytest.mark.parametrize(
    "description",
    DESCRIPTIONS,
    ids=lambda one: one["class_name"] + "-" + one["config"]["name"],
)
def test_descriptions_of_0_1_0(description):
    penalty = penalties.deserialize(description)
    assert description["config"].items() <= penalty.get_config().items()
    again = penalties.serialize(penalty)
    for key in ("module", "class_name", "registered_name"):
        assert again[key] == description[key]


def test_every_class_of_0_1_0_is_described():
    known = {one["class_name"] for one in DESCRIPTIONS}
    assert len(known) == 28
    assert known < set(penalties.__all__)


# Classes that users wrote


@keras.saving.register_keras_serializable(package="tests")
class Bare(penalties.Penalty):
    """Without parameters, as in the docstring of 0.1.0."""

    def unreduced(self, activations):
        return activations**4


@keras.saving.register_keras_serializable(package="tests")
class Extended(penalties.Penalty):
    """A configuration of its own, which stores another name and form."""

    def __init__(self, coefficient=1.0, power=3, reduction="batch", name=None):
        super().__init__(coefficient, reduction=reduction, name=name)
        self.exponents = [power]
        self.power = {"kept": "raw"}

    def unreduced(self, activations):
        return activations ** self.exponents[0]

    def get_config(self):
        return {"power": self.exponents[0], **super().get_config()}


@keras.saving.register_keras_serializable(package="tests")
class Trimmed(penalties.Penalty):
    """No reduction: removed from what 0.1.0 returned."""

    def __init__(self, coefficient=1.0, *, name=None):
        super().__init__(coefficient, reduction="sum", name=name)

    def unreduced(self, activations):
        return activations**2

    def get_config(self):
        config = super().get_config()
        del config["reduction"]
        return config


@keras.saving.register_keras_serializable(package="tests")
class Derived(penalties.Huber):
    """Adds to the configuration of one of ours."""

    def __init__(self, coefficient=1.0, *, shift=0.0, **options):
        super().__init__(coefficient, **options)
        self.shift = shift

    def unreduced(self, activations):
        return super().unreduced(activations - self.shift)

    def get_config(self):
        return {**super().get_config(), "shift": self.shift}


@keras.saving.register_keras_serializable(package="tests")
class Targeted(penalties.Penalty):
    """Attributes of the names that ours declare."""

    def __init__(self, coefficient=1.0, **options):
        super().__init__(coefficient, **options)
        self._target, self._reductions, self._short_name = 0.5, (), 3

    def unreduced(self, activations):
        return (activations - self._target) ** 2


@keras.saving.register_keras_serializable(package="tests")
def squares(h):
    return ops.square(h)


@keras.saving.register_keras_serializable(package="tests")
class Unwritten(penalties.Penalty):
    """No `get_config`: its arguments are read from the attributes."""

    def __init__(self, exponent=4, function=squares, **options):
        super().__init__(**options)
        self.exponent = exponent
        self.function = function

    def unreduced(self, activations):
        return self.function(activations) ** self.exponent


@keras.saving.register_keras_serializable(package="tests")
class Undivided(penalties.Penalty):
    """Neither `get_config` nor `reduction`."""

    def __init__(self, coefficient=1.0, *, name=None):
        super().__init__(coefficient, reduction="sum", name=name)

    def unreduced(self, activations):
        return activations**2


@pytest.mark.parametrize(
    ("penalty", "config"),
    [
        (
            Bare(0.5, reduction="mean"),
            {"coefficient": 0.5, "reduction": "mean", "name": "bare"},
        ),
        (
            Extended(0.5, 5, name="mine"),
            {
                "power": 5,
                "coefficient": 0.5,
                "reduction": "batch",
                "name": "mine",
            },
        ),
        (Trimmed(0.5), {"coefficient": 0.5, "name": "trimmed"}),
        (
            Derived(0.5, delta=2.0, shift=0.25),
            {
                "coefficient": 0.5,
                "delta": 2.0,
                "reduction": "batch",
                "name": "derived",
                "shift": 0.25,
            },
        ),
        (
            Targeted(0.5),
            {"coefficient": 0.5, "reduction": "batch", "name": "targeted"},
        ),
        (
            Unwritten(3, squares, coefficient=0.5),
            {
                "exponent": 3,
                "function": keras.saving.serialize_keras_object(squares),
                "coefficient": 0.5,
                "reduction": "batch",
                "name": "unwritten",
            },
        ),
        (Undivided(0.5), {"coefficient": 0.5, "name": "undivided"}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_classes_of_users(penalty, config, tmp_path):
    assert penalty.get_config() == config
    description = json.loads(json.dumps(penalties.serialize(penalty)))
    copy = penalties.deserialize(description)
    assert type(copy) is type(penalty)
    assert copy.get_config() == config
    assert float(copy(H)) == float(penalty(H))
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = attach_penalty(plain, -1, penalty)
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras")


def test_classes_of_users_are_not_found_by_name():
    with pytest.raises(ValueError, match="one of"):
        penalties.get("bare")


def test_positions_need_units():
    message = (
        "Invalid value received for argument `layers`. Expected for L1 a "
        "layer whose output has the axes (batch, ..., units). Received: an "
        "output of shape (None,)"
    )
    penalty = penalties.L1(reduction="position")
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        penalty.check_target(keras.KerasTensor((None,)), None, "output")


def test_positions_leave_masked_ones_out():
    h, mask = H[:, 0], np.arange(20).reshape(4, 5) % 3 > 0
    for penalty, values in (
        (penalties.L1(1.0, reduction="position"), np.abs(h)),
        (penalties.L2(1.0, reduction="position"), h**2),
        (penalties.LogSparsity(1.0, reduction="position"), np.log1p(h**2)),
    ):
        expected = values[mask].sum(axis=-1).mean()
        np.testing.assert_allclose(float(penalty(h, mask)), expected, 1e-5)
