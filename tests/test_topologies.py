"""One contract for every kind of model, see `topologies.py`."""

import os

import keras
import numpy as np
import pytest
from by_hand import batches, first_batch, gradients, one_batch, state_kept
from models import QUICK, assert_same_arrays, outputs_of
from topologies import TOPOLOGIES

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_terms,
)

# Not of few layers: 10 to 60 s each.
SLOW = pytest.mark.skipif(
    "KERAS_ACTPEN_SLOW" not in os.environ,
    reason="slow, set KERAS_ACTPEN_SLOW=1",
)


@pytest.fixture(
    params=[
        pytest.param(one, id=one.name, marks=[SLOW] if one.slow else [])
        for one in TOPOLOGIES
    ]
)
def topology(request):
    reason = request.param.keras_cannot.get(keras.backend.backend())
    if reason is not None:
        pytest.skip(reason)
    if request.param.name.startswith("hub_"):
        pytest.importorskip("keras_hub")
    return request.param


def attached_to(case):
    model = attach_penalty(
        case.model, case.select, l1=case.l1, l2=case.l2, output=case.output
    )
    if case.after is not None:
        case.after(model)
    return model


def assert_close(found, expected, tolerance):
    """Relative to each number and to the largest of the array."""
    scale = max(1e-3, np.max(np.abs(expected), initial=0.0))
    np.testing.assert_allclose(
        found, expected, rtol=tolerance, atol=tolerance * scale
    )


def assert_same_terms(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=tolerance)


def test_terms_and_outputs(topology):
    case = topology.build()
    x, y = first_batch(case)
    with state_kept(case.model):
        outputs = outputs_of(case.model, x)
    model = attached_to(case)
    expected = one_batch(case, x, y, training=False)
    assert min(expected.terms.values()) > 0
    assert_same_terms(
        penalty_terms(model, x), expected.terms, topology.tolerance
    )
    with state_kept(model):
        found = outputs_of(model, x)
        losses = [float(loss) for loss in model.losses]
    assert_same_arrays(found, expected.outputs)
    if case.after is None:
        assert_same_arrays(found, outputs)
    assert sum(losses) == pytest.approx(
        sum(expected.terms.values()) + float(case.regularizer()),
        rel=topology.tolerance,
    )
    # Neither the model passed in nor any other gets the penalty.
    for other in [case.model] * (model is not case.model) + case.siblings:
        with state_kept(other):
            other(x)
            assert not penalized_layers(other)
            assert sum(map(float, other.losses)) == float(case.regularizer())


def compiled(case, model, **arguments):
    model.compile(
        keras.optimizers.SGD(1.0),
        case.losses,
        metrics=None,  # not those that KerasHub's tasks add
        auto_scale_loss=False,
        **{**QUICK, **arguments},
    )
    return model


def test_gradient(topology):
    """One step of `fit` goes down the gradient of the loss by hand."""
    case = topology.build()
    x, y = first_batch(case)
    model = attached_to(case)
    slopes = gradients(case, x, y)
    expected = one_batch(case, x, y, training=True)
    before = [np.array(v) for v in model.trainable_variables]
    # Clear of the initial weights' own size, which rounds the difference.
    compiled(case, model)
    history = model.fit(x, y, batch_size=case.batch, shuffle=False, verbose=0)
    history = history.history
    assert history["loss"][0] == pytest.approx(
        expected.loss, rel=topology.tolerance
    )
    assert len(before) == len(slopes) > 0
    for variable, old, slope in zip(
        model.trainable_variables, before, slopes, strict=True
    ):
        assert_close(old - np.array(variable), slope, topology.tolerance)


def test_evaluate(topology):
    """The loss is the task's and the terms, by batch size as Keras weighs."""
    case = topology.build()
    model = compiled(case, attached_to(case))
    size = len(keras.tree.flatten(case.x)[0])
    with state_kept(model):
        found = model.evaluate(
            case.x,
            case.y,
            batch_size=case.batch,
            verbose=0,
            return_dict=True,
            callbacks=[PenaltyMonitor(None)],
        )
    terms, task = {}, 0.0
    for x, y in batches(case):
        batch = one_batch(case, x, y, training=False)
        weight = len(keras.tree.flatten(x)[0]) / size
        task += weight * batch.task
        for name, value in batch.terms.items():
            terms[name] = terms.get(name, 0.0) + weight * value
    logged = {
        name.removeprefix("penalty/"): value
        for name, value in found.items()
        if name.startswith("penalty/")
    }
    assert_same_terms(logged, terms, topology.tolerance)
    total = task + case.scale * (
        sum(terms.values()) + float(case.regularizer())
    )
    assert found["loss"] == pytest.approx(total, rel=topology.tolerance)


def shaken(model):
    """Change every weight."""
    for variable in model.trainable_variables:
        variable.assign(variable.value * 0.5 + 0.125)


def test_weight_files(topology, tmp_path):
    """Weights pass between a penalised and a plain model, both ways."""
    model = attached_to(topology.build())
    other = topology.build()
    plain = other.model
    assert [w.shape for w in model.weights] == [w.shape for w in plain.weights]
    assert model.count_params() == plain.count_params()
    for source, target in ((model, plain), (plain, model)):
        shaken(source)
        file = tmp_path / "model.weights.h5"
        source.save_weights(file)
        target.load_weights(file)
        assert_same_arrays(target.get_weights(), source.get_weights())


def test_keras_file(topology, tmp_path):
    """`.keras` files keep penalties, where Keras can save the plain model."""
    case = topology.build()
    model = attached_to(case)
    x, _ = first_batch(case)
    with state_kept(model):
        expected = outputs_of(model, x)
    file = tmp_path / "model.keras"
    if topology.saved == "lost":
        with pytest.warns(UserWarning, match="penalties of layer .* not saved"):
            model.save(file)
    elif topology.saved == "kept":
        model.save(file)
    else:
        with pytest.raises(Exception):
            model.save(file)
            keras.models.load_model(file)
        plain = detach_penalty(model)
        with pytest.raises(Exception):
            plain.save(file)
            keras.models.load_model(file)
        return
    loaded = keras.models.load_model(file, compile=False, safe_mode=False)
    with state_kept(loaded):
        assert_same_arrays(outputs_of(loaded, x), expected)
    if topology.saved == "lost":
        assert not penalized_layers(loaded)
        return
    assert_same_terms(
        penalty_terms(loaded, x),
        penalty_terms(model, x),
        topology.tolerance,
    )


def test_detach(topology):
    """Taking the penalties off gives the plain model again."""
    case = topology.build()
    x, _ = first_batch(case)
    config = case.model.get_config() if topology.saved == "kept" else None
    layers = list(case.model.layers)
    weights = case.model.weights
    model = attached_to(case)
    assert penalized_layers(model)
    with state_kept(model):
        expected = outputs_of(model, x)
    plain = detach_penalty(model)
    assert type(plain) is type(case.model)
    assert not penalized_layers(plain)
    if config is not None:
        assert plain.get_config() == config
    assert plain.layers == layers
    assert all(
        one is other for one, other in zip(plain.weights, weights, strict=True)
    )
    with state_kept(plain):
        assert_same_arrays(outputs_of(plain, x), expected)
        plain(x, training=True)
        assert sum(map(float, plain.losses)) == float(case.regularizer())
