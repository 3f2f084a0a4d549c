"""Every penalty: its formula, gradients, masks, replicas, configuration."""

import doctest
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from gradients import central_differences, value_and_gradient
from keras import ops
from paths import SUPPORT
from penalty_cases import CASES

from keras_actpen import penalties
from keras_actpen.penalties.base import snake_case

CLASSES = sorted({case.cls for case in CASES}, key=lambda cls: cls.__name__)
HUGE = 6e4  # float16 ends at 65504

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
every_class = pytest.mark.parametrize("cls", CLASSES)


def value_of(penalty, h, mask=None):
    value = penalty(ops.convert_to_tensor(h), mask)
    assert tuple(value.shape) == ()
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    return float(value)


def random_mask(case, seed=1):
    """A mask that the case's definition can be checked with."""
    rng = np.random.default_rng(seed)
    batch, time = case.shape[:2]
    if case.masks == "positions":
        mask = rng.random(case.shape[:-1]) < 0.6
        mask.flat[0], mask.flat[1] = True, False
    elif case.masks == "time":
        mask = np.tile(np.arange(time) < time - 1, (batch, 1))
    else:
        mask = np.arange(batch) < batch - 1
    return mask


def masked_formula(formula_of_all, case, mask, reduction):
    """A formula on what `mask` leaves, divided as `reduction` says."""

    def formula(h):
        batch = h.shape[0]
        if case.masks == "time":
            h = h[:, : int(mask[0].sum())]
        else:
            h = h[mask]
        if reduction == "batch":
            return formula_of_all(h) * h.shape[0] / batch
        return formula_of_all(h)

    return formula


def assert_gradients_agree(gradient, expected):
    assert np.isfinite(gradient).all()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        gradient, expected, rtol=1e-4, atol=2e-5 * scale + 1e-9
    )


def test_the_table_covers_every_class():
    exported = {
        value
        for name in penalties.__all__
        if isinstance(value := getattr(penalties, name), type)
    }
    assert exported - {penalties.Penalty, penalties.FunctionPenalty} == set(
        CLASSES
    )


@every_case
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("random", "float32"),
        ("zero", "float32"),
        ("constant", "float32"),
        ("single", "float32"),
        ("huge", "float32"),
        ("huge constant", "float32"),
        ("random", "float16"),
        ("huge", "float16"),
        ("huge constant", "float16"),
    ],
)
def test_value_equals_the_formula(case, kind, dtype):
    h = case.random()
    if kind == "zero":
        h = np.zeros_like(h)
    elif kind == "constant":
        h = np.full_like(h, 0.7)
    elif kind == "single":
        h = h[:1]
        if len(case.shape) == 3:
            h = h[:, :1]
    elif kind == "huge":
        h = HUGE * np.sign(case.random(2) - 0.3)
    elif kind == "huge constant":
        h = np.full_like(h, HUGE)
    h = h.astype(dtype)
    expected = case.formula(h.astype("float64"))
    assert np.isfinite(expected)
    value = value_of(case.make(), h)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@every_case
def test_gradient_equals_central_differences(case):
    h = case.random(3)
    _, gradient = value_and_gradient(case.make(), h)
    expected = central_differences(case.sloped, h)
    assert np.abs(expected).max() > 0
    assert_gradients_agree(gradient, expected)


@every_case
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_gradient_where_all_activations_are_equal(case, value):
    h = np.full(case.shape, value, "float32")
    _, gradient = value_and_gradient(case.make(), h)
    if case.at_ties is not None:
        expected = case.at_ties(h.astype("float64"))
    else:
        expected = central_differences(case.sloped, h)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@every_case
@pytest.mark.parametrize("sign", [0.0, 1.0])
def test_gradient_is_finite_on_huge_activations(case, sign):
    h = HUGE * (np.sign(case.random(2) - 0.3) * (1 - sign) + sign)
    _, gradient = value_and_gradient(case.make(), h.astype("float32"))
    assert np.isfinite(gradient).all()


