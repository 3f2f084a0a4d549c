import doctest
import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl

from keras_actpen import PenalizedLayer, attach_penalty
from keras_actpen.attach import select as select_module
from keras_actpen.attach.held_layers import is_graph_model, runs_its_graph
from keras_actpen.attach.layer_refs import layer_refs
from keras_actpen.attach.select import select

INVALID = "Invalid value received for argument `layers`. Expected "
KINDS = (
    "Invalid type received for argument `layers`. Expected a layer's name, "
    "path or glob, a layer, a layer class, a compiled regex, a function "
    "f(layer) -> bool, an index, or a list or tuple of these, for example "
)


def paths(model, layers):
    return [ref.path for ref in select(model, layers)]


def refused(model, layers, message, error=ValueError):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        select(model, layers)


def sub_model(name, *names):
    """Functional model: one Dense a name."""
    x = inputs = keras.Input((3,), name=f"{name}_in")
    for layer in names:
        x = kl.Dense(3, name=layer)(x)
    return keras.Model(inputs, x, name=name)


def nested_model():
    """Two deep: conv, encoder(first, core(first, last)), decoder, out."""
    core = sub_model("core", "first", "last")
    x = keras.Input((3,), name="encoder_in")
    encoder = keras.Model(x, core(kl.Dense(3, name="first")(x)), name="encoder")
    decoder = keras.Sequential(
        [
            keras.Input((3,), name="decoder_in"),
            kl.Dense(3, name="first"),
            kl.ReLU(name="relu[0]"),
        ],
        name="decoder",
    )
    x = keras.Input((3,), name="x")
    h = decoder(encoder(kl.Dense(3, name="dense_4")(x)))
    return keras.Model(x, kl.Softmax(name="out")(h), name="whole")


NESTED_PATHS = [
    "dense_4",
    "encoder",
    "encoder/first",
    "encoder/core",
    "encoder/core/first",
    "encoder/core/last",
    "decoder",
    "decoder/first",
    "decoder/relu[0]",
    "out",
]
LISTED = "The paths of its layers are: " + ", ".join(map(repr, NESTED_PATHS))


@pytest.fixture(scope="module")
def nested():
    return nested_model()


class Residual(kl.Layer):
    """Composite layer that keeps its layers in a dict of tuples."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = {"all": (kl.Dense(3, name="inner"),)}

    def call(self, x):
        return x + self.blocks["all"][0](x)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = kl.Dense(3, name="first")
        self.blocks = [kl.Dense(3, name="twin"), kl.Dense(3, name="twin")]
        self.graph = sub_model("graph", "first", "last")
        self.residual = Residual(name="residual")

    def call(self, x):
        for layer in (self.first, *self.blocks, self.graph):
            x = layer(x)
        return self.residual(x)


class Graph(keras.Model):
    """A Functional model of the user's own class."""

    def __init__(self, **kwargs):
        x = keras.Input((3,))
        super().__init__(x, kl.Dense(3, name="only")(x), **kwargs)


class OwnCall(Graph):
    def call(self, x):
        return 2 * super().call(x)


class Wrapper(kl.Layer):
    """A layer of the user's with an attribute `wrapped_layer`."""

    def __init__(self, layer, name=None):
        super().__init__(name=name or layer.name)
        self.wrapped_layer = layer

    def call(self, x):
        return self.wrapped_layer(x)


# Where layers are found


def test_sites_come_in_model_order(nested):
    found = layer_refs(nested)
    assert [ref.path for ref in found] == NESTED_PATHS
    owners = {ref.path: ref.owner for ref in found}
    encoder = nested.get_layer("encoder")
    assert owners["encoder"] is nested
    assert owners["encoder/core"] is encoder
    assert owners["encoder/core/last"] is encoder.get_layer("core")
    assert found[0].layer is nested.get_layer("dense_4")


def test_sites_of_sequential():
    model = keras.Sequential(
        [kl.Dense(3, name="a"), kl.Dense(3, name="b")], name="plain"
    )
    assert [ref.path for ref in layer_refs(model)] == ["a", "b"]
    model.build((None, 3))
    assert [ref.path for ref in layer_refs(model)] == ["a", "b"]


def test_shared_model_called_twice_is_one_place():
    shared = sub_model("shared", "dense")
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], kl.Add(name="sum")([shared(a), shared(b)]))
    assert [ref.path for ref in layer_refs(model)] == [
        "shared",
        "shared/dense",
        "sum",
    ]
    assert paths(model, "dense") == ["shared/dense"]


