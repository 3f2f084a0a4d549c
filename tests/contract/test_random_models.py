r"""Random small Functional graphs: what holds for every model.

    HYPOTHESIS_PROFILE=nightly python -m pytest \
        tests/contract/test_random_models.py

runs 1,000 examples instead of 50, on the backend that KERAS_BACKEND names.
"""

import dataclasses

import keras
import numpy as np
import pytest
from by_hand import number
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from models import assert_same_arrays, outputs_of

from keras_actpen import (
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_terms,
)

# Of one width, any two parts of a graph fit together.
WIDTH, BATCH = 3, 4


@dataclasses.dataclass(frozen=True)
class Node:
    """One step of a graph.

    Attributes:
        part: Which of the model's parts is called, or a merge.
        inputs: Which earlier tensors it is called on.
    """

    part: str
    inputs: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Graph:
    """A model to build, and what to penalize in it.

    Attributes:
        nodes: Steps, in order, on the input and earlier steps.
        nested: Steps of the graph inside the part `nested`.
        outputs: Steps whose results are outputs.
        targets: Paths, the penalty there, and what of the layer it is on.
    """

    nodes: tuple[Node, ...]
    nested: tuple[Node, ...]
    outputs: tuple[int, ...]
    targets: tuple[tuple[str, str, str], ...]


LEAVES = ("dense", "relu", "tanh", "norm", "drop", "block")
# Those with a kernel.
KERNELS = ("dense", "relu", "tanh", "hidden")
MERGES = ("add", "multiply", "maximum")
PENALTIES = {
    "l1": penalties.L1,
    "l2": penalties.L2,
    "hoyer": penalties.Hoyer,
}


