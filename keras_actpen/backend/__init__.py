"""Fast paths and facts that differ between TensorFlow, JAX and torch.

The only package that may import a backend, and only the one Keras has chosen.
"""

from keras_actpen.backend import installed  # noqa: F401  First: imports Keras

# isort: split
import keras

from keras_actpen.backend.execution import (
    below_root,
    compiled,
    differentiates_latest_first,
    is_in_reach,
    random_state_kept,
    running_graph,
    uncompiled,
    value_and_gradients,
    wait_for,
)
from keras_actpen.backend.host_summary import Summary, is_on_host, summary
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
    compensated_sums,
    mean_and_m2,
    offsets,
    precise_sum,
    scalars,
    scaled,
    sum_of_absolutes,
    sum_of_squares,
    sums,
)

if keras.backend.backend() == "torch":
    from keras_actpen.backend import torch_operations as operations
else:
    from keras import ops as operations

__all__ = [
    "Summary",
    "below_root",
    "bucket_counts",
    "compensated_sums",
    "compiled",
    "differentiates_latest_first",
    "is_chief",
    "is_in_reach",
    "is_on_host",
    "local_values",
    "mean_and_m2",
    "offsets",
    "operations",
    "precise_sum",
    "random_state_kept",
    "replica_count",
    "replica_mean",
    "replica_min",
    "running_graph",
    "scalars",
    "scaled",
    "strategy_scope",
    "sum_of_absolutes",
    "sum_of_squares",
    "summary",
    "sums",
    "uncompiled",
    "value_and_gradients",
    "wait_for",
]