def test_layer_shared_by_two_models_is_one_place_with_two_paths():
    core = sub_model("core", "dense")
    left = keras.Sequential([keras.Input((3,)), core], name="left")
    right = keras.Sequential([keras.Input((3,)), core], name="right")
    x = keras.Input((3,))
    model = keras.Model(x, right(left(x)))
    assert [ref.paths for ref in layer_refs(model)] == [
        ("left",),
        ("left/core", "right/core"),
        ("left/core/dense", "right/core/dense"),
        ("right",),
    ]
    for layers in ("right/core/dense", "right/*/dense", "dense"):
        assert paths(model, layers) == ["left/core/dense"]
    assert paths(model, re.compile("right/.*se")) == ["left/core/dense"]


def test_subclassed_model():
    model = Subclassed(name="mine")
    assert [ref.path for ref in layer_refs(model)] == [
        "first",
        "blocks/0/twin",
        "blocks/1/twin",
        "graph",
        "graph/first",
        "graph/last",
        "residual",
    ]
    assert paths(model, "first") == ["first"]
    assert select(model, model.blocks[1])[0].layer is model.blocks[1]
    assert select(model, 2)[0].layer is model.blocks[1]
    assert len(select(model, "twin*")) == 2
    refused(
        model,
        "twin",
        INVALID + "a name that one layer has. Received: layers='twin', which "
        "2 layers have: 'blocks/0/twin', 'blocks/1/twin'. Write one of these "
        "paths, or a list of several; layers='*/twin' is all of them.",
    )


def test_subclassed_model_in_a_subclassed_one():
    class Outer(keras.Model):
        def __init__(self):
            super().__init__(name="outer")
            self.inner = Subclassed(name="inner")
            self.inner.parent = self

    assert paths(Outer(), "last") == ["inner/graph/last"]


def test_layers_of_a_subclassed_model_in_a_graph():
    x = keras.Input((3,), name="x")
    inner = Subclassed(name="inner")
    model = keras.Model(x, inner(x), name="outer")
    assert [ref.path for ref in layer_refs(model)] == ["inner"]
    for layers in ("last", "inner/graph/last", inner.graph.get_layer("last")):
        assert paths(model, layers) == ["inner/graph/last"]
    assert paths(model, inner.residual) == ["inner/residual"]


def test_graph_models():
    assert is_graph_model(Graph())
    assert is_graph_model(keras.Sequential())
    assert is_graph_model(sub_model("plain", "dense"))
    assert is_graph_model(OwnCall())
    assert not runs_its_graph(OwnCall())
    assert runs_its_graph(Graph())
    assert not is_graph_model(Subclassed())
    assert not is_graph_model(kl.Dense(3))
    assert paths(Graph(), "*") == ["only"]
    assert paths(OwnCall(), "*") == ["only"]


def test_wrapper_stands_for_what_it_wraps():
    dense, core = kl.Dense(3, name="dense"), sub_model("core", "inner")
    named = Wrapper(kl.Dense(3, name="hidden"), name="other")
    model = keras.Sequential(
        [
            keras.Input((3,)),
            PenalizedLayer(dense, "l2"),
            PenalizedLayer(core, "l2"),
            named,
        ]
    )
    assert [s.path for s in layer_refs(model)] == [
        "dense",
        "core",
        "core/inner",
        "other",
    ]
    for layers in (dense, model.layers[0], lambda layer: layer is dense):
        assert select(model, layers)[0].layer is model.layers[0]
    assert paths(model, kl.Dense) == ["dense", "core/inner"]
    assert paths(model, PenalizedLayer) == ["dense", "core"]
    assert paths(model, Wrapper) == ["other"]
    assert paths(model, "hidden") == ["other/wrapped_layer"]


