"""Everything that needs one of Keras's private attributes.

Each function says why the public API is not enough. All were checked on Keras
3.14 and 3.15; `tests/internals/test_internals.py` fails when Keras changes one
of them.
"""

from keras_actpen.internals.layers import (
    Entry,
    PenalizedTwin,
    entry_of_replica,
    own_losses,
    track,
    unlocked,
    untrack,
)
from keras_actpen.internals.models import (
    calls_in_order,
    carry_over,
    functional_like,
    moved_operations,
    plain_outputs,
    rebuilt_outputs,
    replace_sublayer,
    sequential_like,
    share_compile_state,
)
from keras_actpen.internals.tracing import (
    is_writing_keras_file,
    mask_of,
    output_spec,
    stateless_scope,
    try_out,
)
from keras_actpen.internals.training import (
    give_back_jax_state,
    unwrap_reported_logs,
    wrap_reported_logs,
)
from keras_actpen.internals.twins import (
    make_twin,
    own,
    plain_twin,
    root_of,
    twin_class,
)

__all__ = [
    "Entry",
    "PenalizedTwin",
    "calls_in_order",
    "carry_over",
    "entry_of_replica",
    "functional_like",
    "give_back_jax_state",
    "is_writing_keras_file",
    "make_twin",
    "mask_of",
    "moved_operations",
    "output_spec",
    "own",
    "own_losses",
    "plain_outputs",
    "plain_twin",
    "rebuilt_outputs",
    "replace_sublayer",
    "root_of",
    "sequential_like",
    "share_compile_state",
    "stateless_scope",
    "track",
    "try_out",
    "twin_class",
    "unlocked",
    "untrack",
    "unwrap_reported_logs",
    "wrap_reported_logs",
]
