"""Every kind of model a user may bring, tiny, with its terms by hand.

Each entry of `TOPOLOGIES` builds a model and says what is penalized in it and
which tensors that must be: symbolic tensors of the model itself, or a function
that calls its layers one by one. From these the contract in
`test_topologies.py` computes terms, losses and gradients without keras_actpen.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import DoubledLoss

# What takes 10 to 60 s each.
SLOW = pytest.mark.skipif(
    "KERAS_ACTPEN_SLOW" not in os.environ,
    reason="slow, set KERAS_ACTPEN_SLOW=1",
)

L1, L2 = 0.02, 0.03
# The batches are of one size: JAX compiles anew for every other.
SAMPLES, BATCH, FEATURES, STEPS = 8, 4, 4, 5


@dataclasses.dataclass
class Case:
    """A built model, data, and what is penalized.

    Attributes:
        model: The plain model.
        x: Inputs as the model takes them.
        y: Targets, one a flat output.
        watched: By path the symbolic tensors of the penalized outputs, one a
            call (or one an output). Empty if `forward` is given.
        masks: By path which positions of `x` count.
        forward: `(x, training) -> (outputs, {path: activations})`.
        select: What is passed to `attach_penalty`; default the paths.
        output, on: As in `attach_penalty`.
        losses: Loss of the model, or one by output name.
        scale: What the model's class multiplies its loss with.
        regularizer: Other losses of the model.
        siblings: Models that share layers with this one.
        after: What is done to the model after attaching.
        batch: Batch size.
        l1, l2: Coefficients.
    """

    model: keras.Model
    x: Any
    y: Any
    watched: dict[str, list] = dataclasses.field(default_factory=dict)
    masks: dict[str, Any] = dataclasses.field(default_factory=dict)
    forward: Callable | None = None
    select: Any = None
    output: Any = 0
    on: str = "output"
    losses: Any = "mse"
    scale: float = 1.0
    regularizer: Callable = lambda: 0.0
    siblings: list = dataclasses.field(default_factory=list)
    after: Callable | None = None
    batch: int = BATCH
    l1: float = L1
    l2: float = L2

    def __post_init__(self):
        if self.forward is None:
            model = self.model
            if isinstance(model, keras.Sequential):
                inputs, outputs = model.inputs[0], model.outputs[0]
            else:
                inputs, outputs = model.input, model.output
            extractor = keras.Model(inputs, [outputs, self.watched])
            self.forward = lambda x, training: extractor(x, training=training)
        if self.select is None:
            self.select = list(self.watched)


@dataclasses.dataclass(frozen=True)
class Topology:
    """One row of the support table.

    Attributes:
        name: Id of the row.
        label: Text of the row.
        build: Makes the `Case`.
        saved: What becomes of the penalties in a `.keras` file: `"kept"`,
            `"lost"` with a warning, or the error of Keras itself when the
            plain model is loaded.
        keras_cannot: By backend why Keras itself cannot train the plain
            model, and the error or warning that says so.
        tolerance: Relative, of losses and gradients.
        slow: Whether it takes many seconds.
        wide: Whether JAX needs `jax_enable_x64` for it.
    """

    name: str
    label: str
    build: Callable[[], Case]
    saved: str = "kept"
    keras_cannot: dict[str, tuple[str, str]] = dataclasses.field(
        default_factory=dict
    )
    tolerance: float = 2e-5
    slow: bool = False
    wide: bool = False


TOPOLOGIES: list[Topology] = []


def topology(label: str, **attributes):
    """Register a function that builds a `Case`."""

    def register(build):
        name = build.__name__
        TOPOLOGIES.append(Topology(name, label, build, **attributes))
        return build

    return register


def numbers(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def tokens(samples=SAMPLES, steps=STEPS, vocabulary=7):
    """Token ids, padded with 0 at the end, and which are not padding."""
    rng = np.random.default_rng(2)
    ids = rng.integers(1, vocabulary, size=(samples, steps))
    lengths = rng.integers(2, steps, size=(samples, 1))
    mask = np.arange(steps) < lengths
    return (ids * mask).astype("int32"), mask


def vector_case(inputs, outputs, watched, **arguments):
    """A Functional model from 4 features to 2 numbers."""
    model = keras.Model(inputs, outputs, name=arguments.pop("name", "model"))
    return Case(
        model,
        arguments.pop("x", numbers(SAMPLES, FEATURES)),
        arguments.pop("y", numbers(SAMPLES, 2, seed=3)),
        {
            path: tensors if isinstance(tensors, list) else [tensors]
            for path, tensors in watched.items()
        },
        **arguments,
    )


def sequence_case(build, **arguments):
    """A model from sequences through `build`, which returns the target."""
    inputs = keras.Input((STEPS, 3))
    target = build(inputs)
    pooled = layers.Flatten()(target)
    return vector_case(
        inputs,
        layers.Dense(2)(pooled),
        {"target": target},
        x=numbers(SAMPLES, STEPS, 3),
        **arguments,
    )


# Graphs


@topology("Sequential")
def sequential():
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(5, activation="relu", name="target"),
            layers.Dense(2),
        ]
    )
    return Case(
        model,
        numbers(SAMPLES, FEATURES),
        numbers(SAMPLES, 2, seed=3),
        {"target": [model.get_layer("target").output]},
    )


@topology("Functional, convolutions")
def convolutions():
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(3, 3, activation="relu", name="first")(inputs)
    x = target = layers.Conv2D(2, 2, activation="tanh", name="target")(x)
    outputs = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    return vector_case(
        inputs, outputs, {"target": target}, x=numbers(SAMPLES, 6, 6, 1)
    )


def shared_layer(calls):
    layer = layers.Dense(FEATURES, activation="tanh", name="target")
    x = inputs = keras.Input((FEATURES,))
    found = []
    for call in range(calls):
        x = layer(x * (1.0 + call))
        found.append(x)
    return vector_case(inputs, layers.Dense(2)(x), {"target": found})


@topology("layer called twice")
def layer_called_twice():
    return shared_layer(2)


@topology("layer called three times")
def layer_called_three_times():
    return shared_layer(3)


@topology("layer called three times side by side")
def layer_called_side_by_side():
    layer = layers.Dense(FEATURES, activation="tanh", name="target")
    inputs = keras.Input((FEATURES,))
    calls = [layer(inputs * (1.0 + i)) for i in range(3)]
    outputs = layers.Dense(2)(layers.Add()(calls[::-1]))
    return vector_case(
        inputs,
        [outputs, calls[0]],
        {"target": calls},
        y=[numbers(SAMPLES, 2, seed=3), numbers(SAMPLES, FEATURES, seed=4)],
    )


def small_encoder(name="encoder"):
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(5, activation="tanh", name="target")(inputs)
    outputs = layers.Dense(FEATURES, name="code")(hidden)
    return keras.Model(inputs, outputs, name=name), hidden


@topology("nested model called twice, target inside")
def nested_called_twice():
    encoder, hidden = small_encoder()
    features = keras.Model(encoder.input, hidden)
    inputs = keras.Input((FEATURES,))
    once = encoder(inputs)
    return vector_case(
        inputs,
        layers.Dense(2)(encoder(once)),
        {"encoder/target": [features(inputs), features(once)]},
    )


@topology("nested model called twice, its output the target")
def output_of_nested_called_twice():
    encoder, _ = small_encoder()
    inputs = keras.Input((FEATURES,))
    once = encoder(inputs)
    twice = encoder(once)
    return vector_case(
        inputs, layers.Dense(2)(twice), {"encoder": [once, twice]}
    )


@topology("autoencoder and encoder that share layers")
def autoencoder_and_encoder():
    inputs = keras.Input((FEATURES,))
    code = layers.Dense(3, activation="relu", name="target")(inputs)
    outputs = layers.Dense(FEATURES, name="decoded")(code)
    return vector_case(
        inputs,
        outputs,
        {"target": code},
        y=numbers(SAMPLES, FEATURES),
        siblings=[keras.Model(inputs, code, name="encoder")],
    )


@topology("same name in two nested models")
def same_name_in_two_models():
    left, hidden = small_encoder("left")
    right, _ = small_encoder("right")
    features = keras.Model(left.input, hidden)
    inputs = keras.Input((FEATURES,))
    outputs = layers.Dense(2)(layers.Add()([left(inputs), right(inputs)]))
    return vector_case(inputs, outputs, {"left/target": features(inputs)})


@topology("three levels of nesting, Sequential inside")
def three_levels():
    inner = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(5, activation="tanh", name="target"),
        ],
        name="inner",
    )
    inputs = keras.Input((FEATURES,))
    middle = keras.Model(inputs, layers.Dense(3)(inner(inputs)), name="middle")
    inputs = keras.Input((FEATURES,))
    return vector_case(
        inputs,
        layers.Dense(2)(middle(inputs)),
        {"middle/inner/target": inner(inputs)},
    )


@topology("several inputs and outputs")
def several_inputs_and_outputs():
    left, right = keras.Input((FEATURES,)), keras.Input((3,))
    both = layers.Concatenate()([left, right])
    hidden = layers.Dense(5, activation="relu", name="target")(both)
    return vector_case(
        [left, right],
        [layers.Dense(2, name="one")(hidden), layers.Dense(1)(hidden)],
        {"target": hidden},
        x=[numbers(SAMPLES, FEATURES), numbers(SAMPLES, 3, seed=2)],
        y=[numbers(SAMPLES, 2, seed=3), numbers(SAMPLES, 1, seed=4)],
    )


@topology("dictionaries of inputs and outputs")
def dictionaries():
    inputs = {
        "left": keras.Input((FEATURES,), name="left"),
        "right": keras.Input((3,), name="right"),
    }
    both = layers.Concatenate()([inputs["left"], inputs["right"]])
    hidden = layers.Dense(5, activation="relu", name="target")(both)
    outputs = {
        "mean": layers.Dense(2, name="mean")(hidden),
        "spread": layers.Dense(1, name="spread")(hidden),
    }
    return vector_case(
        inputs,
        outputs,
        {"target": hidden},
        x={
            "left": numbers(SAMPLES, FEATURES),
            "right": numbers(SAMPLES, 3, seed=2),
        },
        y={
            "mean": numbers(SAMPLES, 2, seed=3),
            "spread": numbers(SAMPLES, 1, seed=4),
        },
    )


@topology("penalized layer is an output, losses by name")
def target_is_an_output():
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(3, activation="relu", name="target")(inputs)
    outputs = layers.Dense(2, name="head")(hidden)
    return vector_case(
        inputs,
        [hidden, outputs],
        {"target": hidden},
        y=[numbers(SAMPLES, 3, seed=3), numbers(SAMPLES, 2, seed=4)],
        losses={"target": "mse", "head": "mse"},
    )


@topology("residual and branching, several targets")
def residual():
    inputs = keras.Input((FEATURES,))
    first = layers.Dense(FEATURES, activation="relu", name="first")(inputs)
    added = layers.Add(name="added")([inputs, first])
    branch = layers.Dense(3, activation="tanh", name="branch")(added)
    joined = layers.Concatenate()([added, branch])
    return vector_case(
        inputs,
        layers.Dense(2)(joined),
        {"first": first, "added": added, "branch": branch},
    )


@topology("weight regularizers beside the penalty")
def weight_regularizers():
    inputs = keras.Input((FEATURES,))
    layer = layers.Dense(
        5,
        activation="relu",
        kernel_regularizer=keras.regularizers.L2(0.1),
        name="target",
    )
    hidden = layer(inputs)
    return vector_case(
        inputs,
        layers.Dense(2)(hidden),
        {"target": hidden},
        regularizer=lambda: 0.1 * ops.sum(ops.square(layer.kernel)),
    )


# Attention


@topology("MultiHeadAttention, arguments by position")
def attention_by_position():
    attention = layers.MultiHeadAttention(2, 3, name="target")
    return sequence_case(lambda x: attention(x, x[:, :3]))


@topology("MultiHeadAttention, arguments by keyword")
def attention_by_keyword():
    attention = layers.MultiHeadAttention(2, 3, name="target")
    return sequence_case(
        lambda x: attention(query=x, value=x[:, :3], key=x[:, 2:])
    )


@topology("MultiHeadAttention with scores, output the target")
def attention_with_scores():
    attention = layers.MultiHeadAttention(2, 3, name="target")
    return sequence_case(
        lambda x: attention(x, x, return_attention_scores=True)[0]
    )


@topology("MultiHeadAttention with scores, scores the target")
def attention_scores():
    inputs = keras.Input((STEPS, 3))
    outputs, scores = layers.MultiHeadAttention(2, 3, name="target")(
        inputs, inputs, return_attention_scores=True
    )
    joined = layers.Concatenate()(
        [layers.Flatten()(outputs), layers.Flatten()(scores)]
    )
    return vector_case(
        inputs,
        layers.Dense(2)(joined),
        {"target": scores},
        x=numbers(SAMPLES, STEPS, 3),
        output=1,
    )


@topology("MultiHeadAttention with masks and a causal mask")
def masked_attention():
    ids, mask = tokens()
    inputs = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(inputs)
    x = layers.MultiHeadAttention(2, 3, name="target")(
        x, x, use_causal_mask=True
    )
    outputs = layers.Dense(2)(layers.GlobalAveragePooling1D()(x))
    return vector_case(
        inputs, outputs, {"target": x}, x=ids, masks={"target": mask}
    )


# Recurrence


@topology("LSTM, return_sequences")
def lstm_sequences():
    return sequence_case(layers.LSTM(3, return_sequences=True, name="target"))


@topology("GRU, last output")
def gru():
    return sequence_case(layers.GRU(3, name="target"))


@topology("LSTM, return_state, the cell state the target")
def lstm_state():
    lstm = layers.LSTM(3, return_state=True, name="target")
    return sequence_case(lambda x: lstm(x)[2], output=2)


@topology("GRU, return_state, all outputs the target")
def gru_all_outputs():
    inputs = keras.Input((STEPS, 3))
    gru = layers.GRU(3, return_sequences=True, return_state=True, name="target")
    sequence, state = gru(inputs)
    joined = layers.Concatenate()([layers.Flatten()(sequence), state])
    return vector_case(
        inputs,
        layers.Dense(2)(joined),
        {"target": [sequence, state]},
        x=numbers(SAMPLES, STEPS, 3),
        output="all",
    )


@topology("LSTM with an initial state")
def lstm_initial_state():
    encoder = layers.LSTM(3, return_state=True)
    decoder = layers.LSTM(3, return_sequences=True, name="target")

    def build(inputs):
        _, *state = encoder(inputs)
        return decoder(inputs, initial_state=state)

    return sequence_case(build)


@topology("Bidirectional LSTM")
def bidirectional():
    lstm = layers.LSTM(2, return_sequences=True)
    return sequence_case(layers.Bidirectional(lstm, name="target"))


@topology(
    "stateful LSTM",
    keras_cannot={
        "torch": (
            "the state is overwritten before the gradient is taken",
            "modified by an inplace operation",
        )
    },
)
def stateful():
    inputs = keras.Input(batch_shape=(2, STEPS, 3))
    x = layers.LSTM(3, stateful=True, return_sequences=True, name="target")(
        inputs
    )
    return vector_case(
        inputs,
        layers.Dense(2)(layers.Flatten()(x)),
        {"target": x},
        x=numbers(SAMPLES, STEPS, 3),
        batch=2,
    )


def embedded():
    ids, mask = tokens()
    inputs = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True, name="embedding")(inputs)
    return ids, mask, inputs, x


@topology("Embedding(mask_zero) into LSTM, sequences")
def embedding_lstm():
    ids, mask, inputs, x = embedded()
    hidden = layers.LSTM(3, return_sequences=True, name="target")(x)
    outputs = layers.Dense(2)(layers.LSTM(2)(hidden))
    return vector_case(
        inputs,
        outputs,
        {"embedding": x, "target": hidden},
        x=ids,
        masks={"embedding": mask, "target": mask},
    )


@topology("Embedding(mask_zero) into LSTM, last output")
def embedding_last_output():
    ids, _, inputs, x = embedded()
    x = layers.LSTM(3, name="target")(x)
    return vector_case(inputs, layers.Dense(2)(x), {"target": x}, x=ids)


@topology("Embedding(mask_zero) into Bidirectional")
def embedding_bidirectional():
    ids, mask, inputs, x = embedded()
    x = layers.Bidirectional(
        layers.GRU(2, return_sequences=True), name="target"
    )(x)
    outputs = layers.Dense(2)(layers.GlobalAveragePooling1D()(x))
    return vector_case(
        inputs, outputs, {"target": x}, x=ids, masks={"target": mask}
    )


@topology("Masking, masked outputs in the loss")
def masking():
    _, mask = tokens()
    inputs = keras.Input((STEPS, 3))
    x = layers.Masking()(inputs)
    x = layers.Dense(4, activation="relu", name="target")(x)
    return vector_case(
        inputs,
        layers.Dense(2)(x),
        {"target": x},
        x=numbers(SAMPLES, STEPS, 3) * mask[..., None],
        y=numbers(SAMPLES, STEPS, 2, seed=3),
        masks={"target": mask},
    )


@topology("nested model under a mask")
def nested_under_a_mask():
    ids, mask, inputs, x = embedded()
    inner = keras.Input((STEPS, 4))
    hidden = layers.Dense(3, activation="tanh", name="target")(inner)
    nested = keras.Model(inner, layers.Dense(3)(hidden), name="nested")
    nested.supports_masking = True
    features = keras.Model(inner, hidden)
    features.supports_masking = True
    outputs = layers.Dense(2)(layers.GlobalAveragePooling1D()(nested(x)))
    return vector_case(
        inputs,
        outputs,
        {"nested/target": features(x)},
        x=ids,
        masks={"nested/target": mask},
    )


@topology("TimeDistributed")
def time_distributed():
    dense = layers.Dense(3, activation="relu")
    return sequence_case(layers.TimeDistributed(dense, name="target"))


# Layers with state, without a config, with arguments


@topology("BatchNormalization")
def batch_normalization():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(5, name="before")(inputs)
    normalized = layers.BatchNormalization(name="target")(x)
    return vector_case(
        inputs,
        layers.Dense(2)(layers.ReLU()(normalized)),
        {"before": x, "target": normalized},
    )


@topology("Dropout")
def dropout():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(8, activation="relu")(inputs)
    dropped = layers.Dropout(0.5, seed=1, name="target")(x)
    after = layers.Dense(3, activation="tanh", name="after")(dropped)
    return vector_case(
        inputs,
        layers.Dense(2)(after),
        {"target": dropped, "after": after},
    )


@topology("Normalization after adapt")
def adapted_normalization():
    inputs = keras.Input((FEATURES,))
    normalization = layers.Normalization(name="target")
    normalization.adapt(numbers(9, FEATURES) * 3.0 + 1.0)
    x = normalization(inputs)
    hidden = layers.Dense(3, activation="relu", name="hidden")(x)
    return vector_case(
        inputs, layers.Dense(2)(hidden), {"target": x, "hidden": hidden}
    )


STRINGS = (
    "string layers run in a model on TensorFlow only",
    "Invalid dtype|data type 'string' not understood",
)


@topology(
    "StringLookup in front", keras_cannot={"jax": STRINGS, "torch": STRINGS}
)
def string_lookup():
    inputs = keras.Input((STEPS,), dtype="string")
    x = layers.StringLookup(vocabulary=["a", "b", "c"])(inputs)
    x = layers.Embedding(4, 3)(x)
    hidden = layers.Dense(3, activation="relu", name="target")(x)
    rng = np.random.default_rng(1)
    return vector_case(
        inputs,
        layers.Dense(2)(layers.Flatten()(hidden)),
        {"target": hidden},
        x=ops.convert_to_tensor(
            rng.choice(np.array(list("abcd")), (SAMPLES, STEPS)), "string"
        ),
    )


@topology(
    "TextVectorization in front",
    keras_cannot={"jax": STRINGS, "torch": STRINGS},
)
def text_vectorization():
    texts = np.array(
        ["a b", "b c d", "a", "d d a c b", "c b", "e a", "b", "c c"],
        dtype=object,
    )
    vectorization = layers.TextVectorization(output_sequence_length=STEPS)
    vectorization.adapt(texts)
    inputs = keras.Input((), dtype="string")
    ids = vectorization(inputs)
    x = layers.Embedding(vectorization.vocabulary_size(), 3, mask_zero=True)(
        ids
    )
    hidden = layers.Dense(3, activation="relu", name="target")(x)
    found = keras.ops.convert_to_numpy(vectorization(texts))
    return vector_case(
        inputs,
        layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden)),
        {"target": hidden},
        x=texts,
        masks={"target": found != 0},
    )


@topology("Lambda")
def lambda_layer():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(5)(inputs)
    x = layers.Lambda(
        lambda x: x * 2.0, output_shape=lambda shape: shape, name="target"
    )(x)
    return vector_case(inputs, layers.Dense(2)(x), {"target": x})


class Scaled(layers.Layer):
    """A layer that Keras cannot re-create: it has no get_config."""

    def __init__(self, factor, name):
        super().__init__(name=name)
        self.factor = factor

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1],), initializer="normal")

    def call(self, x):
        return x * self.kernel * self.factor


@topology(
    "custom layer without get_config",
    saved="could not be deserialized properly",
)
def layer_without_config():
    inputs = keras.Input((FEATURES,))
    x = Scaled(2.0, "target")(inputs)
    return vector_case(inputs, layers.Dense(2)(x), {"target": x})


@keras.saving.register_keras_serializable(package="tests")
class Gated(layers.Layer):
    """A layer with further call arguments of every kind."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(FEATURES)

    def build(self, x_shape, gate_shape, offset_shape):
        self.dense.build(x_shape)

    def call(self, x, gate, power=1, *, offset=None, training=False):
        x = self.dense(x) * ops.sigmoid(gate) ** power
        x = x * (2.0 if training else 1.0)
        return {"gated": x if offset is None else x + offset, "gate": gate}


