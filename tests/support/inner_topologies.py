"""Models with penalties on layers that another layer calls, see `topologies`.

What these layers put out is noted by hand, in functions in front of their
`call`, while the plain model is called as ever.
"""

import contextlib

import keras
import numpy as np
from keras import layers, ops
from topologies import (
    BATCH,
    FEATURES,
    REFUSALS,
    SAMPLES,
    SLOW,
    STEPS,
    TOPOLOGIES,
    Block,
    Case,
    adapted,
    bert_backbone,
    embedded,
    hub,
    numbers,
    padded_tokens,
    refusal,
    topology,
)

__all__ = ["REFUSALS", "SLOW", "TOPOLOGIES"]

Dense = layers.Dense


@contextlib.contextmanager
def noted(layer, calls, first=False):
    """Note what a layer puts out, or with `first` what it is called on."""
    method = "quantized_call" if layer.quantization_mode else "call"
    plain = getattr(layer, method)

    def call(x, *args, **kwargs):
        outputs = plain(x, *args, **kwargs)
        calls.append(x if first else keras.tree.flatten(outputs)[0])
        return outputs

    vars(layer)[method] = call
    try:
        yield
    finally:
        del vars(layer)[method]


def inner_case(model, inner, x=None, y=None, stacked=False, **arguments):
    """A case with penalties on layers inside others, by path."""

    def forward(x, training):
        calls = {path: [] for path in inner}
        first = arguments.get("on") == "input"
        with contextlib.ExitStack() as stack:
            for path, layer in inner.items():
                stack.enter_context(noted(layer, calls[path], first))
            outputs = model(x, training=training)
        if stacked:  # the steps of a sequence, which have a mask together
            calls = {path: [ops.stack(h, axis=1)] for path, h in calls.items()}
        return outputs, calls

    case = Case(
        model,
        numbers(SAMPLES, FEATURES) if x is None else x,
        numbers(SAMPLES, 2, seed=3) if y is None else y,
        forward=forward,
        **arguments,
    )
    case.select = case.select or list(inner)
    return case


def around(*found, inputs=None):
    """A Functional model that calls layers one after the other."""
    x = inputs = keras.Input((FEATURES,)) if inputs is None else inputs
    for layer in found:
        x = layer(x)
    return keras.Model(inputs, Dense(2)(x))


@topology("layer inside a composite layer")
def inner_of_composite():
    block = Block(FEATURES, name="block")
    model = around(block)
    return inner_case(model, {"block/up": block.up, "block/down": block.down})


@topology("input of a layer inside a composite layer")
def inner_input():
    block = Block(FEATURES, name="block")
    model = around(block)
    return inner_case(model, {"block/down": block.down}, on="input")


@topology("layer inside a composite layer that is called twice")
def inner_of_shared_composite():
    block = Block(FEATURES, name="block")
    model = around(block, block)
    return inner_case(model, {"block/up": block.up})


@topology("layer inside a composite layer of a Sequential")
def inner_in_sequential():
    block = Block(FEATURES, name="block")
    model = keras.Sequential([keras.Input((FEATURES,)), block, Dense(2)])
    return inner_case(model, {"block/up": block.up}, select="block/up")


@keras.saving.register_keras_serializable(package="tests")
class Deep(layers.Layer):
    """Layers in lists, dictionaries and models, one of them called twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [Block(FEATURES), Block(FEATURES)]
        self.heads = {"a": [Dense(FEATURES, activation="tanh")]}
        self.stack = keras.Sequential([Dense(3, name="first"), Dense(FEATURES)])
        inputs = keras.Input((FEATURES,))
        hidden = Dense(3, activation="relu", name="within")(inputs)
        self.graph = keras.Model(inputs, Dense(FEATURES)(hidden))

    def build(self, shape):
        for block in self.blocks:
            block.build(shape)
        self.heads["a"][0].build(shape)
        self.stack.build(shape)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        x = self.heads["a"][0](self.heads["a"][0](x))
        return self.graph(self.stack(x))


@topology("layers inside others, in lists, dictionaries and models")
def deep_inside():
    deep = Deep(name="deep")
    model = around(deep)
    return inner_case(
        model,
        {
            "deep/blocks/0/up": deep.blocks[0].up,
            "deep/blocks/1": deep.blocks[1],
            "deep/heads/a/0": deep.heads["a"][0],
            "deep/stack/first": deep.stack.layers[0],
            "deep/graph/within": deep.graph.get_layer("within"),
        },
    )


@keras.saving.register_keras_serializable(package="tests")
class Chain(keras.Model):
    """A subclassed model, which no clone takes apart."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = Dense(5, activation="relu", name="first")
        self.block = Block(5)

    def call(self, x, training=False):
        return self.block(self.first(x), training=training)


