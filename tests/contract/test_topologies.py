"""One contract for every kind of model, see `topologies.py`."""

import contextlib
import gc
import re

import h5py
import keras
import numpy as np
import pytest
from by_hand import (
    batches,
    first_batch,
    number,
    one_batch,
    one_step,
    state_kept,
)
from inner_topologies import REFUSALS, SLOW, TOPOLOGIES
from models import QUICK, assert_same_arrays, outputs_of

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_terms,
)

# One of the models only normalizes in front of its target.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The penalty on 'target' changes no weight"
)


# The tolerance of what is computed in float32 or wider.
EXACT = 2e-5


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """XLA's optimizations take longer here than they save."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def no_collections(monkeypatch):
    """Keras collects garbage for every layer that it quantizes."""
    # Half a second each in a process as large as this.
    monkeypatch.setattr(gc, "collect", lambda generation=2: 0)


@pytest.fixture(
    params=[
        pytest.param(one, id=one.name, marks=[SLOW] if one.slow else [])
        for one in TOPOLOGIES
    ]
)
def topology(request):
    cannot = request.param.keras_cannot.get(keras.backend.backend())
    if cannot is not None:
        pytest.skip(f"Keras itself cannot: {cannot[0]}")
    need(request.param)
    with precision(request.param):
        yield request.param


def precision(row):
    """On JAX float64 is there only when it is asked for."""
    if keras.backend.backend() != "jax" or not row.wide:
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


def need(row):
    """Skip what takes a package that is not installed."""
    if row.name.startswith("hub_"):
        pytest.importorskip("keras_hub")


def attached_to(case):
    model = attach_penalty(
        case.model,
        case.select,
        l1=case.l1,
        l2=case.l2,
        on=case.on,
        output=case.output,
    )
    if case.after is not None:
        case.after(model)
    return model


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
    with state_kept(model):
        expected = one_batch(case, x, y, training=False)
    assert min(expected.terms.values()) > 0
    assert_same_terms(
        penalty_terms(model, x), expected.terms, topology.tolerance
    )
    with state_kept(model):
        found = outputs_of(model, x)
        losses = list(map(number, model.losses))
    if case.after is not None:
        with state_kept(case.model):
            outputs = outputs_of(case.model, x)
    assert_same_arrays(found, outputs)
    assert sum(losses) == pytest.approx(
        sum(expected.terms.values()) + number(case.regularizer()),
        rel=topology.tolerance,
    )
    # Neither the model passed in nor any other gets the penalty.
    for other in [case.model] * (model is not case.model) + case.siblings:
        with state_kept(other):
            other(x)
            assert not penalized_layers(other)
            assert sum(map(number, other.losses)) == number(case.regularizer())


def compiled(case, model, **arguments):
    # Given metrics replace those that KerasHub's tasks are compiled with.
    metrics = ["mae"] if isinstance(case.y, np.ndarray) else None
    keras.Model.compile(
        model,
        keras.optimizers.SGD(1.0),
        case.losses,
        metrics=metrics,
        auto_scale_loss=False,
        **{**QUICK, **arguments},
    )
    return model


def test_gradient(topology):
    """One step of `fit` goes down the gradient of the loss by hand."""
    case = topology.build()
    x, y = first_batch(case)
    model = attached_to(case)
    expected, slopes = one_step(case, x, y)
    before = [
        keras.ops.convert_to_numpy(keras.ops.copy(v.value))
        for v in model.trainable_variables
    ]
    compiled(case, model)
    history = model.fit(x, y, batch_size=case.batch, shuffle=False, verbose=0)
    history = history.history
    assert history["loss"][0] == pytest.approx(expected.loss, rel=1e-6)
    assert len(before) == len(slopes) > 0
    # Where a gradient is 0, as that of a bias in front of BatchNormalization,
    # the rounding of the largest one shows.
    largest = max(1.0, *(np.max(np.abs(slope)) for slope in slopes))
    for variable, old, slope in zip(
        model.trainable_variables, before, slopes, strict=True
    ):
        # Weights of size 1 round their difference to 1e-7.
        np.testing.assert_allclose(
            old - keras.ops.convert_to_numpy(variable),
            slope,
            rtol=topology.tolerance,
            atol=topology.tolerance
            * max(np.max(np.abs(slope)), 0.01 * largest),
        )
    if topology.tolerance <= EXACT:
        found = flat(model.trainable_variables)
        right = flat(before) - flat(slopes)
        assert np.linalg.norm(found - right) <= 1e-6 * np.linalg.norm(right)


def flat(arrays):
    """Every number in float64."""
    arrays = map(keras.ops.convert_to_numpy, arrays)
    return np.concatenate([np.ravel(one).astype("float64") for one in arrays])


def test_evaluate(topology):
    """The loss is the task's and the terms, by batch size as Keras weighs."""
    case = topology.build()
    # Not compiled, as a second time everywhere would take minutes.
    eagerly = {"run_eagerly": True, "jit_compile": False}
    model = compiled(case, attached_to(case), **eagerly)
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
        if keras.backend.backend() == "jax":
            # There Keras's trainer loses the state of a stateful RNN.
            with state_kept(model):
                batch = one_batch(case, x, y, training=False)
        else:
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
        sum(terms.values()) + number(case.regularizer())
    )
    assert found["loss"] == pytest.approx(total, rel=topology.tolerance)