@every_case
def test_scales_with_its_coefficient(case):
    h = case.random()
    once = value_of(case.make(1.0), h)
    assert once != 0
    np.testing.assert_allclose(value_of(case.make(2.5), h), 2.5 * once, 1e-6)
    assert value_of(case.make(0.0), h) == 0
    np.testing.assert_allclose(float(case.make(2.5).value(h)), once, 1e-6)


@every_case
def test_order_of_the_batch_does_not_matter(case):
    h, mask = case.random(), random_mask(case)
    order = np.random.default_rng(4).permutation(len(h))
    value = value_of(case.make(), h, mask)
    np.testing.assert_allclose(
        value_of(case.make(), h[order], mask[order]), value, 1e-5, 1e-7
    )


@every_case
@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf, -np.inf, 1e30])
def test_masked_positions_do_not_count(case, garbage):
    mask, penalty = random_mask(case), case.make()
    h = case.random()
    h[~mask] = garbage
    arguments = case, mask, penalty.reduction
    formula = masked_formula(case.formula, *arguments)
    sloped = masked_formula(case.sloped, *arguments)
    value, gradient = value_and_gradient(lambda h: penalty(h, mask), h)
    clean = np.where(np.isfinite(h), h, 0).astype("float64")
    np.testing.assert_allclose(value, formula(clean), rtol=1e-5, atol=1e-6)
    assert (gradient[~mask] == 0).all()
    if garbage == 0:
        assert_gradients_agree(gradient, central_differences(sloped, clean))
    else:
        assert np.isfinite(gradient).all()


@every_case
def test_a_full_mask_changes_nothing(case):
    h = case.random()
    mask = np.ones(case.shape[:2], bool)
    value = value_of(case.make(), h)
    np.testing.assert_allclose(value_of(case.make(), h, mask), value, 1e-6)


@every_case
def test_nothing_counted_gives_zero(case):
    h = np.full(case.shape, np.nan, "float32")
    mask = np.zeros(case.shape[:1], bool)
    penalty = case.make()
    value, gradient = value_and_gradient(lambda h: penalty(h, mask), h)
    assert value == 0
    assert (gradient == 0).all()


def test_time_pairs_count_if_both_steps_do():
    h = np.array([[[1.0], [2.0], [9.0], [5.0], [7.0]]], "float32")
    mask = np.array([[True, True, False, True, True]])
    penalty = penalties.TemporalActivationRegularization(1.0)
    assert value_of(penalty, h, mask) == (1.0 + 4.0) / 2


def test_a_mask_of_single_units_is_refused_where_positions_count():
    h = np.ones((2, 3), "float32")
    mask = np.array([[True, False, True], [True, True, True]])
    assert value_of(penalties.L1(1.0), h, mask) == 5 / 2
    message = (
        "Invalid value received for argument `mask`. Expected a mask of "
        "positions, of rank 1 at most: this penalty has one value per "
        "position, from which a mask cannot remove single units. Received: "
        "a mask of shape (2, 3)"
    )
    for penalty in (
        penalties.LInf(reduction="mean"),
        penalties.L1(reduction="position"),
        penalties.DeCov(),
    ):
        with pytest.raises(ValueError, match=exactly(message)):
            penalty(h, mask)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.count is not None],
    ids=lambda case: case.id,
)
def test_reductions(case):
    h = case.random()
    divisors = {
        "batch": len(h),
        "mean": case.count(h),
        "sum": 1,
        "position": h[..., 0].size,
    }
    if case.cls is penalties.TotalVariation:
        del divisors["position"]  # its pairs are no positions
    total = case.formula(h.astype("float64")) * divisors[case.make().reduction]
    expected = {name: total / number for name, number in divisors.items()}
    values = {r: value_of(case.make(reduction=r), h) for r in divisors}
    assert values == pytest.approx(expected, rel=1e-5)