@topology("layer with further call arguments, dictionary of outputs")
def call_arguments():
    inputs = keras.Input((FEATURES,))
    gate = layers.Dense(FEATURES)(inputs)
    found = Gated(name="target")(inputs, gate, power=2, offset=inputs)
    outputs = layers.Dense(2)(found["gated"] + found["gate"])
    return vector_case(
        inputs, outputs, {"target": found["gated"]}, output="gated"
    )


@keras.saving.register_keras_serializable(package="tests")
class Block(layers.Layer):
    """A composite layer, penalized as a whole."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        policy = self.dtype_policy
        self.up = layers.Dense(2 * units, activation="relu", dtype=policy)
        self.down = layers.Dense(units, dtype=policy)
        self.drop = layers.Dropout(0.5, seed=1, dtype=policy)

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], 2 * self.units))

    def call(self, x, training=False):
        return x + self.drop(self.down(self.up(x)), training=training)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@topology("custom composite layer")
def composite_layer():
    inputs = keras.Input((FEATURES,))
    x = Block(FEATURES, name="target")(inputs)
    return vector_case(inputs, layers.Dense(2)(x), {"target": x})


@topology("operators between layers, shared input")
def operators():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(5, activation="tanh", name="target")(inputs)
    y = ops.concatenate([ops.square(x), inputs[:, :2]], axis=-1)
    return vector_case(inputs, layers.Dense(2)(y), {"target": x})


# Models of the user's own class


@topology("Functional model of the user's class, own compute_loss")
def users_class():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(5, activation="relu", name="target")(inputs)
    model = DoubledLoss(inputs, layers.Dense(2)(x))
    return Case(
        model,
        numbers(SAMPLES, FEATURES),
        numbers(SAMPLES, 2, seed=3),
        {"target": [x]},
        scale=2.0,
    )


@keras.saving.register_keras_serializable(package="tests")
class Tower(keras.Model):
    """A Functional model with a constructor and a train_step of its own."""

    def __init__(self, units, *, depth=1, **kwargs):
        x = inputs = keras.Input((FEATURES,))
        for i in range(depth):
            x = layers.Dense(units, activation="tanh", name=f"hidden_{i}")(x)
        super().__init__(inputs, layers.Dense(2)(x), **kwargs)
        self.units, self.depth = units, depth
        self.steps = 0

    def train_step(self, *args, **kwargs):
        self.steps += 1
        return super().train_step(*args, **kwargs)

    def get_config(self):
        return {"units": self.units, "depth": self.depth}


@topology("Functional model with a constructor of its own", saved="lost")
def users_constructor():
    model = Tower(5, depth=2)
    hidden = [model.get_layer(f"hidden_{i}") for i in range(2)]
    return Case(
        model,
        numbers(SAMPLES, FEATURES),
        numbers(SAMPLES, 2, seed=3),
        {layer.name: [layer.output] for layer in hidden},
        select="hidden_*",
    )


@keras.saving.register_keras_serializable(package="tests")
class OwnCode(keras.Model):
    """A subclassed model that calls one of its layers twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.target = layers.Dense(FEATURES, activation="tanh", name="target")
        self.blocks = [
            layers.Dense(FEATURES, activation="relu", name="first"),
            layers.Dropout(0.5, seed=1),
        ]
        self.head = layers.Dense(2)

    def call(self, x, training=False):
        x = self.target(self.target(x))
        x = self.blocks[1](self.blocks[0](x), training=training)
        return self.head(x)


