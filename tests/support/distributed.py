"""Run in a process of its own: a fit on several devices; prints JSON.

Usage: `distributed.py HOW LOG_DIR`, where HOW is `single`, `mirrored`,
`workers` (in each of the processes that TF_CONFIG names), `data_parallel`,
`model_parallel` or `processes` (of torch, which RANK and WORLD_SIZE name).
Prints the history, the weights, and the loss and the terms of an `evaluate`;
`workers` and `processes` what a custom training loop gives.
"""

import contextlib
import json
import os
import sys

import keras
import numpy as np
from keras import layers

from keras_actpen import (
    PenaltyMonitor,
    attach_penalty,
    backend,
    penalties,
    penalty_terms,
)

FEATURES, SAMPLES, BATCH, EPOCHS = 8, 32, 16, 3


def scope_of(how):
    """The strategy's scope; for keras.distribution sets the distribution."""
    if how in ("mirrored", "workers"):
        import tensorflow as tf

        if how == "workers":
            return tf.distribute.MultiWorkerMirroredStrategy().scope()
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()
    if how.endswith("parallel"):
        devices = keras.distribution.list_devices("cpu")
        assert len(devices) == 8, devices
        if how == "data_parallel":
            distribution = keras.distribution.DataParallel(devices=devices)
        else:
            mesh = keras.distribution.DeviceMesh(
                (2, 4), ["batch", "model"], devices
            )
            layout = keras.distribution.LayoutMap(mesh)
            layout["target/kernel"] = (None, "model")
            layout["target/bias"] = ("model",)
            distribution = keras.distribution.ModelParallel(
                layout_map=layout, batch_dim_name="batch"
            )
        keras.distribution.set_distribution(distribution)
    return contextlib.nullcontext()


def built():
    """A model with a layer that is called twice, and a loss of Keras's own."""
    layer = layers.Dense(FEATURES, activation="tanh", name="target")
    inputs = keras.Input((FEATURES,))
    x = layer(layers.ActivityRegularization(l2=0.1)(inputs))
    x = layers.Dense(FEATURES, activation="relu", name="hidden")(layer(x))
    model = keras.Model(inputs, layers.Dense(1)(x))
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.4, w.shape) for w in model.weights])
    return model


def main(how, log_dir):
    with scope_of(how):
        model = built()
        model.compile(keras.optimizers.Adam(0.01), "mse")
    # Outside of the scope: the strategy is the model's own.
    model = attach_penalty(model, "target", l1=0.01, l2=0.02)
    model = attach_penalty(
        model,
        "hidden",
        [
            penalties.L2(0.5, reduction="mean", name="mean"),
            penalties.L2(0.01, reduction="sum", name="sum"),
            penalties.VarianceFloor(0.3),
        ],
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    y = x[:, :1] * x[:, 1:2]
    if how == "workers":
        print(json.dumps(by_workers(model, x, y, log_dir)))
        return
    if how == "processes":
        by_processes(model, x, y)
        return
    history = model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[PenaltyMonitor(log_dir)],
    )
    evaluated = model.evaluate(
        x,
        y,
        batch_size=BATCH,
        verbose=0,
        return_dict=True,
        callbacks=[PenaltyMonitor(None)],
    )
    print(
        json.dumps(
            {
                "history": history.history,
                "evaluated": evaluated,
                "weights": flat_weights(model),
            }
        )
    )


def flat_weights(model):
    return [weight.ravel().tolist() for weight in model.get_weights()]


def by_workers(model, x, y, log_dir):
    """A custom loop: Keras 3.15's `fit` fails on several workers."""
    import tensorflow as tf

    strategy = model.distribute_strategy
    inputs = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    inputs = inputs.with_options(options)
    try:
        model.fit(inputs, verbose=0, callbacks=[PenaltyMonitor(log_dir)])
    except ValueError as error:
        fitted = str(error)
    monitor = keras.callbacks.CallbackList(
        [PenaltyMonitor(log_dir)], model=model
    )
    monitor.on_train_begin()
    monitor.on_epoch_begin(0)
    monitor.on_train_end()

    def replica_step(x, y):
        with tf.GradientTape() as tape:
            task = keras.losses.MeanSquaredError()(y, model(x, training=True))
            # Keras's losses are divided by the replicas already.
            added = sum(model.losses) / strategy.num_replicas_in_sync
            loss = task + added
        weights = model.trainable_variables
        slopes = tape.gradient(loss, [w.value for w in weights])
        model.optimizer.apply(slopes, weights)
        return loss

    @tf.function
    def step(x, y):
        loss = strategy.run(replica_step, args=(x, y))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, loss, axis=None)

    losses = [
        np.mean(
            [
                float(step(*batch))
                for batch in strategy.experimental_distribute_dataset(inputs)
            ]
        )
        for _ in range(EPOCHS)
    ]
    return {
        "fit": fitted,
        "losses": losses,
        "weights": flat_weights(model),
        "chief": backend.is_chief(model),
    }


def by_processes(model, x, y):
    """A custom loop under DistributedDataParallel; ends the process."""
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    share = slice(rank * BATCH // processes, (rank + 1) * BATCH // processes)

    def averaged(value):
        value = torch.as_tensor(value).detach().clone()
        distributed.all_reduce(value)
        return float(value) / processes

    terms = penalty_terms(model, x[:BATCH][share])
    terms = {name: averaged(value) for name, value in terms.items()}
    replica = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    # A term that is not a mean over the samples would be another one here.
    coefficients = model.get_layer("hidden").coefficients
    coefficients["sum"] = coefficients["variance_floor"] = 0.0
    for _ in range(EPOCHS):
        for start in range(0, SAMPLES, BATCH):
            inputs, targets = (
                torch.as_tensor(data[start : start + BATCH][share])
                for data in (x, y)
            )
            optimizer.zero_grad()
            outputs = replica(inputs, training=True)
            task = keras.losses.MeanSquaredError()(targets, outputs)
            loss = task + sum(model.losses)
            loss.backward()
            optimizer.step()
            losses.append(averaged(loss))
    found = {
        "terms": terms,
        "losses": losses,
        "weights": flat_weights(model),
        "chief": backend.is_chief(model),
    }
    print(json.dumps(found), flush=True)
    # A process that ends while another still needs it would end that one too.
    distributed.barrier()
    # Not the usual end: the process group, when it goes, waits for a thread
    # of its own that may wait for the GIL (torch 2.13: 3 of 44 runs hung).
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