@every_class
def test_only_penalties_without_a_fixed_divisor_have_a_reduction(cls):
    has_reduction = any(c.count for c in CASES if c.cls is cls)
    assert ("reduction" in cls().get_config()) == has_reduction
    if not has_reduction:
        with pytest.raises(TypeError, match="reduction"):
            cls(1.0, reduction="sum")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (penalties.L1(0.01), keras.regularizers.L1(0.01)),
        (penalties.L2(0.01), keras.regularizers.L2(0.01)),
        (penalties.L1L2(0.01, 0.02), keras.regularizers.L1L2(0.01, 0.02)),
    ],
)
def test_agrees_with_keras(ours, theirs, dtype):
    h = np.random.default_rng(0).normal(size=(16, 7, 5)).astype("float32")
    h = ops.cast(h, dtype)
    expected = float(theirs(ops.cast(h, "float32"))) / 16
    np.testing.assert_allclose(float(ours(h)), expected, rtol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="float64 needs jax_enable_x64"
)
@every_case
def test_float64_stays_float64(case):
    h = case.random().astype("float64")
    value = case.make()(ops.convert_to_tensor(h), random_mask(case))
    assert keras.backend.standardize_dtype(value.dtype) == "float64"


# Configuration


@every_case
def test_serializes(case):
    penalty = case.make(0.25, name="mine")
    description = json.loads(json.dumps(penalties.serialize(penalty)))
    assert description["registered_name"] == f"keras_actpen>{case.cls.__name__}"
    copy = penalties.deserialize(description)
    assert type(copy) is case.cls
    assert copy.get_config() == penalty.get_config()
    assert copy.name == "mine"
    assert repr(copy) == repr(penalty)
    assert case.arguments.items() <= copy.get_config().items()
    h = case.random()
    assert value_of(copy, h) == value_of(penalty, h)
    assert penalties.get(description).get_config() == penalty.get_config()
    assert penalties.get(penalty) is penalty


@every_class
def test_identifiers(cls):
    for identifier in (cls.__name__, snake_case(cls.__name__)):
        penalty = penalties.get(identifier)
        assert type(penalty) is cls
        assert penalty.get_config() == cls().get_config()
        assert penalty.name == snake_case(cls.__name__)


def test_snake_case_names():
    assert {cls.__name__: cls().name for cls in CLASSES} == {
        "ActivationRegularization": "activation_regularization",
        "ConfidencePenalty": "confidence_penalty",
        "Covariance": "covariance",
        "DeCov": "de_cov",
        "DeadUnitRevival": "dead_unit_revival",
        "Decorrelation": "decorrelation",
        "FeatureNorm": "feature_norm",
        "GroupLasso": "group_lasso",
        "Hoyer": "hoyer",
        "Huber": "huber",
        "KLSparsity": "kl_sparsity",
        "Kurtosis": "kurtosis",
        "L0": "l0",
        "L1": "l1",
        "L1L2": "l1_l2",
        "L2": "l2",
        "LInf": "l_inf",
        "LoadBalance": "load_balance",
        "LogSparsity": "log_sparsity",
        "MomentMatching": "moment_matching",
        "NormStabilizer": "norm_stabilizer",
        "Range": "range",
        "Saturation": "saturation",
        "TemporalActivationRegularization": (
            "temporal_activation_regularization"
        ),
        "TotalVariation": "total_variation",
        "VIB": "vib",
        "VarianceFloor": "variance_floor",
        "ZLoss": "z_loss",
    }


@every_class
def test_docstring_says_what_a_user_must_know(cls):
    text = cls.__doc__
    for part in ("`coefficient * ", "tf.distribute", ">>> ", "Args:"):
        assert part.lstrip("`") in text, part
    assert re.search(r"[Uu]sual|paper's|paper uses|Start at", text)


@pytest.mark.parametrize(
    "module", [m.name for m in pkgutil.iter_modules(penalties.__path__)]
)
def test_docstring_examples(module):
    module = importlib.import_module(f"keras_actpen.penalties.{module}")
    assert doctest.testmod(module).failed == 0


# Wrong arguments


def exactly(message):
    return "^" + re.escape(message) + "$"


FINITE = "a finite number >= 0, for example coefficient=0.01"