# Kinds of entries


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("dense_4", ["dense_4"]),
        ("last", ["encoder/core/last"]),
        ("encoder/first", ["encoder/first"]),
        ("encoder", ["encoder"]),
        ("core", ["encoder/core"]),
        ("relu[0]", ["decoder/relu[0]"]),
        ("decoder/relu[0]", ["decoder/relu[0]"]),
        ("relu[[]?]", ["decoder/relu[0]"]),
        ("*", NESTED_PATHS),
        ("fir*", ["encoder/first", "encoder/core/first", "decoder/first"]),
        ("*/first", ["encoder/first", "encoder/core/first", "decoder/first"]),
        ("encoder/*/first", ["encoder/core/first"]),
        ("[de]*oder", ["encoder", "decoder"]),
        (re.compile("encoder/[^/]+"), ["encoder/first", "encoder/core"]),
        (re.compile("OUT", re.IGNORECASE), ["out"]),
        (kl.Softmax, ["out"]),
        (keras.Sequential, ["decoder"]),
        (keras.Model, ["encoder", "encoder/core", "decoder"]),
        (kl.Layer, NESTED_PATHS),
        (lambda layer: "o" in layer.name[:1], ["out"]),
        (1, ["dense_4"]),
        (-1, ["out"]),
        (np.int64(4), ["out"]),
        (range(1, 3), ["dense_4", "encoder"]),
        (["out", "dense_4", "out", 1], ["dense_4", "out"]),
        (("decoder", kl.Softmax), ["decoder", "out"]),
    ],
)
def test_entries(nested, layers, expected):
    assert paths(nested, layers) == expected


def test_layer_objects(nested):
    last = nested.get_layer("encoder").get_layer("core").get_layer("last")
    assert paths(nested, last) == ["encoder/core/last"]
    assert paths(nested, nested.get_layer("decoder")) == ["decoder"]
    assert paths(nested, [last, "out"]) == ["encoder/core/last", "out"]


def test_layer_of_the_model_itself_wins():
    inner = sub_model("inner", "dense")
    x = keras.Input((3,))
    model = keras.Model(x, kl.Dense(3, name="dense")(inner(x)))
    assert paths(model, "dense") == ["dense"]


def test_example():
    assert doctest.testmod(select_module) == (0, 4)


# Errors


def test_ambiguous_name(nested):
    refused(
        nested,
        "first",
        INVALID + "a name that one layer has. Received: layers='first', "
        "which 3 layers have: 'encoder/first', 'encoder/core/first', "
        "'decoder/first'. Write one of these paths, or a list of several; "
        "layers='*/first' is all of them.",
    )


@pytest.mark.parametrize(
    ("layers", "received", "near"),
    [
        ("dense_44", "layers='dense_44'", "Did you mean 'dense_4'? "),
        ("DENSE_4", "layers='DENSE_4'", "Did you mean 'dense_4'? "),
        ("lastt", "layers='lastt'", "Did you mean 'encoder/core/last'? "),
        (
            "whole/core/last",
            "layers='whole/core/last'",
            "Did you mean 'encoder/core/last'? ",
        ),
        ("dens_*", "layers='dens_*'", "Did you mean 'dense_4'? "),
        ("xyzzy", "layers='xyzzy'", ""),
        (
            re.compile("dense_5"),
            "layers=re.compile('dense_5')",
            "Did you mean 'dense_4'? ",
        ),
        (["out", "oot"], "layers[1]='oot'", "Did you mean 'out'? "),
        (kl.Conv2D, "layers=Conv2D", ""),
        (int, "layers=int", ""),
        (
            kl.EinsumDense,
            "layers=EinsumDense",
            "Did you mean Dense? ",
        ),
    ],
)
def test_no_match(nested, layers, received, near):
    refused(
        nested,
        layers,
        INVALID + f"one or more layers of model 'whole'. Received: {received}"
        f", which matches none. {near}{LISTED}.",
    )


def test_predicate_without_match(nested):
    def never(layer):
        return False

    refused(
        nested,
        never,
        INVALID + f"one or more layers of model 'whole'. Received: "
        f"layers={never!r}, which matches none. {LISTED}.",
    )


def test_predicate_may_raise(nested):
    with pytest.raises(AttributeError, match="units"):
        select(nested, lambda layer: layer.units > 3)


def test_layer_of_another_model(nested):
    other = kl.Dense(3, name="dense_4")
    refused(
        nested,
        other,
        INVALID + "one or more layers of model 'whole'. Received: "
        f"layers={other!r}, which matches none. Did you mean 'dense_4'? "
        f"{LISTED}.",
    )


def test_long_list_of_paths_is_cut():
    model = keras.Sequential(
        [kl.Dense(1, name=f"layer_{i}") for i in range(43)], name="long"
    )
    listed = ", ".join(repr(f"layer_{i}") for i in range(40))
    refused(
        model,
        "xyzzy",
        INVALID + "one or more layers of model 'long'. Received: "
        "layers='xyzzy', which matches none. The paths of its layers are: "
        f"{listed}, … and 3 more.",
    )


