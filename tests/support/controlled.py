"""A controlled training that may be killed, in a process of its own.

Prints the coefficient at the end of each epoch.

    python controlled.py DIRECTORY backup_first|controller_first EPOCHS
        [kill_in_epoch_N]
"""

import os
import sys

import keras
from models import QUICK, data, sequential

from keras_actpen import TargetController, attach_penalty, penalized_layers


class Coefficients(keras.callbacks.Callback):
    """Prints the coefficient, and kills the process."""

    def __init__(self, killed_in):
        super().__init__()
        self.killed_in = killed_in

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.killed_in:
            os._exit(9)

    def on_epoch_end(self, epoch, logs=None):
        layer = penalized_layers(self.model)["dense_4"]
        print(layer.coefficients["l1"], flush=True)


def main(directory, order, epochs, kill="kill_in_epoch_-1"):
    keras.utils.set_random_seed(3)
    model = attach_penalty(sequential(), "dense_4", l1=0.1)
    model.get_layer("drop").rate = 0.0
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", **QUICK)
    callbacks = [
        keras.callbacks.BackupAndRestore(directory, delete_checkpoint=False),
        TargetController("l1", 0.7, update_freq=2),
    ]
    if order == "controller_first":
        callbacks.reverse()
    x, y = data(samples=20)
    model.fit(
        x,
        y,
        # Of 5 steps an epoch the last one is measured in every second epoch,
        # and in the others one is left over.
        batch_size=4,
        epochs=int(epochs),
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, Coefficients(int(kill.rpartition("_")[2]))],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