@every_class
@pytest.mark.parametrize(
    ("coefficient", "error", "received"),
    [
        (-1, ValueError, "-1"),
        (-1e-9, ValueError, "-1e-09"),
        (float("nan"), ValueError, "nan"),
        (float("inf"), ValueError, "inf"),
        ("0.1", TypeError, "'0.1' (of type str)"),
        (True, TypeError, "True (of type bool)"),
        (None, TypeError, "None (of type NoneType)"),
    ],
)
def test_bad_coefficients(cls, coefficient, error, received):
    what = "value" if error is ValueError else "type"
    message = (
        f"Invalid {what} received for argument `coefficient`. Expected "
        f"{FINITE}. Received: coefficient={received}"
    )
    with pytest.raises(error, match=exactly(message)):
        cls(coefficient=coefficient)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: penalties.L1(0.1, reduction="average"),
            ValueError,
            "Invalid value received for argument `reduction`. Expected one "
            "of ('batch', 'mean', 'sum', 'position'). Received: "
            "reduction='average'",
        ),
        (
            lambda: penalties.L1(0.1, name="a/b"),
            ValueError,
            "Invalid value received for argument `name`. Expected a "
            "non-empty string without '/', for example name='sparsity'. "
            "Received: name='a/b'",
        ),
        (
            lambda: penalties.L1(0.1, name=""),
            ValueError,
            "Invalid value received for argument `name`. Expected a "
            "non-empty string without '/', for example name='sparsity'. "
            "Received: name=''",
        ),
        (
            lambda: penalties.L1(0.1, name=3),
            TypeError,
            "Invalid type received for argument `name`. Expected a string, "
            "for example name='sparsity'. Received: name=3 (of type int)",
        ),
        (
            lambda: penalties.L1L2(l2=-0.1),
            ValueError,
            "Invalid value received for argument `l2`. Expected a finite "
            "number >= 0, for example l2=0.01. Received: l2=-0.1",
        ),
        (
            lambda: penalties.Huber(delta=0),
            ValueError,
            "Invalid value received for argument `delta`. Expected a finite "
            "number > 0, for example delta=1.0. Received: delta=0",
        ),
        (
            lambda: penalties.LInf(temperature=0.0),
            ValueError,
            "Invalid value received for argument `temperature`. Expected "
            "None or a finite number > 0, for example temperature=10.0. "
            "Received: temperature=0.0",
        ),
        (
            lambda: penalties.KLSparsity(rate=1.0),
            ValueError,
            "Invalid value received for argument `rate`. Expected a number "
            "between 0 and 1, for example rate=0.05. Received: rate=1.0",
        ),
        (
            lambda: penalties.KLSparsity(activation="relu"),
            ValueError,
            "Invalid value received for argument `activation`. Expected one "
            "of (None, 'sigmoid', 'tanh'). Received: activation='relu'",
        ),
        (
            lambda: penalties.LoadBalance(activation="sigmoid"),
            ValueError,
            "Invalid value received for argument `activation`. Expected one "
            "of (None, 'softmax', 'linear'). Received: activation='sigmoid'",
        ),
        (
            lambda: penalties.GroupLasso(group_size=1.5),
            ValueError,
            "Invalid value received for argument `group_size`. Expected a "
            "whole number >= 1, for example group_size=4. Received: "
            "group_size=1.5",
        ),
        (
            lambda: penalties.Range(low=2.0, high=1.0),
            ValueError,
            "Invalid values received for arguments `low` and `high`. "
            "Expected low <= high, one of which may be None. Received: "
            "low=2.0, high=1.0",
        ),
        (
            lambda: penalties.Range(low=None, high=None),
            ValueError,
            "Invalid values received for arguments `low` and `high`. "
            "Expected low <= high, one of which may be None. Received: "
            "low=None, high=None",
        ),
        (
            lambda: penalties.Range(low="a"),
            TypeError,
            "Invalid type received for argument `low`. Expected None or a "
            "finite number, for example low=1.0. Received: low='a' (of type "
            "str)",
        ),
        (
            lambda: penalties.VarianceFloor(floor=float("inf")),
            ValueError,
            "Invalid value received for argument `floor`. Expected a finite "
            "number >= 0, for example floor=0.01. Received: floor=inf",
        ),
        (
            lambda: penalties.DeadUnitRevival(margin=float("nan")),
            ValueError,
            "Invalid value received for argument `margin`. Expected a finite "
            "number, for example margin=0.1. Received: margin=nan",
        ),
        (
            lambda: penalties.Kurtosis(target=0.5),
            ValueError,
            "Invalid value received for argument `target`. Expected a finite "
            "number >= 1, for example target=1.8. Received: target=0.5",
        ),
        (
            lambda: penalties.TotalVariation(data_format="last"),
            ValueError,
            "Invalid value received for argument `data_format`. Expected one "
            "of ('channels_last', 'channels_first'). Received: "
            "data_format='last'",
        ),
        (
            lambda: penalties.FunctionPenalty("l2"),
            TypeError,
            "Invalid type received for argument `function`. Expected a "
            "function f(activations) -> scalar, for example `lambda h: "
            "keras.ops.sum(h ** 4)`. Received: function='l2' (of type str)",
        ),
        (
            lambda: penalties.get(keras.layers.Dense),
            TypeError,
            "Invalid type received for argument `penalty`. Expected a "
            "Penalty or a keras Regularizer. Received: "
            "penalty=<class 'keras.src.layers.core.dense.Dense'> (of type "
            "type)",
        ),
        (
            lambda: penalties.get(0.01),
            TypeError,
            "Invalid type received for argument `penalty`. Expected a "
            "Penalty, its name, a keras Regularizer or a function "
            "f(activations) -> scalar. Received: penalty=0.01 (of type "
            "float). Write l2=0.01, or penalty=L2(0.01).",
        ),
        (
            lambda: penalties.get("zloss"),
            ValueError,
            "Invalid value received for argument `penalty`. Expected one of "
            f"{sorted(snake_case(cls.__name__) for cls in CLASSES)}, a "
            "Penalty, a keras Regularizer or a function. Received: "
            "penalty='zloss'. Did you mean 'z_loss'?",
        ),
        (
            lambda: penalties.Penalty(1.0)(np.ones((2, 3), "float32")),
            NotImplementedError,
            "Penalty must define `unreduced(activations)` or "
            "`value(activations, mask)`.",
        ),
        (
            lambda: penalties.get(lambda h: h)(np.ones((2, 3), "float32")),
            ValueError,
            "Invalid value received for argument `penalty`. Expected a "
            "function that returns a scalar, for example `lambda h: "
            "keras.ops.sum(h ** 4)`. Received: lambda returned a tensor of "
            "shape (2, 3)",
        ),
    ],
)
def test_messages(make, error, message):
    with pytest.raises(error, match=exactly(message)):
        make()