def test_model_without_layers():
    refused(
        keras.Sequential(name="empty"),
        "dense",
        INVALID + "one or more layers of model 'empty'. Received: "
        "layers='dense', which matches none. The model has no layers that "
        "could be penalized.",
    )
    refused(
        keras.Sequential(name="empty"),
        0,
        INVALID + "an index that model 'empty' has. Received: layers=0. The "
        "model has no layers.",
    )


@pytest.mark.parametrize(
    ("layers", "received", "after"),
    [
        ("x", "layers='x'", "dense_4"),
        ("[x]", "layers='[x]'", "dense_4"),
        (0, "layers=0", "dense_4"),
        (kl.InputLayer, "layers=InputLayer", "dense_4"),
        (re.compile("x|y"), "layers=re.compile('x|y')", "dense_4"),
        ("encoder_in", "layers='encoder_in'", "encoder/first"),
        ("encoder/encoder_in", "layers='encoder/encoder_in'", "encoder/first"),
        (
            "encoder/core/core_*",
            "layers='encoder/core/core_*'",
            "encoder/core/first",
        ),
        (["out", "decoder_in"], "layers[1]='decoder_in'", "decoder/first"),
    ],
)
def test_inputs_are_refused(nested, layers, received, after):
    refused(
        nested,
        layers,
        INVALID + "a layer that computes something; inputs cannot be "
        f"penalized. Received: {received}, an input layer. Write the first "
        f"layer after it: {after!r}.",
    )


def test_the_layer_after_an_input_is_the_one_that_reads_it():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    h = [kl.Dense(3, name="on_a")(a), kl.Dense(3, name="on_b")(b)]
    model = keras.Model([a, b], kl.Add()(h))
    for layers in ("b", model.get_layer("b")):
        refused(
            model,
            layers,
            INVALID + "a layer that computes something; inputs cannot be "
            f"penalized. Received: layers={layers!r}, an input layer. Write "
            "the first layer after it: 'on_b'.",
        )


def test_input_of_a_model_without_layers():
    x = keras.Input((3,), name="x")
    refused(
        keras.Model(x, x),
        "x",
        INVALID + "a layer that computes something; inputs cannot be "
        "penalized. Received: layers='x', an input layer. The model has no "
        "layer after it.",
    )


@pytest.fixture(scope="module")
def composite():
    x = keras.Input((4, 3), name="x")
    h = kl.TimeDistributed(kl.Dense(3, name="step"), name="each")(x)
    h = kl.Bidirectional(kl.LSTM(2, name="lstm"), name="both")(h)
    h = kl.Reshape((1, 4), name="reshape")(h)
    h = kl.RNN(
        [kl.GRUCell(3, name="lower"), kl.GRUCell(3, name="upper")],
        return_sequences=True,
        name="stack",
    )(h)
    for name in ("mha_1", "mha_2"):
        h = kl.MultiHeadAttention(1, 2, name=name)(h, h)
    return keras.Model(x, Residual(name="residual")(h), name="composite")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("step", "each/layer"),
        ("each/step", "each/layer"),
        ("each/layer", "each/layer"),
        ("forward_*", "both/forward_layer"),
        ("both/forward_layer/lstm_cell", "both/forward_layer/cell"),
        ("upper", "stack/cell/cells/1"),
        (re.compile(".*/lower"), "stack/cell/cells/0"),
        ("mha_2/query", "mha_2/query_dense"),
        ("mha_2/_query_dense", "mha_2/query_dense"),
        ("residual/inner", "residual/blocks/all/0"),
        ("inner", "residual/blocks/all/0"),
    ],
)
def test_layers_inside_others(composite, layers, expected):
    assert paths(composite, layers) == [expected]


def test_pattern_of_layers_inside_others(composite):
    """They are looked at where it matches no layer of the model itself."""
    assert paths(composite, kl.LSTM) == [
        "both/forward_layer",
        "both/backward_layer",
    ]
    assert paths(composite, "*/query") == [
        "mha_1/query_dense",
        "mha_2/query_dense",
    ]
    assert "residual/blocks/all/0" not in paths(composite, "*")
    refused(
        composite,
        "query",
        INVALID + "a name that one layer has. Received: layers='query', which "
        "2 layers have: 'mha_1/query_dense', 'mha_2/query_dense'. Write one "
        "of these paths, or a list of several; layers='*/query' is all of "
        "them.",
    )
    with pytest.raises(ValueError, match="or 'residual/blocks/all/0'"):
        select(composite, "residual/iner")


