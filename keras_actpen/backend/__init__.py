"""Fast paths and facts that differ between TensorFlow, JAX and torch.

The only package that may import a backend, and only the one Keras has chosen.
"""

from keras_actpen.backend.elements import filled, parts
from keras_actpen.backend.execution import (
    below_root,
    compiled,
    differentiates_latest_first,
    is_in_reach,
    random_state_kept,
    running_graph,
    value_and_gradients,
    wait_for,
)
from keras_actpen.backend.replicas import (
    is_chief,
    local_values,
    replica_count,
    replica_mean,
    replica_min,
    strategy_scope,
)
from keras_actpen.backend.sums import (
    bucket_counts,
    mean_and_m2,
    offsets,
    precise_sum,
    raw_counts,
    scalars,
    scaled,
    sum_of_absolutes,
    sum_of_squares,
    sums,
)

__all__ = [
    "below_root",
    "bucket_counts",
    "compiled",
    "differentiates_latest_first",
    "filled",
    "is_chief",
    "is_in_reach",
    "local_values",
    "mean_and_m2",
    "offsets",
    "parts",
    "precise_sum",
    "random_state_kept",
    "raw_counts",
    "replica_count",
    "replica_mean",
    "replica_min",
    "running_graph",
    "scalars",
    "scaled",
    "strategy_scope",
    "sum_of_absolutes",
    "sum_of_squares",
    "sums",
    "value_and_gradients",
    "wait_for",
]
