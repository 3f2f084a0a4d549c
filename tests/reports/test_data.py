"""Reports take data in every form that `evaluate` takes."""

import importlib.util
import re

import keras
import numpy as np
import pytest
from models import QUICK, by_keys, data, data_for, sequential

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    penalty_gradient_share,
    penalty_report,
    penalty_terms,
    suggest_coefficient,
    unit_statistics,
)

X, Y = data(samples=10)
WEIGHTS = np.linspace(0.5, 2.0, 10).astype("float32")


class Rows(keras.utils.PyDataset):
    """Batches of 4, 4 and 2 samples."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return X[rows], Y[rows]


def generator():
    yield from map(Rows(workers=1).__getitem__, range(3))


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def data_loader():
    torch = pytest.importorskip("torch")
    tensors = torch.utils.data.TensorDataset(
        torch.from_numpy(X), torch.from_numpy(Y)
    )
    return torch.utils.data.DataLoader(tensors, batch_size=4)


FORMS = {
    "py_dataset": lambda: Rows(),
    "workers": lambda: Rows(workers=2),
    "generator": generator,
    "tf_dataset": tf_dataset,
    "data_loader": data_loader,
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(7)
    model = attach_penalty(sequential(), "dense_4", l1=0.01, l2=0.02)
    model.compile("sgd", "mse", **QUICK)
    return model


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_what_arrays_give(model, form):
    new = FORMS[form]
    quiet = {"verbose": 0}
    arrays = {"batch_size": 4, "verbose": 0}
    expected = model.evaluate(
        X, Y, **arrays, callbacks=[PenaltyMonitor(None)], return_dict=True
    )
    terms = penalty_terms(model, new(), **quiet)
    assert {f"penalty/{key}": value for key, value in terms.items()} == (
        pytest.approx({k: v for k, v in expected.items() if "/" in k}, rel=1e-5)
    )
    report = penalty_report(model, new(), **quiet)
    assert report.samples == 10
    assert report.loss == pytest.approx(expected["loss"], rel=1e-5)
    assert str(report) == str(penalty_report(model, X, Y, **arrays))
    assert penalty_gradient_share(model, new(), **quiet) == pytest.approx(
        penalty_gradient_share(model, X, Y, **arrays)
    )
    assert suggest_coefficient(
        model, "head", "l2", new(), **quiet
    ) == pytest.approx(suggest_coefficient(model, "head", "l2", X, Y, **arrays))
    (found,) = unit_statistics(model, new(), **quiet).values()
    (wanted,) = unit_statistics(model, X, **arrays).values()
    np.testing.assert_array_equal(found.rms, wanted.rms)
    assert found.positions == 10


def test_batches_are_one_vector(model):
    """The gradient of the mean over all samples, however it is cut."""
    model = attach_penalty(model, "drop", l1=0.1)
    cut, whole = (
        penalty_gradient_share(
            model, X, Y, batch_size=size, training=False, verbose=0
        )
        for size in (4, 10)
    )
    assert cut == pytest.approx(whole, rel=1e-5)


def test_sample_weights_are_those_of_evaluate(model):
    expected = model.evaluate(X, Y, sample_weight=WEIGHTS, verbose=0)
    found = penalty_report(model, X, Y, sample_weight=WEIGHTS)
    assert found.loss == pytest.approx(expected, rel=1e-5)
    heavier = penalty_gradient_share(model, X, Y, sample_weight=4 * WEIGHTS)
    lighter = penalty_gradient_share(model, X, Y, sample_weight=WEIGHTS)
    assert {key: 4 * share for key, share in heavier.items()} == (
        pytest.approx(lighter, rel=1e-5)
    )


def test_steps(model):
    def endless():
        while True:
            yield from generator()

    found = penalty_report(model, endless(), steps=2, verbose=0)
    assert found.samples == 8
    wanted = penalty_report(model, X[:8], Y[:8], batch_size=4, verbose=0)
    assert str(found) == str(wanted)
    # Of arrays they say how large a batch is, as in `evaluate`.
    cut = penalty_terms(model, X, steps=5, verbose=0)
    assert cut == pytest.approx(penalty_terms(model, X), rel=1e-6)


def test_dictionaries():
    model = attach_penalty(by_keys(), "dense_4", l2=0.1)
    x, _ = data_for(model)
    cut = penalty_terms(model, x, batch_size=4, verbose=0)
    assert cut == pytest.approx(penalty_terms(model, x), rel=1e-6)


def test_progress_bar(model, capsys):
    penalty_terms(model, X)
    assert capsys.readouterr().out == ""  # one batch, at its end at once
    penalty_terms(model, X, batch_size=4)
    assert "3/3" in capsys.readouterr().out
    penalty_terms(model, generator())
    assert "3/Unknown" in capsys.readouterr().out
    penalty_terms(model, X, verbose=1)
    assert "1/1" in capsys.readouterr().out
    for verbose in (0, 2):
        penalty_terms(model, X, batch_size=4, verbose=verbose)
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(" - ")[0] for line in lines] == ["3/3"]


def nothing():
    yield from ()


@pytest.mark.parametrize(
    ("x", "received"),
    [
        (lambda: nothing(), "x=<generator object nothing at 0x"),
        (lambda: [[1.0, 2.0], [3.0, 4.0]], "x=[[1.0, 2.0], [3.0, 4.0]]"),
        (lambda: [X, "text"], f"x=[<array of shape {X.shape} and dtype "),
    ],
)
def test_what_is_no_data(model, x, received):
    with pytest.raises(ValueError, match=re.escape(f"Received: {received}")):
        penalty_terms(model, x())


@pytest.mark.parametrize("form", ["py_dataset", "generator", "tf_dataset"])
def test_targets_beside_a_dataset(model, form):
    if form == "tf_dataset" and not importlib.util.find_spec("tensorflow"):
        pytest.skip("needs TensorFlow")
    with pytest.raises(ValueError, match="without `y` and `sample_weight`"):
        penalty_report(model, FORMS[form](), Y)


def test_errors_print_no_array(model):
    """What somebody sees who has the arguments in another order."""
    many = np.zeros((300, 4))
    calls = (
        lambda: suggest_coefficient(model, "dense_4", many, Y, "l2"),
        lambda: suggest_coefficient(model, many, "l2", X, Y),
        lambda: suggest_coefficient(model, "dense_4", "l2", X, Y, many),
        lambda: penalty_terms(many, model),
        lambda: penalty_report(model, X, Y, batch_size=many),
    )
    for call in calls:
        with pytest.raises(TypeError) as caught:
            call()
        assert "shape (300, 4) and dtype float64" in str(caught.value)
        assert "0. 0." not in str(caught.value)