@topology("layers of a subclassed model inside a Functional one")
def inner_of_subclassed():
    own_code = Chain(name="own_code")
    model = around(own_code)
    return inner_case(
        model,
        {"own_code/first": own_code.first, "own_code/block": own_code.block},
    )


@topology("layer inside a composite layer of a subclassed model", saved="lost")
def inner_in_subclassed():
    model = Chain(name="own_code")
    model(numbers(BATCH, FEATURES))
    return inner_case(
        model, {"block/up": model.block.up}, y=numbers(SAMPLES, 5, seed=3)
    )


@topology("Dense inside MultiHeadAttention")
def inner_of_attention():
    inputs = keras.Input((STEPS, 3))
    layer = layers.MultiHeadAttention(2, 3, name="attention")
    x = layer(inputs, inputs)
    model = keras.Model(inputs, Dense(2)(layers.Flatten()(x)))
    return inner_case(
        model,
        {"attention/query_dense": layer.query_dense},
        x=numbers(SAMPLES, STEPS, 3),
        select="attention/query",
    )


@topology("attention scores inside MultiHeadAttention")
def inner_scores():
    inputs = keras.Input((STEPS, 3))
    # Without dropout it uses fused attention, which computes no scores.
    layer = layers.MultiHeadAttention(2, 3, dropout=0.1, seed=1, name="mha")
    x = layer(inputs, inputs)
    model = keras.Model(inputs, Dense(2)(layers.Flatten()(x)))
    return inner_case(
        model, {"mha/softmax": layer._softmax}, x=numbers(SAMPLES, STEPS, 3)
    )


@topology("LoRA on a layer inside a composite layer")
def inner_with_lora():
    block = Block(FEATURES, name="block")
    model = around(block)
    adapted(block.up)
    return inner_case(model, {"block/up": block.up})


@keras.saving.register_keras_serializable(package="tests")
class Around(layers.Wrapper):
    """Calls the layer that it was made with."""

    def call(self, x):
        return self.layer(x)


@topology("layer inside a composite layer, in int8")
def inner_in_int8():
    block = Around(Dense(FEATURES, name="within"), name="block")
    model = around(block)
    block.layer.quantize("int8")
    return inner_case(model, {"block/layer": block.layer})


@topology("layer inside TimeDistributed")
def inner_of_time_distributed():
    inputs = keras.Input((STEPS, 3))
    layer = layers.TimeDistributed(Dense(3, name="within"), name="outer")
    model = keras.Model(inputs, Dense(2)(layers.Flatten()(layer(inputs))))
    return inner_case(
        model,
        {"outer/layer": layer.layer},
        x=numbers(SAMPLES, STEPS, 3),
        select="within",
    )


@topology("layer inside TimeDistributed, with a mask")
def inner_of_masked_time_distributed():
    ids, mask, inputs, x = embedded()
    layer = layers.TimeDistributed(Dense(3, name="within"), name="outer")
    pooled = layers.GlobalAveragePooling1D()(layer(x))
    return inner_case(
        keras.Model(inputs, Dense(2)(pooled)),
        {"outer/layer": layer.layer},
        x=ids,
        stacked=True,
        masks={"outer/layer": mask},
    )


@topology("layer inside Bidirectional")
def inner_of_bidirectional():
    inputs = keras.Input((STEPS, 3))
    layer = layers.Bidirectional(layers.LSTM(3, name="lstm"), name="outer")
    model = keras.Model(inputs, Dense(2)(layer(inputs)))
    return inner_case(
        model,
        {"outer/backward_layer": layer.backward_layer},
        x=numbers(SAMPLES, STEPS, 3),
        select="backward_lstm",
    )


