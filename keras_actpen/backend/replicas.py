"""One process or replica among several."""

import contextlib

import keras
import numpy as np

from keras_actpen.backend.tensors import Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    import jax
elif keras.backend.backend() == "torch":
    import torch


def replica_count() -> int:
    """Number of replicas that run the current step, 1 outside tf.distribute.

    JAX compiles one program for the global batch and torch runs one process a
    device, so only TensorFlow ever has more than one.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def replica_mean(value: Tensor) -> Tensor:
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


def replica_min(value: Tensor) -> Tensor:
    """Minimum of `value` over the replicas of the current step.

    An all-gather, because tf.distribute has no MIN reduction.
    """
    if replica_count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    if context is None:
        return value
    return tf.reduce_min(context.all_gather(value[None], axis=0))


def local_values(variable: keras.Variable) -> list[np.ndarray]:
    """Host copies of `variable`, one for each replica of this process.

    Reading an on-read variable adds up the replicas, which is wrong for a
    mean or a minimum.
    """
    value = variable.value
    if keras.backend.backend() != "tensorflow":
        return [keras.ops.convert_to_numpy(value)]
    strategy = getattr(value, "distribute_strategy", None)
    if strategy is None:
        # `value.numpy()` takes several times as long, and there are many.
        read = tf.raw_ops.ReadVariableOp
        return [read(resource=value.handle, dtype=value.dtype).numpy()]
    return [v.numpy() for v in strategy.experimental_local_results(value)]


def strategy_scope(
    model: keras.Model,
) -> contextlib.AbstractContextManager[object]:
    """Scope in which variables of `model` have to be created."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.scope()
    return contextlib.nullcontext()


def is_chief(model: keras.Model) -> bool:
    """Whether this process is the one of a distributed training that logs."""
    if keras.backend.backend() == "tensorflow":
        resolver = model.distribute_strategy.cluster_resolver
        return resolver is None or (
            resolver.task_type in (None, "chief")
            or (resolver.task_type == "worker" and resolver.task_id == 0)
        )
    if keras.backend.backend() == "jax":
        return jax.process_index() == 0
    distributed = torch.distributed
    return not distributed.is_initialized() or distributed.get_rank() == 0