# Targets

KL_EXPECTED = (
    "a layer whose values are known to lie in [0, 1], for example one with a "
    "sigmoid activation"
)
KL_ADVICE = (
    ". Write KLSparsity(activation='tanh') for values in [-1, 1], "
    "KLSparsity(activation='sigmoid') for values in [0, 1] of a layer without "
    "an `activation`, or a penalty for any activation, such as L1 or Hoyer"
)
TANH_EXPECTED = (
    "with activation='tanh' a layer whose values lie in [-1, 1], for example "
    "one with a tanh activation"
)
LOGITS_EXPECTED = "logits, a layer with a linear activation"
ROUTER_EXPECTED = "probabilities, a layer with a softmax activation"
ROUTER_ADVICE = (
    ". Write LoadBalance(activation='linear') for logits, "
    "LoadBalance(activation='softmax') for the probabilities of a layer "
    "without an `activation`"
)
NO_ACTIVATION = "the output of a layer without an `activation`"
PREACTIVATION = "the layer's pre-activation"
TIME_AXES = "a layer whose output has the axes (batch, time, ..., units)"
UNIT_AXES = "a layer whose output has the axes (batch, ..., units)"
MAP_AXES = "a layer whose output has the axes (batch, height, width, channels)"


def after(name):
    return f"an output after activation={name!r}"


