"""Fast paths and facts that differ between TensorFlow, JAX and torch.

The only module that may import a backend, and only the one Keras has chosen.
"""

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def replica_count() -> int:
    """Number of replicas that run the current step, 1 outside tf.distribute.

    JAX compiles one program for the global batch and torch runs one process a
    device, so only TensorFlow ever has more than one.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_mean(value):
    """Mean of `value` over the replicas of the current step.

    Keras divides every added loss by the number of replicas, so a penalty is
    right on the global batch when its divisor is the mean of the replicas'.
    """
    if replica_count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    if context is None:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)

