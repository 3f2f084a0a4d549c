"""Run in a process of its own, with two logical CPU devices: prints JSON.

`penalties`: for each penalty, how far values and gradients of two replicas
are from those of the whole batch. `fit`: how far losses and weights of a
distributed `fit` are from those of a plain one.
"""

import json

import keras
import numpy as np
from penalty_cases import CASES

from keras_actpen import PenalizedLayer, penalties

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )

    # One for all: a second strategy's collectives get the keys of the first's.
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def relative(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    scale = np.abs(expected).max() + 1e-12
    return float(np.abs(found - expected).max() / scale)


def errors_of_penalties():
    found = [(case.id, case.make(), case.random()) for case in CASES]
    function = penalties.FunctionPenalty(keras.regularizers.L2(1.0))
    found.append(("function", function, CASES[0].random()))
    rng = np.random.default_rng(5)
    masks = []
    for _, _, h in found:
        masks.append(rng.random(h.shape[:2]) < 0.7)
        masks[-1][0] = True

    def step(inputs):
        values, gradients = [], []
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for (_, penalty, _), (h, mask) in zip(found, inputs, strict=True):
            with tf.GradientTape() as tape:
                tape.watch(h)
                value = penalty(h, mask)
                loss = value / replicas  # as Keras's trainer has it
            values.append(value)
            gradients.append(tape.gradient(loss, h))
        return values, gradients

    whole = [
        (tf.constant(h), tf.constant(mask))
        for (_, _, h), mask in zip(found, masks, strict=True)
    ]
    # Equal batches, as Keras wants them, with unequal masks: a mean of the
    # replicas' means would be wrong.
    parts = [
        [(tf.split(h, 2)[i], tf.split(mask, 2)[i]) for h, mask in whole]
        for i in range(2)
    ]
    inputs = strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
    # In a graph, as Keras runs it.
    run = tf.function(lambda inputs: strategy.run(step, args=(inputs,)))
    values, gradients = tf.nest.map_structure(
        strategy.experimental_local_results, run(inputs)
    )
    expected_values, expected_gradients = step(whole)
    return {
        name: (
            relative(np.mean(values[i]), expected_values[i]),
            relative(np.concatenate(gradients[i]), expected_gradients[i]),
        )
        for i, (name, _, _) in enumerate(found)
    }


def penalized():
    """Passes its input on and adds penalties of it to the loss."""
    return PenalizedLayer(
        keras.layers.Activation("sigmoid"),
        [
            penalties.L2(0.01),
            penalties.Hoyer(0.01, reduction="mean"),
            penalties.L1(0.001, reduction="sum"),
            penalties.DeCov(0.5),
            penalties.VarianceFloor(1.0),
            penalties.KLSparsity(0.3),
            penalties.Kurtosis(0.1),
        ],
    )


def fit(x, y):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            # Its own losses share lists with those of the other replica.
            keras.layers.Dense(6, activity_regularizer="l2"),
            penalized(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return history.history["loss"], np.concatenate(
        [w.ravel() for w in model.get_weights()]
    )


def errors_of_fit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 5)).astype("float32")
    y = x[:, :1]
    expected = fit(x, y)
    if keras.backend.backend() == "tensorflow":
        with strategy.scope():
            found = fit(x, y)
    else:
        devices = keras.distribution.list_devices("cpu")
        assert len(devices) == 2, devices
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices)
        )
        found = fit(x, y)
    return [relative(f, e) for f, e in zip(found, expected, strict=True)]


if __name__ == "__main__":
    errors = {"fit": errors_of_fit()}
    if keras.backend.backend() == "tensorflow":
        errors["penalties"] = errors_of_penalties()
    print(json.dumps(errors))