def not_logits(name):
    return (
        f"{after(name)}. Write on='preactivation' for what this activation "
        "receives"
    )


def of_shape(*shape):
    return f"an output of shape {shape}"


def steep(x):
    """A user's own sigmoid."""
    return ops.sigmoid(4 * x)


def broken(x):
    raise RuntimeError("not today")


WRONG_TARGETS = [
    (P, (None, 8), name, "output", expected, received)
    for P, name, expected, received in [
        (
            penalties.KLSparsity(),
            "relu",
            KL_EXPECTED,
            after("relu") + KL_ADVICE,
        ),
        (
            penalties.KLSparsity(),
            "relu6",
            KL_EXPECTED,
            after("relu6") + KL_ADVICE,
        ),
        (
            penalties.KLSparsity(),
            "tanh",
            KL_EXPECTED,
            after("tanh") + KL_ADVICE,
        ),
        (
            penalties.KLSparsity(),
            "linear",
            KL_EXPECTED,
            after("linear") + KL_ADVICE,
        ),
        (penalties.KLSparsity(), None, KL_EXPECTED, NO_ACTIVATION + KL_ADVICE),
        (
            penalties.KLSparsity(),
            broken,
            KL_EXPECTED,
            after("broken") + KL_ADVICE,
        ),
        (
            penalties.KLSparsity(activation="sigmoid"),
            "relu",
            KL_EXPECTED,
            after("relu") + KL_ADVICE,
        ),
        (
            penalties.KLSparsity(activation="tanh"),
            "relu",
            TANH_EXPECTED,
            after("relu")
            + ". Write a penalty for any activation, such as L1 or Hoyer",
        ),
        (penalties.ZLoss(), "softmax", LOGITS_EXPECTED, not_logits("softmax")),
        (penalties.ZLoss(), "relu", LOGITS_EXPECTED, not_logits("relu")),
        (
            penalties.ConfidencePenalty(),
            "softmax",
            LOGITS_EXPECTED,
            not_logits("softmax"),
        ),
        (penalties.VIB(), "relu", LOGITS_EXPECTED, not_logits("relu")),
        (
            penalties.LoadBalance(),
            "linear",
            ROUTER_EXPECTED,
            after("linear") + ROUTER_ADVICE,
        ),
        (
            penalties.LoadBalance(),
            "sigmoid",
            ROUTER_EXPECTED,
            after("sigmoid") + ROUTER_ADVICE,
        ),
        (
            penalties.LoadBalance(),
            None,
            ROUTER_EXPECTED,
            NO_ACTIVATION + ROUTER_ADVICE,
        ),
        (
            penalties.LoadBalance(activation="linear"),
            "softmax",
            LOGITS_EXPECTED,
            not_logits("softmax"),
        ),
        (
            penalties.DeadUnitRevival(),
            "relu",
            "on='preactivation', because the output of a dead unit passes "
            "no gradient",
            after("relu") + " (on='output')",
        ),
        (
            penalties.TemporalActivationRegularization(),
            "tanh",
            TIME_AXES,
            of_shape(None, 8),
        ),
        (penalties.NormStabilizer(), "tanh", TIME_AXES, of_shape(None, 8)),
        (penalties.TotalVariation(), "relu", MAP_AXES, of_shape(None, 8)),
        (
            penalties.GroupLasso(group_size=3),
            "relu",
            "a layer with a multiple of group_size=3 units",
            of_shape(None, 8),
        ),
    ]
] + [
    (
        penalties.KLSparsity(),
        (None, 8),
        "sigmoid",
        "preactivation",
        KL_EXPECTED,
        PREACTIVATION + KL_ADVICE,
    ),
    (
        penalties.TotalVariation(),
        (None, 2, 3, 4, 5),
        "relu",
        "output",
        MAP_AXES,
        of_shape(None, 2, 3, 4, 5),
    ),
    (
        penalties.VIB(),
        (None, 7),
        "linear",
        "output",
        "a layer with an even number of units, means and log-variances",
        of_shape(None, 7),
    ),
    *(
        (
            penalty,
            (None, 1),
            "linear",
            "output",
            "a layer with at least 2 units",
            of_shape(None, 1),
        )
        for penalty in (
            penalties.Hoyer(),
            penalties.ConfidencePenalty(),
            penalties.LoadBalance(),
            penalties.DeCov(),
            penalties.Covariance(),
            penalties.Decorrelation(),
        )
    ),
    *(
        (penalty, (None,), "linear", "output", UNIT_AXES, of_shape(None))
        for penalty in (
            penalties.LInf(),
            penalties.Hoyer(),
            penalties.ZLoss(),
            penalties.GroupLasso(),
            penalties.VarianceFloor(),
            penalties.FeatureNorm(),
        )
    ),
]