class Block(layers.Layer):
    """A layer with others inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(2 * WIDTH, activation="relu")
        self.narrow = layers.Dense(WIDTH)

    def build(self, shape):
        self.hidden.build(shape)
        self.narrow.build((None, 2 * WIDTH))

    def call(self, x):
        return x + self.narrow(self.hidden(x))


@st.composite
def chains(draw, parts, most):
    """Steps, each on tensors that are there by then."""
    count = draw(st.integers(1, most))
    return tuple(
        Node(
            draw(st.sampled_from(parts)),
            (draw(st.integers(0, i)), draw(st.integers(0, i))),
        )
        for i in range(count)
    )


def paths(nodes, prefix=""):
    """Paths of the layers that a chain of steps calls."""
    return [
        prefix + (node.part if node.part not in MERGES else f"{node.part}_{i}")
        for i, node in enumerate(nodes)
    ]


@st.composite
def graphs(draw):
    nested = draw(chains(LEAVES + MERGES, 3))
    nodes = draw(chains((*LEAVES, "nested", *MERGES), 6))
    count = draw(st.integers(1, min(2, len(nodes))))
    outputs = draw(
        st.lists(
            st.integers(1, len(nodes)),
            min_size=count,
            max_size=count,
            unique=True,
        )
    )
    reached = needed(nodes, outputs)
    found = paths(nodes)
    available = {found[i] for i in reached}
    if "nested" in available:
        inner = paths(nested, "nested/")
        available |= {inner[i] for i in needed(nested, [len(nested)])}
    available |= {
        f"{path}/hidden" for path in available if path.endswith("block")
    }
    places = [(path, "output") for path in sorted(available)]
    places += [
        (path, "kernel")
        for path in sorted(available)
        if path.rpartition("/")[2] in KERNELS
    ]
    targets = draw(
        st.lists(
            st.tuples(st.sampled_from(places), st.sampled_from([*PENALTIES])),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    return Graph(
        nodes,
        nested,
        tuple(outputs),
        tuple((path, penalty, on) for (path, on), penalty in targets),
    )


def needed(nodes, outputs):
    """Steps that the outputs depend on: Keras leaves the others out."""
    queue, found = list(outputs), set()
    while queue:
        tensor = queue.pop()
        if tensor == 0 or tensor - 1 in found:
            continue
        node = nodes[tensor - 1]
        found.add(tensor - 1)
        queue.extend(node.inputs if node.part in MERGES else node.inputs[:1])
    return found


def made(part):
    """A layer for a part that may be called several times."""
    return {
        "dense": lambda: layers.Dense(WIDTH, name="dense"),
        "relu": lambda: layers.Dense(WIDTH, activation="relu", name="relu"),
        "tanh": lambda: layers.Dense(WIDTH, activation="tanh", name="tanh"),
        "norm": lambda: layers.LayerNormalization(name="norm"),
        "drop": lambda: layers.Dropout(0.5, seed=1, name="drop"),
        "block": lambda: Block(name="block"),
    }[part]()


def chained(nodes, x, parts):
    """Call the parts one after the other; return the tensors by hand.

    Of a block what is inside of it too, by the tensor.
    """
    tensors, calls = [x], []
    for i, node in enumerate(nodes):
        one, other = (tensors[j] for j in node.inputs)
        if node.part in MERGES:
            merge = {
                "add": layers.Add,
                "multiply": layers.Multiply,
                "maximum": layers.Maximum,
            }[node.part]
            y = merge(name=f"{node.part}_{i}")([one, other])
        else:
            if node.part not in parts:
                parts[node.part] = made(node.part)
            y = parts[node.part](one)
        tensors.append(y)
        calls.append(y)
    return tensors, calls


def build(graph):
    """The model, and what its paths put out: a list for every path."""
    inside, of_nested = keras.Input((WIDTH,)), {}
    tensors, calls = chained(graph.nested, inside, of_nested)
    nested = keras.Model(inside, tensors[-1], name="nested")
    hidden = [
        of_nested["block"].hidden(tensors[node.inputs[0]])
        for node in graph.nested
        if node.part == "block"
    ]
    inner = keras.Model(inside, [tensors[-1], *calls, *hidden])
    inputs, parts = keras.Input((WIDTH,)), {"nested": nested}
    tensors, calls = chained(graph.nodes, inputs, parts)
    model = keras.Model(
        inputs, [tensors[i] for i in graph.outputs], name="model"
    )
    reached = needed(graph.nodes, graph.outputs)
    reached_inside = needed(graph.nested, [len(graph.nested)])
    watched = {}

    def watch(path, tensor):
        watched.setdefault(path, []).append(tensor)

    for i, path in enumerate(paths(graph.nodes)):
        if i not in reached:
            continue
        given = tensors[graph.nodes[i].inputs[0]]
        watch(path, calls[i])
        if path == "block":
            watch("block/hidden", parts["block"].hidden(given))
        if path == "nested":
            found = inner(given)[1:]
            further = iter(found[len(graph.nested) :])
            for j, name in enumerate(paths(graph.nested, "nested/")):
                within = next(further) if name == "nested/block" else None
                if j in reached_inside:
                    watch(name, found[j])
                    if within is not None:
                        watch(f"{name}/hidden", within)
    return model, keras.Model(inputs, watched)


def by_hand(penalty, h):
    """A penalty of coefficient 0.1 in float64."""
    h = np.asarray(h, "float64")
    if penalty == "l1":
        return 0.1 * np.sum(np.abs(h)) / len(h)
    if penalty == "l2":
        return 0.1 * np.sum(h * h) / len(h)
    size = np.sum(np.abs(h), axis=-1)
    energy = np.sum(h * h, axis=-1)
    ratio = np.divide(size * size, energy, where=energy > 0, out=0.0 * energy)
    return 0.1 * np.sum(ratio) / len(h)


def attached(model, targets):
    for path, penalty, on in targets:
        model = attach_penalty(
            model,
            path,
            PENALTIES[penalty](0.1),
            on=on,
            name=f"{on}_{penalty}",
        )
    return model


def weight_at(model, path):
    """The kernel of a layer."""
    layer = model
    for step in path.split("/"):
        is_model = isinstance(layer, keras.Model)
        layer = layer.get_layer(step) if is_model else getattr(layer, step)
    return ops.convert_to_numpy(layer.kernel)


X = np.random.default_rng(3).normal(size=(BATCH, WIDTH)).astype("float32")


# Penalties on the output of what nothing trains are right too.
@pytest.mark.filterwarnings("ignore:The penalty on .* changes no weight")
@settings(suppress_health_check=list(HealthCheck))
@given(graph=graphs())
def test_random_models(graph):
    model, extractor = build(graph)
    outputs = outputs_of(model, X)
    weights = model.get_weights()
    config = model.get_config()
    watched = extractor(X, training=False)
    expected = {}
    for path, penalty, on in graph.targets:
        if on == "kernel":  # not divided by the batch
            kernel = weight_at(model, path)
            values = [len(kernel) * by_hand(penalty, kernel)]
        else:
            values = [
                by_hand(penalty, ops.convert_to_numpy(h)) for h in watched[path]
            ]
        expected[f"{path}/{on}_{penalty}"] = sum(values)

    new = attached(model, graph.targets)
    assert_same_arrays(outputs_of(new, X), outputs)
    assert_same_arrays(new.get_weights(), weights)
    terms = penalty_terms(new, X)
    assert terms == pytest.approx(expected, rel=1e-4, abs=1e-6)

    # All that the penalties add to the loss, and to no other model's.
    new(X, training=False)
    added = sum(map(number, new.losses))
    assert added == pytest.approx(sum(expected.values()), rel=1e-4, abs=1e-6)
    model(X, training=False)
    assert not model.losses

    turned = attached(model, graph.targets[::-1])
    assert penalty_terms(turned, X) == pytest.approx(terms, rel=1e-6, abs=1e-9)
    assert list(penalized_layers(turned)) == list(penalized_layers(new))

    plain = detach_penalty(new)
    assert plain.get_config() == config
    assert_same_arrays(outputs_of(plain, X), outputs)
    assert all(
        one is other
        for one, other in zip(plain.weights, model.weights, strict=True)
    )
    assert not plain.losses