@topology("subclassed model, layer called twice", saved="lost")
def subclassed():
    model = OwnCode()
    x = numbers(SAMPLES, FEATURES)
    model(x)
    target, first, drop = model.target, *model.blocks
    head = model.head

    def forward(x, training):
        x = ops.convert_to_tensor(x)
        one = target(x)
        two = target(one)
        three = first(two)
        outputs = head(drop(three, training=training))
        return outputs, {"target": [one, two], "first": [three]}

    return Case(
        model,
        x,
        numbers(SAMPLES, 2, seed=3),
        forward=forward,
        select=["target", "first"],
    )


@keras.saving.register_keras_serializable(package="tests")
class AroundAGraph(keras.Model):
    """A subclassed model that holds a Functional one."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.hidden = small_encoder()
        self.head = layers.Dense(2)

    def call(self, x):
        return self.head(self.encoder(x))


@topology("Functional model inside a subclassed one", saved="lost")
def graph_in_subclassed():
    model = AroundAGraph()
    x = numbers(SAMPLES, FEATURES)
    model(x)
    features = keras.Model(
        model.encoder.input, [model.encoder.output, model.hidden]
    )
    head = model.head

    def forward(x, training):
        code, hidden = features(x, training=training)
        return head(code), {"encoder/target": [hidden]}

    return Case(
        model,
        x,
        numbers(SAMPLES, 2, seed=3),
        forward=forward,
        select="encoder/target",
    )


# keras.applications, by glob


@contextlib.contextmanager
def dtype_policy(policy):
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(old)


def application(make, size, names):
    # In float32 normalization over the few values of a small batch enlarges
    # the rounding of dozens of layers to percents of the gradient. Keras's
    # BatchNormalization computes in float32 even so, hence the tolerances.
    with dtype_policy("float64"):
        model = make(weights=None, input_shape=(size, size, 3), classes=2)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0  # on torch it has no seed
    found = {
        layer.name: [layer.output]
        for layer in model.layers
        if layer.name in names
    }
    return Case(
        model,
        numbers(SAMPLES, size, size, 3),
        numbers(SAMPLES, 2, seed=3),
        found,
        l1=1e-4,
        l2=1e-4,
    )


@topology(
    "keras.applications.MobileNetV3Small", slow=True, wide=True, tolerance=1e-4
)
def mobilenet():
    case = application(
        functools.partial(
            keras.applications.MobileNetV3Small, include_preprocessing=False
        ),
        32,
        [f"expanded_conv_{i}_project_bn" for i in range(1, 11)],
    )
    case.select = "expanded_conv_*_project_bn"
    return case


@topology("keras.applications.ResNet50", slow=True, wide=True, tolerance=1e-3)
def resnet50():
    case = application(
        keras.applications.ResNet50,
        32,
        [f"conv4_block{i}_out" for i in range(1, 7)],
    )
    case.select = "conv4_block*_out"
    return case


@topology(
    "keras.applications.EfficientNetV2B0", slow=True, wide=True, tolerance=1e-4
)
def efficientnet():
    case = application(
        functools.partial(
            keras.applications.EfficientNetV2B0, include_preprocessing=False
        ),
        32,
        [f"block4{c}_project_bn" for c in "abc"],
    )
    case.select = "block4?_project_bn"
    return case


# KerasHub


def hub():
    """keras_hub, which takes seconds to import."""
    import keras_hub

    return keras_hub.models


def padded_tokens(**more):
    ids, mask = tokens()
    return {"token_ids": ids, "padding_mask": mask.astype("int32"), **more}


def bert_backbone():
    return hub().BertBackbone(
        vocabulary_size=7,
        num_layers=2,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=6,
        max_sequence_length=STEPS,
        dropout=0.0,
    )


@topology("KerasHub BERT backbone, padding_mask", saved="lost")
def hub_bert_backbone():
    model = bert_backbone()
    x = padded_tokens(segment_ids=np.zeros((SAMPLES, STEPS), "int32"))
    return Case(
        model,
        x,
        {
            "sequence_output": numbers(SAMPLES, STEPS, 4, seed=3),
            "pooled_output": numbers(SAMPLES, 4, seed=4),
        },
        {
            f"transformer_layer_{i}": [
                model.get_layer(f"transformer_layer_{i}").output
            ]
            for i in range(2)
        },
        masks=dict.fromkeys(
            ("transformer_layer_0", "transformer_layer_1"), x["padding_mask"]
        ),
        select="transformer_layer_*",
    )


def in_backbone(task, name):
    """The output of a layer of the backbone inside a KerasHub task."""
    backbone = task.backbone
    features = keras.Model(backbone.input, backbone.get_layer(name).output)
    return {f"{backbone.name}/{name}": [features(task.input)]}


@topology("KerasHub BERT classifier, layer of its backbone", saved="lost")
def hub_bert_task():
    model = hub().BertTextClassifier(
        bert_backbone(), num_classes=2, dropout=0.0
    )
    x = padded_tokens(segment_ids=np.zeros((SAMPLES, STEPS), "int32"))
    watched = in_backbone(model, "transformer_layer_0")
    return Case(
        model,
        x,
        numbers(SAMPLES, 2, seed=3),
        watched,
        masks=dict.fromkeys(watched, x["padding_mask"]),
    )


@topology("KerasHub GPT-2 language model, layer of its backbone", saved="lost")
def hub_gpt2_task():
    backbone = hub().GPT2Backbone(
        vocabulary_size=7,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        intermediate_dim=6,
        max_sequence_length=STEPS,
        dropout=0.0,
    )
    model = hub().GPT2CausalLM(backbone)
    x = padded_tokens()
    watched = in_backbone(model, "transformer_layer_0")
    return Case(
        model,
        x,
        numbers(SAMPLES, STEPS, 7, seed=3),
        watched,
        masks=dict.fromkeys(watched, x["padding_mask"]),
    )


@topology("KerasHub ViT classifier, layer of its backbone", saved="lost")
def hub_vit_task():
    backbone = hub().ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        mlp_dim=6,
    )
    model = hub().ViTImageClassifier(backbone, num_classes=2)
    return Case(
        model,
        numbers(SAMPLES, 8, 8, 3),
        numbers(SAMPLES, 2, seed=3),
        in_backbone(model, "vit_encoder"),
    )


@topology("KerasHub ResNet backbone", saved="lost", tolerance=1e-4)
def hub_resnet_backbone():
    model = hub().ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(8, 8, 3),
    )
    name = "stack0_block0_out"
    return Case(
        model,
        numbers(SAMPLES, 8, 8, 3),
        numbers(SAMPLES, *model.output.shape[1:], seed=3),
        {name: [model.get_layer(name).output]},
        l1=1e-3,
        l2=1e-3,
    )


# Precision


def in_precision(policy, scale=1.0, **arguments):
    with dtype_policy(policy):
        inputs = keras.Input((FEATURES,))
        x = layers.Dense(8, activation="relu", name="target")(inputs)
        return vector_case(
            inputs,
            layers.Dense(2)(x),
            {"target": x},
            x=numbers(SAMPLES, FEATURES) * np.float32(scale),
            **arguments,
        )


@topology("mixed_float16", tolerance=5e-3)
def mixed_float16():
    return in_precision("mixed_float16")


@topology("mixed_float16, squares beyond its range", tolerance=5e-3)
def mixed_float16_overflow():
    return in_precision("mixed_float16", scale=300.0)


@topology("mixed_bfloat16", tolerance=5e-2)
def mixed_bfloat16():
    return in_precision("mixed_bfloat16")


@topology("float64", wide=True)
def float64():
    return in_precision("float64")


@topology("dtype policies of single layers", tolerance=5e-2)
def policies_by_layer():
    inputs = keras.Input((FEATURES,))
    first = layers.Dense(8, name="first", dtype="float32")(inputs)
    second = layers.Dense(
        8, activation="relu", name="second", dtype="mixed_bfloat16"
    )(first)
    outputs = layers.Dense(2, dtype="float32")(second)
    return vector_case(inputs, outputs, {"first": first, "second": second})


# Low-rank adaptation and quantization


def adapted(layer):
    """Enable LoRA with weights that change the output."""
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(numbers(*layer.lora_kernel_b.shape, seed=5))


def dense_target(**arguments):
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(6, activation="relu", name="target")(inputs)
    return vector_case(inputs, layers.Dense(2)(x), {"target": x}, **arguments)


@topology("LoRA on Dense before attaching")
def lora_before():
    case = dense_target()
    adapted(case.model.get_layer("target"))
    return case


@topology("LoRA on Dense after attaching")
def lora_after():
    return dense_target(after=lambda model: adapted(model.get_layer("target")))


def einsum_target(**arguments):
    return sequence_case(
        layers.EinsumDense(
            "abc,cd->abd", output_shape=(STEPS, 4), name="target"
        ),
        **arguments,
    )


@topology("LoRA on EinsumDense before attaching")
def lora_einsum_before():
    case = einsum_target()
    adapted(case.model.get_layer("target"))
    return case


@topology("LoRA on EinsumDense after attaching")
def lora_einsum_after():
    return einsum_target(after=lambda model: adapted(model.get_layer("target")))


@topology("Dense in int8")
def quantized_before():
    case = dense_target()
    case.model.get_layer("target").quantize("int8")
    return case


@topology("Dense quantized to int8 after attaching")
def quantized_after():
    return dense_target(
        after=lambda model: model.get_layer("target").quantize("int8")
    )


@topology("EinsumDense in int8")
def quantized_einsum_before():
    case = einsum_target()
    case.model.get_layer("target").quantize("int8")
    return case


@topology("whole model quantized to int8 after attaching")
def quantized_model():
    # Keras warns of every other layer that it cannot quantize it.
    return einsum_target(
        after=lambda model: model.quantize("int8", filters="target|dense")
    )


# What is refused: a model, a layer in it, and the layer the error names.


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A row of the support table for what cannot be penalized.

    Attributes:
        name: Id of the row.
        label: Text of the row.
        build: Makes the model.
        layers: What is passed to `attach_penalty`.
        message: The whole error.
        backends: Where it is refused.
    """

    name: str
    label: str
    build: Callable[[], keras.Model]
    layers: str
    message: str
    backends: tuple[str, ...]


REFUSALS: list[Refusal] = []


def refusal(label, layers, message, backends=("tensorflow", "jax", "torch")):
    """Register a function that builds a model."""

    def register(build):
        REFUSALS.append(
            Refusal(build.__name__, label, build, layers, message, backends)
        )
        return build

    return register
