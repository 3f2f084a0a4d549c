"""The models that are trained, with random data of their shapes."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import layers

CLASSES = 10


@dataclass(frozen=True)
class Workload:
    """A model, its data, and the layers that are penalized or watched.

    Attributes:
        name: What the tables call it.
        build: Builds the model; it puts out logits of `CLASSES` classes.
        targets: Names of layers.
        input_shape: Shape of one sample.
        batch_size: Samples in a step.
        tokens: Number of different inputs if they are integers, else 0.
        policy: Dtype policy.
    """

    name: str
    build: Callable[[], keras.Model]
    targets: tuple[str, ...]
    input_shape: tuple[int, ...]
    batch_size: int
    tokens: int = 0
    policy: str = "float32"

    def model(self) -> keras.Model:
        """A new model, with the same weights each time."""
        keras.utils.set_random_seed(0)
        previous = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            return self.build()
        finally:
            keras.config.set_dtype_policy(previous)

    def data(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels for a number of steps."""
        rng = np.random.default_rng(0)
        shape = (steps * self.batch_size, *self.input_shape)
        labels = rng.integers(CLASSES, size=shape[0])
        if self.tokens:
            return rng.integers(self.tokens, size=shape), labels
        return rng.standard_normal(shape, dtype="float32"), labels

    def forever(self) -> Iterable:
        """The same batch again and again, for `fit`.

        Arrays would be shorter, but on TensorFlow each epoch then begins
        with a new iterator, which takes now and then as long as dozens of
        steps.
        """
        batch = self.data(1)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.data.Dataset.from_tensors(batch).repeat()
        return (batch for _ in itertools.count())


def mlp() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(512, activation="relu", name="hidden_1"),
            layers.Dense(512, activation="relu", name="hidden_2"),
            layers.Dense(CLASSES, name="logits"),
        ]
    )


def deep_mlp() -> keras.Model:
    """64 hidden layers of one size, to see what each more of them costs."""
    return keras.Sequential(
        [
            keras.Input((256,)),
            *(
                layers.Dense(
                    256,
                    activation="relu",
                    kernel_initializer="he_normal",
                    name=f"hidden_{index}",
                )
                for index in range(64)
            ),
            layers.Dense(CLASSES, name="logits"),
        ]
    )


def wide_mlp() -> keras.Model:
    """One hidden layer of as many units as sparse autoencoders have."""
    return keras.Sequential(
        [
            keras.Input((256,)),
            layers.Dense(16384, activation="relu", name="hidden"),
            layers.Dense(CLASSES, name="logits"),
        ]
    )


def mnist_cnn() -> keras.Model:
    """The CNN of the Keras examples."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", name="conv_1"),
            layers.Conv2D(64, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25, seed=1),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="dense_4"),
            layers.Dropout(0.5, seed=2),
            layers.Dense(CLASSES, name="logits"),
        ]
    )


def small_resnet() -> keras.Model:
    """Three stages of one residual block, 16 to 64 channels."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for stage, (filters, stride) in enumerate(((16, 1), (32, 2), (64, 2))):
        skip = layers.Conv2D(filters, 1, strides=stride)(x)
        x = layers.Conv2D(filters, 3, strides=stride, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.Add()([x, skip])
        x = layers.ReLU(name=f"stage_{stage}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))


def lstm() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((32, 32)),
            layers.LSTM(128, return_sequences=True, name="lstm_1"),
            layers.LSTM(128, name="lstm_2"),
            layers.Dense(CLASSES, name="logits"),
        ]
    )


def transformer(
    *, blocks: int, width: int, tokens: int, length: int
) -> keras.Model:
    """A pre-norm encoder, its feed-forward activations called `ffn_...`."""
    inputs = keras.Input((length,), dtype="int32")
    x = layers.Embedding(tokens, width)(inputs)
    for block in range(blocks):
        normed = layers.LayerNormalization()(x)
        attended = layers.MultiHeadAttention(width // 64, 64)(normed, normed)
        x = layers.Add()([x, attended])
        normed = layers.LayerNormalization()(x)
        hidden = layers.Dense(4 * width, "gelu", name=f"ffn_{block}")(normed)
        x = layers.Add()([x, layers.Dense(width)(hidden)])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(x))


def small_transformer() -> keras.Model:
    return transformer(blocks=2, width=128, tokens=1000, length=64)


def large_transformer() -> keras.Model:
    """110 million parameters, the size of GPT-2 small."""
    return transformer(blocks=12, width=768, tokens=32000, length=128)


def resnet50(size: int) -> keras.Model:
    return keras.applications.ResNet50(
        weights=None,
        input_shape=(size, size, 3),
        classes=CLASSES,
        classifier_activation=None,
    )


def _cnn(batch_size: int) -> Workload:
    return Workload(
        f"mnist_cnn-{batch_size}",
        mnist_cnn,
        ("conv_1", "conv_2", "dense_4"),
        (28, 28, 1),
        batch_size,
    )


_STAGE_ENDS = (
    "conv2_block3_out",
    "conv3_block4_out",
    "conv4_block6_out",
    "conv5_block3_out",
)
_LARGE = Workload(
    "large_transformer",
    large_transformer,
    tuple(f"ffn_{block}" for block in range(12)),
    (128,),
    32,
    tokens=32000,
)
# Tiny images: full ones take seconds a step on a CPU.
RESNET50 = Workload(
    "resnet50-8", lambda: resnet50(64), _STAGE_ENDS, (64, 64, 3), 8
)
_RESNET50_FULL = Workload(
    "resnet50-64", lambda: resnet50(224), _STAGE_ENDS, (224, 224, 3), 64
)
MLP = Workload("mlp", mlp, ("hidden_1", "hidden_2"), (784,), 128)
MNIST_CNN = _cnn(128)
WIDE_MLP = Workload("wide_mlp", wide_mlp, ("hidden",), (256,), 128)
DEEP_MLP = Workload(
    "deep_mlp",
    deep_mlp,
    tuple(f"hidden_{index}" for index in range(64)),
    (256,),
    256,
)

# On a GPU only models of a size for which one has it, in both precisions.
WORKLOADS: dict[str, tuple[Workload, ...]] = {
    "cpu": (
        MLP,
        _cnn(32),
        MNIST_CNN,
        _cnn(512),
        Workload(
            "small_resnet",
            small_resnet,
            ("stage_0", "stage_1", "stage_2"),
            (32, 32, 3),
            32,
        ),
        Workload("lstm", lstm, ("lstm_1", "lstm_2"), (32, 32), 32),
        Workload(
            "small_transformer",
            small_transformer,
            ("ffn_0", "ffn_1"),
            (64,),
            16,
            tokens=1000,
        ),
        RESNET50,
    ),
    "gpu": tuple(
        replace(workload, name=f"{workload.name}-{policy}", policy=policy)
        for workload in (_RESNET50_FULL, _LARGE)
        for policy in ("float32", "mixed_bfloat16")
    ),
}
# Those whose attaching is timed against a copy.
LARGE: tuple[Workload, ...] = (RESNET50, _LARGE)