@topology("cell of an unrolled RNN")
def inner_of_unrolled():
    inputs = keras.Input((STEPS, 3))
    layer = layers.SimpleRNN(3, unroll=True, name="rnn")
    model = keras.Model(inputs, Dense(2)(layer(inputs)))
    return inner_case(
        model, {"rnn/cell": layer.cell}, x=numbers(SAMPLES, STEPS, 3)
    )


@topology("layer inside a composite layer, mixed_float16", tolerance=5e-3)
def inner_in_float16():
    block = Block(FEATURES, name="block", dtype="mixed_float16")
    model = around(block)
    return inner_case(model, {"block/up": block.up})


@topology("KerasHub BERT classifier, Dense of its encoder", saved="lost")
def hub_bert_inner():
    backbone = bert_backbone()
    model = hub().BertTextClassifier(backbone, num_classes=2, dropout=0.0)
    x = padded_tokens(segment_ids=np.zeros((SAMPLES, STEPS), "int32"))
    start = f"{backbone.name}/transformer_layer"
    inner = {}
    for i in range(2):
        layer = backbone.get_layer(f"transformer_layer_{i}")
        inner[f"{start}_{i}/feedforward_intermediate_dense"] = (
            layer._feedforward_intermediate_dense
        )
    return inner_case(
        model,
        inner,
        x=x,
        masks=dict.fromkeys(inner, x["padding_mask"]),
        select="*/feedforward_intermediate_dense",
    )


@topology("KerasHub GPT-2 language model, query of its decoder", saved="lost")
def hub_gpt2_inner():
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
    decoder = backbone.get_layer("transformer_layer_0")
    path = f"{backbone.name}/transformer_layer_0/self_attention_layer"
    inner = {f"{path}/query_dense": decoder._self_attention_layer._query_dense}
    return inner_case(
        model,
        inner,
        x=x,
        y=numbers(SAMPLES, STEPS, 7, seed=3),
        masks=dict.fromkeys(inner, x["padding_mask"]),
        select="*/self_attention_layer/query",
    )


@topology("KerasHub decoder, its attention to the sequence of an encoder")
def hub_decoder_inner():
    import keras_hub

    decoder = keras_hub.layers.TransformerDecoder(6, 2, name="decoder")
    x = {
        "sequence": numbers(SAMPLES, STEPS, 4),
        "memory": numbers(SAMPLES, STEPS, 4, seed=5),
        "mask": np.tile(np.arange(STEPS) < 2, (SAMPLES, 1)),
        "memory_mask": np.tile(np.arange(STEPS) < 1, (SAMPLES, 1)),
    }
    inputs = {
        name: keras.Input(value.shape[1:], dtype=value.dtype.name, name=name)
        for name, value in x.items()
    }
    outputs = decoder(
        decoder_sequence=inputs["sequence"],
        encoder_sequence=inputs["memory"],
        decoder_padding_mask=inputs["mask"],
        encoder_padding_mask=inputs["memory_mask"],
    )
    attention = decoder._cross_attention_layer
    path = "decoder/cross_attention_layer"
    return inner_case(
        keras.Model(inputs, Dense(2)(layers.Flatten()(outputs))),
        {
            f"{path}/query_dense": attention._query_dense,
            f"{path}/key_dense": attention._key_dense,
        },
        x=x,
        masks={
            f"{path}/query_dense": x["mask"],
            f"{path}/key_dense": x["memory_mask"],
        },
    )


@topology("KerasHub Llama language model, Dense of its decoder", saved="lost")
def hub_llama_inner():
    backbone = hub().LlamaBackbone(
        vocabulary_size=7,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=4,
        intermediate_dim=6,
    )
    model = hub().LlamaCausalLM(backbone)
    x = padded_tokens()
    decoder = backbone.get_layer("transformer_layer_0")
    path = f"{backbone.name}/transformer_layer_0/feedforward_gate_dense"
    inner = {path: decoder._feedforward_gate_dense}
    return inner_case(
        model,
        inner,
        x=x,
        y=numbers(SAMPLES, STEPS, 7, seed=3),
        masks=dict.fromkeys(inner, x["padding_mask"]),
    )