def test_object_of_a_layer_inside_another_one(composite):
    for expected, layer in (
        ("each/layer", composite.get_layer("each").layer),
        (
            "both/backward_layer/cell",
            composite.get_layer("both").backward_layer.cell,
        ),
        ("stack/cell", composite.get_layer("stack").cell),
        (
            "residual/blocks/all/0",
            composite.get_layer("residual").blocks["all"][0],
        ),
    ):
        assert paths(composite, layer) == [expected]


def test_class_of_another_library(nested):
    class Dense:
        pass

    with pytest.raises(
        ValueError,
        match=r"Did you mean keras\.src\..*\.Dense "
        "instead of .*test_select.*Dense",
    ):
        select(nested, Dense)


@pytest.mark.parametrize("index", [12, -6])
def test_index_out_of_range(nested, index):
    refused(
        nested,
        index,
        INVALID + f"an index that model 'whole' has. Received: layers={index}"
        ". Write one from -5 to 4.",
    )


@pytest.mark.parametrize("layers", [[], ()])
def test_empty_sequence(nested, layers):
    refused(
        nested,
        layers,
        INVALID + f"at least one layer. Received: layers={layers!r}. Write "
        "layers='*' for all layers.",
    )


@pytest.mark.parametrize(
    ("layers", "argument"), [("", "layers"), (["out", ""], "layers[1]")]
)
def test_empty_string(nested, layers, argument):
    refused(
        nested,
        layers,
        INVALID + f"a non-empty string. Received: {argument}=''. Write a "
        f"layer's name, path or glob, for example {argument}='dense_4'.",
    )


@pytest.mark.parametrize(
    ("layers", "argument", "shown"),
    [
        (None, "layers", "None (of type NoneType)"),
        (True, "layers", "True (of type bool)"),
        (1.0, "layers", "1.0 (of type float)"),
        (b"dense_4", "layers", "b'dense_4' (of type bytes)"),
        ({"dense_4"}, "layers", "{'dense_4'} (of type set)"),
        ({"dense_4": "l1"}, "layers", "{'dense_4': 'l1'} (of type dict)"),
        ([{"out": "l1"}], "layers[0]", "{'out': 'l1'} (of type dict)"),
        (["out", ["out"]], "layers[1]", "['out'] (of type list)"),
        (["out", None], "layers[1]", "None (of type NoneType)"),
        (re.compile(b"a"), "layers", "re.compile(b'a') (of type Pattern)"),
    ],
)
def test_wrong_type(nested, layers, argument, shown):
    refused(
        nested,
        layers,
        f"{KINDS}{argument}='dense_4'. Received: {argument}={shown}",
        TypeError,
    )


def test_model_of_wrong_type():
    layer = kl.Dense(3)
    refused(
        layer,
        "dense_4",
        "Invalid type received for argument `model`. Expected a keras.Model. "
        f"Received: model={layer!r} (of type Dense)",
        TypeError,
    )


# Anything at all

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.binary(max_size=4)
    | st.text(max_size=12)
    | st.text("*?[]!/firstcoelandkp", max_size=12)
    | st.sampled_from([*NESTED_PATHS, "x", "core_in", int, kl.Dense, object()])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=4 * settings.default.max_examples)
@given(layers=ANYTHING)
def test_anything_selects_or_is_refused(nested, layers):
    available = [ref.path for ref in layer_refs(nested)]
    message = ""
    try:
        found = paths(nested, layers)
    except (TypeError, ValueError) as error:
        found, message = [], str(error)
    assert found == [path for path in available if path in found]
    refusal = (
        r"Invalid (value|type) received for argument `layers`\. Expected "
        r".+\. Received: layers.+"
    )
    assert bool(found) != bool(re.fullmatch(refusal, message, re.DOTALL))


def test_what_is_meant_inside_a_wrapper():
    inputs = keras.Input((4, 3))
    wrapped = kl.Bidirectional(kl.LSTM(2, name="lstm"), name="both")
    model = keras.Model(inputs, kl.Dense(2)(wrapped(inputs)))
    with pytest.raises(ValueError, match="matches none") as caught:
        attach_penalty(model, "lstm", l2=0.1)
    # Not the cells, which cannot be penalized.
    assert (
        "Did you mean 'both/forward_layer' or 'both/backward_layer'? "
    ) in str(caught.value)
