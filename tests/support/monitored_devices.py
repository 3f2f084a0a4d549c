"""Run in a process of its own: a monitored fit on N logical CPU devices."""

import sys

import keras
import numpy as np

from keras_actpen import PenaltyMonitor, attach_penalty

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )


def fit(log_dir):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(6, "relu", name="dense_4"),
            keras.layers.Dense(1),
        ]
    )
    model = attach_penalty(model, "dense_4", l1=0.1, l2=0.01)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 5)).astype("float32")
    model.fit(
        x,
        x[:, :1],
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=(x[:16], x[:16, :1]),
        callbacks=[PenaltyMonitor(log_dir, statistics_freq=2, update_freq=1)],
    )


def main(devices, log_dir):
    if devices == 1:
        fit(log_dir)
    elif keras.backend.backend() == "tensorflow":
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            fit(log_dir)
    else:
        found = keras.distribution.list_devices("cpu")
        assert len(found) == 2, found
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=found)
        )
        fit(log_dir)
    print("{}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