@pytest.mark.parametrize(
    ("penalty", "shape", "activation", "on", "expected", "received"),
    WRONG_TARGETS,
)
def test_wrong_targets(penalty, shape, activation, on, expected, received):
    message = (
        "Invalid value received for argument `layers`. Expected for "
        f"{type(penalty).__name__} {expected}. Received: {received}"
    )
    if isinstance(activation, str):
        activation = keras.activations.get(activation)
    with pytest.raises(ValueError, match=exactly(message)):
        penalty.check_target(keras.KerasTensor(shape), activation, on)


@pytest.mark.parametrize(
    ("penalty", "shape", "activation", "on"),
    [
        (penalties.L1(), (None,), None, "output"),
        (penalties.L2(), (None, 4, 4, 8), "relu", "output"),
        (penalties.KLSparsity(), (None, 8), "sigmoid", "output"),
        (penalties.KLSparsity(), (None, 8), "hard_sigmoid", "output"),
        (penalties.KLSparsity(), (None, 8), "softmax", "output"),
        (penalties.KLSparsity(), (None, 8), steep, "output"),
        (
            penalties.KLSparsity(activation="sigmoid"),
            (None, 8),
            None,
            "output",
        ),
        (penalties.KLSparsity(activation="tanh"), (None, 8), "tanh", "output"),
        (penalties.ZLoss(), (None, 8), "linear", "output"),
        (penalties.ZLoss(), (None, 8), None, "output"),
        (penalties.ZLoss(), (None, 8), "softmax", "preactivation"),
        (penalties.ConfidencePenalty(), (None, 8), "softmax", "preactivation"),
        (penalties.LoadBalance(), (None, 5, 8), "softmax", "output"),
        (
            penalties.LoadBalance(activation="softmax"),
            (None, 8),
            None,
            "output",
        ),
        (
            penalties.LoadBalance(activation="linear"),
            (None, 8),
            "softmax",
            "preactivation",
        ),
        (penalties.VIB(), (None, 8), "linear", "output"),
        (penalties.DeadUnitRevival(), (None, 8), "relu", "preactivation"),
        (
            penalties.TemporalActivationRegularization(),
            (None, None, 8),
            "tanh",
            "output",
        ),
        (penalties.NormStabilizer(), (None, 5, 8), None, "output"),
        (penalties.TotalVariation(), (None, 5, 5, 8), "relu", "output"),
        (penalties.GroupLasso(group_size=4), (None, 8), "relu", "output"),
        (penalties.DeCov(), (None, None), "relu", "output"),
        (penalties.get(lambda h: ops.sum(h)), (None,), "relu", "output"),
    ],
)
def test_right_targets(penalty, shape, activation, on):
    if isinstance(activation, str):
        activation = keras.activations.get(activation)
    penalty.check_target(keras.KerasTensor(shape), activation, on)


def test_the_probe_does_not_build_activation_layers():
    activation = keras.layers.PReLU()
    with pytest.raises(ValueError, match="after activation='PReLU'"):
        penalties.KLSparsity().check_target(
            keras.KerasTensor((None, 8)), activation, "output"
        )
    assert not activation.built


# What users write themselves


@keras.saving.register_keras_serializable(package="tests")
class FourthPower(penalties.Penalty):
    """Ten lines are enough."""

    def unreduced(self, activations):
        return activations**4


