"""Files that keras_actpen 0.1.0 wrote load, with the numbers they had."""

import json

import keras
import numpy as np
import pytest
from event_logs import read
from keras import ops
from paths import TESTS

from keras_actpen import (
    PenalizedLayer,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_terms,
)

FOLDER = TESTS / "data" / "compat_0.1.0"
FACTS = json.loads((FOLDER / "facts_0.1.0.json").read_text())


def loaded(name):
    model = keras.models.load_model(FOLDER / f"{name}_0.1.0.keras")
    x = np.array(FACTS[name]["inputs"])
    return model, x.astype("int32" if name == "text" else "float32")


def outputs_of(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def check(model, x, facts):
    np.testing.assert_allclose(
        outputs_of(model, x), facts["outputs"], rtol=1e-5, atol=1e-7
    )
    assert penalty_terms(model, x) == pytest.approx(facts["terms"], rel=1e-5)


@pytest.mark.parametrize("name", FACTS)
def test_model_files(name, tmp_path):
    model, x = loaded(name)
    check(model, x, FACTS[name])
    for path, layer in penalized_layers(model).items():
        assert isinstance(layer, PenalizedLayer)
        assert isinstance(layer, type(layer.wrapped_layer))
        assert layer.name == path.rpartition("/")[2]
    # And what is made of them.
    model.save(tmp_path / "again.keras")
    check(keras.models.load_model(tmp_path / "again.keras"), x, FACTS[name])
    plain = detach_penalty(model)
    np.testing.assert_array_equal(outputs_of(plain, x), outputs_of(model, x))
    path = next(iter(penalized_layers(model)))
    more = attach_penalty(model, path, l1=0.0, name="more")
    extended = {**FACTS[name]["terms"], f"{path}/more": 0.0}
    assert penalty_terms(more, x) == pytest.approx(extended, rel=1e-5)


@pytest.mark.parametrize("name", FACTS)
def test_weight_files(name):
    model, x = loaded(name)
    for one in (model, detach_penalty(model)):
        one.set_weights([w * 0.0 for w in one.get_weights()])
        one.load_weights(FOLDER / f"{name}_0.1.0.weights.h5")
        np.testing.assert_allclose(
            outputs_of(one, x), FACTS[name]["outputs"], rtol=1e-5, atol=1e-7
        )


def test_logs_open():
    runs = read(FOLDER / "logs_0.1.0")
    assert {"actpen/train", "actpen/validation"} <= {*runs}
    tags = [tag for tag in runs["actpen/train"] if tag.startswith("penalty/")]
    assert tags
    for tag in tags:
        assert len(runs["actpen/train"][tag].values) > 0
