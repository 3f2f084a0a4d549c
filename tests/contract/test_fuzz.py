"""Odd arguments and broken descriptions: ValueError or TypeError, no other.

`HYPOTHESIS_PROFILE=nightly python -m pytest tests/contract/test_fuzz.py` tries
3,000 examples per test instead of 150, other ones each time.
"""

import copy
import fractions
import functools
import math
import re

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from keras import layers as kl
from models import nested

from keras_actpen import (
    PenalizedLayer,
    PenaltyMonitor,
    PenaltyScheduler,
    TargetController,
    attach_penalty,
    penalized_layers,
    penalties,
)
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.select import select
from keras_actpen.callbacks.control_rules import GECO, PI, LogPI

PATHS = ["encoder", "encoder/dense_4", "encoder/code", "decoder", "features"]
WORDS = [*PATHS, "dense_4", "head", "l1", "l2", "output", "preactivation"]

EXAMPLES = settings.default.max_examples
fuzz = settings(
    # An example takes a millisecond here.
    max_examples=3 * EXAMPLES,
    suppress_health_check=list(HealthCheck),
)


UNUSED = kl.Dense(2, name="unused")


@functools.cache
def model():
    """Functional: encoder(dense_4, code), decoder(unfold, head)."""
    return nested()


@functools.cache
def model_in_use():
    """A model that has a term already."""
    return attach_penalty(model(), "encoder/dense_4", l2=0.1)


def huge(text):
    return text * 500


# Names, near misses, globs, paths, what breaks regexes and tables.
ODD_TEXTS = """
[ ] [] [! [z-a] [[:x:]] ? * ** */* **/* .. ../dense_4 / // a//b /dense_4
dense_4/ encoder//dense_4 a|b <b> 'x' "x" encoder\\dense_4
""".split()
ODD_TEXTS += ["", " ", "a\nb", "a\0b", "\ud800", "\u202e", "e\u0301"]
ODD_TEXTS += map(huge, ["*", "?", "dense_4/", "[a", "*a"])
odd_texts = st.sampled_from(ODD_TEXTS)
texts = odd_texts | st.sampled_from(WORDS) | st.text(max_size=8)
globs = st.text(alphabet="dense_4/*?[]!-co", max_size=10)
regexes = st.sampled_from(
    [re.compile(p) for p in ("", ".*", "(?i)DENSE_4", "encoder/.+", "(?=)")]
    + [re.compile(b".*"), re.compile(r"\ud800"), re.compile(huge("a?"))]
)
ODD_NUMBERS = [10**400, -(10**400), 1e39, 1e308, 5e-324, np.array(1)]
ODD_NUMBERS += [np.int64(2), np.uint8(3), np.float16(0.5), np.float32("nan")]
ODD_NUMBERS += [np.bool_(True), np.array([1, 2]), np.array(["l1"])]
numbers = st.one_of(
    st.integers(-9, 9),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.complex_numbers(),
    st.fractions(),
    st.decimals(),
    st.sampled_from(ODD_NUMBERS),
)
CLASSES = [kl.Dense, kl.Layer, kl.InputLayer, keras.Model, PenalizedLayer]
CLASSES += [object, int, type, type(None), list[int], penalties.L1, ValueError]
classes = st.sampled_from(CLASSES)


class Refuses:
    """An answer of a predicate that is neither true nor false."""

    def __bool__(self):
        raise ValueError("neither")


ANSWERS = [None, 0, 1, "", "no", (), [0], math.nan, object(), Refuses(), 1j]
ANSWERS += [np.array([]), np.array([0, 1]), np.array([True])]
answers = st.sampled_from(ANSWERS)


def answering(answer):
    """A predicate on layers, a penalty of activations, a schedule."""
    return lambda *_: answer


functions = answers.map(answering) | st.sampled_from(
    [len, print, id, dict.get, "".join, keras.ops.sum, UNUSED.get_config]
)
layers = st.sampled_from(["encoder", "decoder", "features"]).map(
    lambda name: model().get_layer(name)
) | st.just(UNUSED)
scalars = st.one_of(
    st.none(), texts, globs, numbers, st.binary(max_size=4), classes, functions
)
PENALTIES = [
    penalties.L2(0.1),
    penalties.Hoyer(),
    penalties.KLSparsity(),
    penalties.ZLoss(0.0),
    penalties.L1(1e38),
    penalties.TotalVariation(),
    keras.regularizers.L2(0.1),
    keras.regularizers.OrthogonalRegularizer(),
]
penalty_objects = st.sampled_from(PENALTIES)


def containers(inner):
    return st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(texts | classes | st.tuples(texts), inner, max_size=3),
        st.frozensets(texts, max_size=2),
        st.lists(inner, max_size=2).map(iter),
        st.integers(0, 3).map(range),
    )