@topology("KerasHub ViT classifier, Dense of its encoder", saved="lost")
def hub_vit_inner():
    backbone = hub().ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        mlp_dim=6,
    )
    model = hub().ViTImageClassifier(backbone, num_classes=2)
    block = backbone.get_layer("vit_encoder").encoder_layers[0]
    path = f"{backbone.name}/vit_encoder/encoder_layers/0/mlp/dense_1"
    return inner_case(
        model,
        {path: block.mlp.dense_1},
        x=numbers(SAMPLES, 8, 8, 3),
    )


# What cannot be penalized.


def cannot_leave(path, host, kind, advice=""):
    return (
        "Invalid value received for argument `layers`. Expected a layer whose "
        "activations can be used outside of the code that calls it. Received: "
        f"{path!r} inside layer {host!r} (of type {kind}), which is called in "
        "a loop, a branch, a rematerialized block or another function that is "
        "traced by itself and lets out only what it returns. Target the layer "
        f"around it{advice}"
    )


def not_called(path, host, kind):
    return (
        "Invalid value received for argument `layers`. Expected a layer that "
        f"layer {host!r} (of type {kind}) calls. Received: {path!r} inside it, "
        "which it holds but does not call, or calls only in a function that "
        f"was traced before. Target {host!r} itself or a layer that it calls"
    )


@refusal(
    "layer with an integer output",
    "bins",
    "Invalid value received for argument `layers`. Expected a layer with a "
    "float output; target the layer behind it. Received: layer 'bins' (of "
    "type Discretization), whose output has dtype int32",
)
def integer_output():
    inputs = keras.Input((FEATURES,))
    layer = layers.Discretization([0.0, 1.0], name="bins", dtype="int32")
    return keras.Model(inputs, layers.Embedding(3, 2)(layer(inputs)))


@refusal(
    "cell of an RNN that is not unrolled",
    "rnn/cell",
    cannot_leave("cell", "rnn", "LSTM", ", or make 'rnn' with unroll=True"),
)
def cell_in_loop():
    inputs = keras.Input((STEPS, 3))
    return keras.Model(inputs, layers.LSTM(3, name="rnn")(inputs))


@refusal(
    "layer that the one around it does not call",
    "block/up",
    not_called("up", "block", "Unused"),
)
def held_only():
    class Unused(Block):
        def call(self, x):
            return self.down(ops.concatenate([x, x], axis=-1))

    return around(Unused(FEATURES, name="block"))


class Looped(layers.Layer):
    """Calls a layer where what it puts out cannot leave."""

    def __init__(self, way, **kwargs):
        super().__init__(**kwargs)
        self.way = way
        self.inner = Dense(FEATURES)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.way(self.inner, x)


def looped(label, backends=("tensorflow", "jax")):
    """A refusal of a layer that is called in some way by `Looped`.

    On torch these are Python's own loops and branches, unless said.
    """

    def register(way):
        message = cannot_leave("inner", "looped", "Looped")

        def build():
            return around(Looped(way, name="looped"))

        build.__name__ = way.__name__
        refusal(label, "looped/inner", message, backends)(build)
        return way

    return register


@looped("layer in a branch of `ops.cond`")
def in_cond(layer, x):
    return ops.cond(ops.sum(x) > 0, lambda: layer(x), lambda: x)


@looped("layer in `ops.while_loop`")
def in_while(layer, x):
    return ops.while_loop(
        lambda i, _: i < 2, lambda i, y: (i + 1, layer(y)), (0, x)
    )[1]


@looped("layer in `ops.scan`")
def in_scan(layer, x):
    return ops.scan(lambda y, _: (layer(y), y), x, length=2)[0]


@looped(
    "layer in `ops.vectorized_map`", backends=("tensorflow", "jax", "torch")
)
def in_vectorized_map(layer, x):
    return ops.vectorized_map(lambda row: layer(row[None])[0], x)


@looped("layer in `keras.remat`")
def in_remat(layer, x):
    return keras.remat(lambda y: layer(y))(x)