def shaken(model):
    """Change every weight."""
    for variable in model.trainable_variables:
        variable.assign(variable.value * 0.5 + 0.125)


def contents(file):
    """Every array in a weight file by its path."""
    found = {}

    def note(path, item):
        if isinstance(item, h5py.Dataset):
            found[path] = np.array(item)

    with h5py.File(file) as opened:
        opened.visititems(note)
    return found


def test_weight_files(topology, tmp_path):
    """Weights pass between a penalized and a plain model, both ways."""
    model = attached_to(topology.build())
    other = topology.build()
    plain = other.model
    if other.after is not None:
        other.after(plain)
    assert [w.shape for w in model.weights] == [w.shape for w in plain.weights]
    assert model.count_params() == plain.count_params()
    file, again = tmp_path / "one.weights.h5", tmp_path / "two.weights.h5"
    for source, target in ((model, plain), (plain, model)):
        shaken(source)
        source.save_weights(file)
        target.load_weights(file)
        target.save_weights(again)
        saved, loaded = contents(file), contents(again)
        assert saved.keys() == loaded.keys()
        for path, array in saved.items():
            np.testing.assert_array_equal(loaded[path], array)


# Keras does not save that a model supports masking.
@pytest.mark.filterwarnings("ignore:.*does not support masking")
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
        for one in (detach_penalty(model), model):
            one.save(file)
            with pytest.raises(TypeError, match=topology.saved):
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
    # LoRA and quantization that come later are in the config too.
    compared = topology.saved == "kept" and case.after is None
    config = case.model.get_config() if compared else None
    layers = [(type(layer), layer.name) for layer in case.model.layers]
    model = attached_to(case)
    weights = case.model.weights
    assert penalized_layers(model)
    with state_kept(model):
        expected = outputs_of(model, x)
    plain = detach_penalty(model)
    assert type(plain) is type(case.model)
    assert not penalized_layers(plain)
    if config is not None:
        assert plain.get_config() == config
    assert [(type(layer), layer.name) for layer in plain.layers] == layers
    assert all(
        one is other for one, other in zip(plain.weights, weights, strict=True)
    )
    with state_kept(plain):
        assert_same_arrays(outputs_of(plain, x), expected)
        plain(x, training=True)
        assert sum(map(number, plain.losses)) == number(case.regularizer())


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.name)
def test_refused(row):
    need(row)
    model = row.build()
    if keras.backend.backend() not in row.backends:
        # Here loops, branches and the like are Python's own.
        model = attach_penalty(model, row.layers, l2=0.1)
        terms = penalty_terms(model, np.ones((2, *model.input_shape[1:])))
        assert min(terms.values()) > 0
        return
    with pytest.raises(ValueError, match=f"^{re.escape(row.message)}$"):
        attach_penalty(model, row.layers, l2=0.1)


@pytest.mark.parametrize(
    "topology",
    [one for one in TOPOLOGIES if keras.backend.backend() in one.keras_cannot],
    ids=lambda one: one.name,
)
def test_keras_itself_cannot(topology):
    """Once Keras can train the plain model, the contract must hold for it."""

    def train_plain():
        case = topology.build()
        compiled(case, case.model, jit_compile=False)
        case.model.fit(case.x, case.y, batch_size=case.batch, verbose=0)

    _, message = topology.keras_cannot[keras.backend.backend()]
    with pytest.raises(
        (ValueError, TypeError, RuntimeError, UserWarning), match=message
    ):
        train_plain()
