"""Fast paths and facts that differ between TensorFlow, JAX and torch.

The only package that may import a backend, and only the one Keras has chosen.
"""

from keras_actpen.backend import installed  # noqa: F401  First: imports Keras

# isort: split
import keras

from keras_actpen.backend.chunks import by_chunks
from keras_actpen.backend.compiling import (
    compiled,
    uncompiled,
    unless_all,
)
from keras_actpen.backend.doubles import (
    bucket_counts,
    double_sums,
    mean_and_m2,
    offsets,
)
from keras_actpen.backend.execution import (
    are_recorded,
    below_root,
    differentiates_latest_first,
    have_escaped,
    is_hidden_from_tapes,
    is_in_reach,
    is_traced_once,
    random_state_kept,
    running_graph,
    running_reach,
    running_trace,
    traces_twice,
    value_and_gradients,
    wait_for,
)
from keras_actpen.backend.host_statistics import (
    is_on_host,
    statistics_on_host,
)
from keras_actpen.backend.replicas import (
    is_chief,
    local_values,
    replica_count,
    replica_mean,
    replica_min,
    strategy_scope,
)
from keras_actpen.backend.stacking import later, results
from keras_actpen.backend.sums import (
    any_nonzero,
    compensated_sums,
    precise_sum,
    scalars,
    scaled,
    sum_of_absolutes,
    sum_of_squares,
)
from keras_actpen.backend.trainers import (
    compiles_steps,
    ends_steps_in_threads,
    hands_state_through,
    looks_up_step,
    returns_scalars,
    state_is_sharded,
    sync_variables,
)

if keras.backend.backend() == "torch":
    from keras_actpen.backend import torch_operations as operations
else:
    from keras import ops as operations

__all__ = [
    "any_nonzero",
    "are_recorded",
    "below_root",
    "bucket_counts",
    "by_chunks",
    "compensated_sums",
    "compiled",
    "compiles_steps",
    "differentiates_latest_first",
    "double_sums",
    "ends_steps_in_threads",
    "hands_state_through",
    "have_escaped",
    "is_chief",
    "is_hidden_from_tapes",
    "is_in_reach",
    "is_on_host",
    "is_traced_once",
    "later",
    "local_values",
    "looks_up_step",
    "mean_and_m2",
    "offsets",
    "operations",
    "precise_sum",
    "random_state_kept",
    "replica_count",
    "replica_mean",
    "replica_min",
    "results",
    "returns_scalars",
    "running_graph",
    "running_reach",
    "running_trace",
    "scalars",
    "scaled",
    "state_is_sharded",
    "statistics_on_host",
    "strategy_scope",
    "sum_of_absolutes",
    "sum_of_squares",
    "sync_variables",
    "traces_twice",
    "uncompiled",
    "unless_all",
    "value_and_gradients",
    "wait_for",
]