@keras.saving.register_keras_serializable(package="tests")
def fourth_power(h):
    return ops.sum(h**4)


@pytest.mark.parametrize(
    ("penalty", "name", "scale"),
    [
        (FourthPower(1.0), "fourth_power", 1.0),
        (penalties.get(fourth_power), "fourth_power", 1.0),
        (penalties.get(lambda h: ops.sum(h**4)), "lambda", 1.0),
        (
            penalties.FunctionPenalty(fourth_power, 0.5, name="mine"),
            "mine",
            0.5,
        ),
    ],
)
def test_user_penalties(penalty, name, scale):
    h = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    mask = np.array([[True, False, True]] * 4)
    expected = scale * np.sum(h[mask].astype("float64") ** 4) / 4
    h[~mask] = np.nan
    value, gradient = value_and_gradient(lambda h: penalty(h, mask), h)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert (gradient[~mask] == 0).all()
    assert penalty.name == name


@pytest.mark.parametrize(
    "user",
    [FourthPower(0.5), fourth_power, keras.regularizers.L1L2(0.1, 0.2)],
)
def test_user_penalties_serialize(user):
    penalty = penalties.get(user)
    description = json.loads(json.dumps(penalties.serialize(penalty)))
    copy = penalties.deserialize(description)
    assert copy.get_config() == penalty.get_config()
    h = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    assert value_of(copy, h) == value_of(penalty, h)


def test_a_regularizer_is_divided_by_the_batch():
    h = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    penalty = penalties.get(keras.regularizers.L1L2(0.1, 0.2))
    assert penalty.name == "l1_l2"
    expected = value_of(penalties.L1L2(0.1, 0.2), h)
    np.testing.assert_allclose(value_of(penalty, h), expected, rtol=1e-6)


def test_a_serialized_regularizer_is_a_penalty():
    regularizer = keras.regularizers.L2(0.1)
    description = keras.saving.serialize_keras_object(regularizer)
    penalty = penalties.get(description)
    assert isinstance(penalty, penalties.FunctionPenalty)
    assert penalty.function.get_config() == regularizer.get_config()


def test_lambdas_obey_safe_mode():
    # Keras saves bytecode without its globals, so no `ops` here.
    penalty = penalties.get(lambda h: 17 * h[0, 0])
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        description = penalties.serialize(penalty)
    description = json.loads(json.dumps(description))
    with pytest.raises(ValueError, match="lambda"):
        penalties.deserialize(description)
    with pytest.raises(ValueError, match="lambda"):
        penalties.FunctionPenalty.from_config(description["config"])
    copy = penalties.deserialize(description, safe_mode=False)
    h = np.array([[1.0, 2.0]], "float32")
    assert value_of(copy, h) == 17


# Replicas


SCRIPT = SUPPORT.joinpath("replicas.py")


@pytest.fixture(scope="module")
def replicas():
    """What a process with two logical CPU devices finds."""
    process = subprocess.run(
        [sys.executable, SCRIPT],
        env={
            **os.environ,
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.distribute"
)
def test_replicas_give_the_numbers_of_the_global_batch(replicas):
    errors = replicas["penalties"]
    assert set(errors) == {case.id for case in CASES} | {"function"}
    assert {k: v for k, v in errors.items() if not max(v) < 1e-4} == {}


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="one process a device"
)
def test_fit_on_two_devices_equals_fit_on_one(replicas):
    losses, weights = replicas["fit"]
    assert weights < 1e-5
    assert losses < 1e-5


class Uncountable:
    """A function that cannot be saved."""

    def __call__(self, activations):
        return keras.ops.sum(activations)


def test_what_cannot_be_saved_can_be_shown():
    function = Uncountable()
    penalty = penalties.get(function)
    with pytest.raises(TypeError, match="Cannot serialize object"):
        penalty.get_config()
    assert repr(penalty) == (
        f"FunctionPenalty(function={function!r}, coefficient=1.0, "
        "name='uncountable')"
    )