things = st.recursive(
    scalars | regexes | layers | penalty_objects, containers, max_leaves=6
)


def refused_or(function, *args, **kwargs):
    """What a call returns, `None` if it refuses its arguments."""
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError):
        return None


@fuzz
@given(entry=things)
@example(entry=["encoder/dense_4", [["head"]]])
@example(entry={"dense_4": {}})
def test_select(entry):
    found = refused_or(select, model_in_use(), entry)
    if found is not None:
        assert found
        assert all(ref.path for ref in found)


VALID = {
    "layers": st.sampled_from(["encoder/*", "head", {"code": "l1"}, -1]),
    "penalty": st.sampled_from([None, "hoyer", keras.ops.sum]),
    "l1": st.none() | st.floats(0, 1),
    "l2": st.just(0.1),
    "on": st.just("output"),
    "output": st.sampled_from([0, "all"]),
    "name": st.none(),
}


@st.composite
def calls(draw):
    """Arguments that `attach_penalty` may take, up to three odd ones."""
    odd = draw(st.sets(st.sampled_from(list(VALID)), max_size=3))
    return {
        name: draw(things if name in odd else valid)
        for name, valid in VALID.items()
    }


def call(layers, penalty=None, **arguments):
    return {"layers": layers, "penalty": penalty, **arguments}


def terms_of(plain):
    return {
        f"{path}/{name}": layer
        for path, layer in penalized_layers(plain).items()
        for name in layer.terms
    }


@pytest.mark.filterwarnings("ignore:.* leaves out ")
@fuzz
@given(arguments=calls())
@example(call("dense_4", {}))
@example(call("dense_4", {"a": {}}))
@example(call({"dense_4": {"l1": 0.1}}))
@example(call("dense_4", l1=10**400))
@example(call("dense_4", l1=1e39))
@example(call("dense_4", "l1", name="\ud800"))
@example(call(["head", "*", ("code")], "l1", on="preactivation"))
def test_attach_penalty(arguments):
    for plain in (model(), model_in_use()):
        before = terms_of(plain)
        new = refused_or(attach_penalty, plain, **arguments)
        if new is not None:
            after = terms_of(new)
            assert set(after) > set(before)
            for layer in after.values():
                coefficients = layer.coefficients.variable
                assert np.all(np.isfinite(coefficients.numpy()))
        # The model passed in is as it was.
        assert terms_of(plain) == before


# --- descriptions, as they come from a file that someone else wrote ---------

json_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.just(10**400),
    st.floats(),
    st.sampled_from(["", "l1", "output", "relu", "keras.layers", "builtins"])
    | st.sampled_from(["L2", "Dense", "function", "PenalizedLayer", "os"])
    | st.sampled_from(["__lambda__", "__numpy__", "__tensor__", "__slice__"])
    | st.sampled_from(["__bytes__", "__typespec__", "__keras_tensor__"])
    | st.text(max_size=4),
)
KEYS = ["class_name", "config", "module", "registered_name", "coefficient"]
KEYS += ["penalty", "terms", "layer", "on", "output", "value", "dtype", "name"]
keys = st.sampled_from(KEYS) | st.text(max_size=3)
json_values = st.recursive(
    json_scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=6,
)


def places_in(config, path=()):
    """Paths of all values in nested dictionaries and lists."""
    yield path
    if isinstance(config, dict):
        for key, value in config.items():
            yield from places_in(value, (*path, key))
    elif isinstance(config, list):
        for i, value in enumerate(config):
            yield from places_in(value, (*path, i))


