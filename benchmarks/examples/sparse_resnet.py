"""Sparse features in a ResNet of `keras.applications`.

One glob penalizes the output of every residual block: with L1 behind a ReLU
more of the features are exactly 0.
"""

import keras
import numpy as np
from keras import layers, ops

from benchmarks.examples import command_line
from keras_actpen import attach_penalty
from keras_actpen.demo import demo
from keras_actpen.penalties import L1

FULL = {"epochs": 3, "samples": 2000, "last": "conv3_block4_out"}
QUICK = {"epochs": 6, "samples": 128, "last": "conv2_block1_out"}


def build(last: str) -> keras.Model:
    """A classifier on the first blocks of a ResNet-50, compiled."""
    keras.utils.set_random_seed(0)
    resnet = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    features = resnet.get_layer(last).output
    x = layers.GlobalAveragePooling2D()(features)
    model = keras.Model(resnet.input, layers.Dense(10, name="logits")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss)
    return model


def images(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits as small pictures in color."""
    (x, y), _ = demo.load_sample()
    x = ops.image.resize(ops.repeat(x[:samples], 3, axis=-1), (32, 32))
    return ops.convert_to_numpy(x), y[:samples]


def run(epochs: int, samples: int, last: str) -> command_line.Rows:
    """Train with and without the penalty."""
    x, y = images(samples)
    rows = {}
    for title, coefficient in {"plain": 0.0, "L1": 3.0}.items():
        model = build(last)
        if coefficient:
            penalty = L1(coefficient, reduction="mean")
            model = attach_penalty(model, "conv?_block?_out", penalty)
        history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
        features = model.get_layer(last).output
        # As in training: few steps leave the moving averages behind.
        h = keras.Model(model.input, features)(x[:64], training=True)
        h = ops.convert_to_numpy(h)
        rows[title] = {
            "share of zeros": np.mean(h == 0),
            "mean of the features": np.mean(h),
            "loss": history.history["loss"][-1],
        }
    return rows


if __name__ == "__main__":
    command_line.main(run, "Sparse features in a ResNet.", FULL, QUICK)
