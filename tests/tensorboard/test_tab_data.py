"""What is written for the Activations tab, against the format it documents."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from models import nested
from tensorboard.util import tensor_util

from keras_actpen import attach_penalty, penalized_layers, watch_activations
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.findings import Finding
from keras_actpen.statistics.snapshot import StatisticsSnapshot
from keras_actpen.tensorboard import tab_data, tags

pytestmark = pytest.mark.one_backend

OUTPUT, BEFORE = ActivationSpec(), ActivationSpec("preactivation")


def array(value):
    return tensor_util.make_ndarray(value.tensor)


def document(value):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(array(value).item(), parse_constant=refuse)


def test_names_and_numbers_are_those_of_the_tab():
    schema = pytest.importorskip("keras_actpen_tensorboard.schema")
    for name in (
        "PLUGIN",
        "SCHEMA",
        "MODEL",
        "FINDINGS",
        "POSITIONS",
        "SMALLEST_RATE",
    ):
        assert getattr(tab_data, name) == getattr(schema, name)
    for spec in (OUTPUT, BEFORE):
        kind, path = tags.kind(spec), "a/b"
        assert tab_data.units_tag(path, spec) == schema.units_tag(kind, path)
        assert tab_data.values_tag(path, spec) == schema.values_tag(kind, path)
        assert tags.statistic_tag("mean", path, spec) == (
            schema.statistic_tag("mean", kind, path)
        )


def test_the_model_document():
    model = attach_penalty(
        nested(), "encoder/dense_4", l2=0.1 * 0.003, on="preactivation"
    )
    model = watch_activations(model, "head")
    layers = penalized_layers(model)
    (value,) = tab_data.model(layers, "net", "1.2.3", ("kurtosis",))
    assert value.metadata.plugin_data.plugin_name == "keras_actpen"
    found = document(value)
    definitions = found.pop("statistics")
    assert {"mean", "firing_rate", "kurtosis"} <= {*definitions}
    assert found == {
        "schema": 1,
        "version": "1.2.3",
        "model": "net",
        "layers": [
            {
                "path": "encoder/dense_4",
                "class": "Dense",
                "output_shape": "(None, 6)",
                "places": [
                    {
                        "on": "preactivation",
                        "output": 0,
                        "kind": "preactivation",
                        "path": "encoder/dense_4",
                    }
                ],
                "terms": [
                    {
                        "name": "l2",
                        "on": "preactivation",
                        # Not 0.00030000000000000003.
                        "penalty": "L2(coefficient=0.0003, reduction='batch', "
                        "name='l2')",
                        "formula": found["layers"][0]["terms"][0]["formula"],
                        "coefficient": 0.0003,
                    }
                ],
            },
            {
                "path": "decoder/head",
                "class": "Dense",
                "output_shape": "(None, 2)",
                "places": [
                    {
                        "on": "output",
                        "output": 0,
                        "kind": "activation",
                        "path": "decoder/head",
                    }
                ],
                "terms": [],
            },
        ],
    }


def test_findings_are_strict_json():
    found = [
        Finding("dead", "a", 0.75, 0.5, "75 % of units are dead"),
        Finding("nonfinite", "b", math.nan, 0.0, "the penalty l2 is nan"),
        Finding("exploding", "b", math.inf, 1000.0, 'a "root" mean square'),
    ]
    (value,) = tab_data.findings(found)
    shown = document(value)
    assert shown["schema"] == 1
    assert [one["value"] for one in shown["findings"]] == [
        0.75,
        "NaN",
        "Infinity",
    ]
    assert shown["findings"][0] == {
        "kind": "dead",
        "path": "a",
        "term": None,
        "value": 0.75,
        "threshold": 0.5,
        "message": "75 % of units are dead",
    }
    assert list(tab_data.findings([])) == []


def test_a_unit_that_fired_once_is_not_stored_as_never():
    fired = np.array([0, 1, 10**9, 5 * 10**8])
    seen = StatisticsSnapshot(count=4 * 10**9, fired=fired)
    (value,) = tab_data.units("d", OUTPUT, seen)
    stored = array(value)
    assert stored.dtype == np.float16
    assert stored.tolist() == [0.0, tab_data.SMALLEST_RATE, 1.0, 0.5]
    assert list(tab_data.units("d", OUTPUT, StatisticsSnapshot())) == []


def layer_watched_at(*specs):
    return SimpleNamespace(actpen=SimpleNamespace(specs=specs))


def test_positions_are_in_the_order_of_the_document():
    layers = {
        "a": layer_watched_at(OUTPUT, BEFORE),
        "b": layer_watched_at(OUTPUT),
    }
    seen = StatisticsSnapshot(count=30, nonfinite=2, fired=np.zeros(4))
    snapshots = {("b", OUTPUT): StatisticsSnapshot(), ("a", BEFORE): seen}
    (value,) = tab_data.positions(layers, snapshots)
    assert array(value).dtype == np.float64
    assert array(value).tolist() == [0.0, 8.0, 0.0]


def test_histograms_are_those_of_the_stock_page():
    buckets = np.array([[0.0, 0.5, 3.0], [0.5, 1.0, 4.0]])
    seen = StatisticsSnapshot(histogram=buckets)
    (value,) = tab_data.values("d", BEFORE, seen)
    assert value.tag == "keras_actpen/preactivation.values/d"
    np.testing.assert_array_equal(array(value), buckets)
    assert list(tab_data.values("d", BEFORE, StatisticsSnapshot())) == []