@st.composite
def mutated(draw, valid):
    """A valid description with one to three values changed or removed."""
    config = copy.deepcopy(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places_in(config))))
        value = draw(json_values)
        if not path:
            config = value
            continue
        owner = config
        for key in path[:-1]:
            owner = owner[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del owner[path[-1]]
        elif action == "add" and isinstance(owner, dict):
            owner[draw(keys)] = value
        else:
            owner[path[-1]] = value
    return config


def described(penalty):
    return penalties.serialize(penalty)


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wA=", None, None]}}
PENALTIES += [penalties.Huber(0.1), penalties.LInf(temperature=2.0)]
PENALTIES += [penalties.Range(low=-1.0, high=1.0), keras.ops.sum]
DESCRIBED = [described(penalties.get(one)) for one in PENALTIES]
DESCRIBED += [{**DESCRIBED[-1], "config": {"function": LAMBDA}}]
valid_penalties = st.sampled_from(DESCRIBED)


@fuzz
@given(config=mutated(valid_penalties) | json_values)
@example(config={})
@example(config={"class_name": "function", "config": "system", "module": "os"})
@example(config={"class_name": "__lambda__", "config": {}})
@example(config={"class_name": "__bytes__", "config": {"value": "l2"}})
@example(config={"class_name": "Dense", "config": {"units": 2}})
@example(config="l2")
def test_descriptions_of_penalties(config):
    for read in (penalties.deserialize, penalties.get):
        before = copy.deepcopy(config)
        penalty = refused_or(read, config)
        assert repr(config) == repr(before)
        if penalty is not None:
            assert isinstance(penalty, penalties.Penalty)
            assert math.isfinite(penalty.coefficient)


def wrapper_config(terms):
    layer = PenalizedLayer(kl.Dense(2, name="dense_4"), terms)
    return layer.get_config()


WRAPPERS = [(), [penalties.L2(0.1)], [penalties.L1(0.1), penalties.Hoyer()]]
valid_wrappers = st.sampled_from([wrapper_config(w) for w in WRAPPERS])


@fuzz
@given(config=mutated(valid_wrappers) | json_values)
@example(config={})
@example(config={"layer": None, "terms": {}, "on": "output", "output": 0})
def test_descriptions_of_layers(config):
    layer = refused_or(PenalizedLayer.from_config, config)
    if layer is not None:
        assert isinstance(layer, PenalizedLayer)
        assert set(layer.coefficients) == set(layer.terms)


# --- arguments of the other names -------------------------------------------


@fuzz
@given(on=st.just("output") | things, output=things)
def test_place(on, output):
    spec = refused_or(ActivationSpec, on, output)
    if spec is not None:
        assert spec.on in ("output", "preactivation")
        assert type(spec.output) in (int, str)
        assert str(spec)


KEYWORDS = {
    PenalizedLayer: ["penalties", "on", "output"],
    PenaltyMonitor: [
        "log_dir",
        "update_freq",
        "histogram_freq",
        "statistics_freq",
    ],
    PenaltyScheduler: ["schedule", "layers", "terms", "unit"],
    TargetController: [
        "term",
        "target",
        "measure",
        "rule",
        "update_freq",
        "start",
        "bounds",
        "patience",
        "effect",
    ],
    LogPI: ["gain", "damping", "limit"],
    GECO: ["rate", "decay"],
    PI: ["gain", "integral_gain"],
}
MADE = [PenalizedLayer, PenaltyMonitor, PenaltyScheduler, TargetController]
MADE += [LogPI, GECO, PI]
MADE += [vars(penalties)[n] for n in penalties.__all__ if n[0].isupper()]


@pytest.mark.parametrize("make", MADE)
@settings(fuzz, max_examples=EXAMPLES)
@given(data=st.data())
def test_arguments(make, data):
    arguments = data.draw(st.lists(things, max_size=3))
    names = KEYWORDS.get(make, ["coefficient", "reduction", "name", "rate"])
    keywords = data.draw(st.dictionaries(st.sampled_from(names), things))
    made = refused_or(make, *arguments, **keywords)
    if made is not None:
        assert isinstance(made, make)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (10**400, "finite number >= 0"),
        (fractions.Fraction(10**400), "finite number >= 0"),
        (1e39, "number that float32 can hold"),
    ],
)
def test_coefficients_that_no_device_can_hold(value, expected):
    with pytest.raises(ValueError, match="Invalid value") as caught:
        penalties.L2(value)
    assert str(caught.value) == (
        "Invalid value received for argument `coefficient`. Expected a "
        f"{expected}, for example coefficient=0.01. Received: "
        f"coefficient={value!r}"
    )


@pytest.mark.parametrize(
    ("read", "config", "message"),
    [
        (
            penalties.get,
            {},
            "Invalid value received for argument `penalty`. Expected the "
            "description of a Callable, as "
            "`keras.saving.serialize_keras_object` returns it. Received: "
            "penalty={} (which describes a dict)",
        ),
        (
            penalties.deserialize,
            {"class_name": "__numpy__", "config": {}},
            "Invalid value received for argument `config`. Expected the "
            "description of a Penalty, as "
            "`keras.saving.serialize_keras_object` returns it. Received: "
            "config={'class_name': '__numpy__', 'config': {}} (KeyError: "
            "'value')",
        ),
        (
            PenalizedLayer.from_config,
            {"terms": {}},
            "Invalid value received for argument `config`. Expected a "
            "dictionary with the keys ['layer', 'terms', 'on', 'output'], as "
            "`get_config` returns it. Received: config={'terms': {}}",
        ),
    ],
)
def test_descriptions_of_nothing(read, config, message):
    with pytest.raises(ValueError, match="Invalid value") as caught:
        read(config)
    assert str(caught.value) == message
