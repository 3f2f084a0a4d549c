"""Everything that needs one of Keras's private attributes.

Each function says why the public API is not enough. All were checked on Keras
3.14 and 3.15; `tests/internals/test_internals.py` fails when Keras changes one
of them.
"""

from keras_actpen.internals.layers import (
    Entry,
    TransparentLayer,
    entry_of_replica,
    own_losses,
    track,
    unlocked,
    untrack,
)
from keras_actpen.internals.losses import compute_loss_watched
from keras_actpen.internals.models import (
    calls_in_order,
    carry_over,
    functional_like,
    let_calls_go,
    rebuilt_outputs,
    replace_sublayer,
    sequential_like,
    share_compile_state,
)
from keras_actpen.internals.progress_bar import running_progress_bar
from keras_actpen.internals.tracing import (
    is_writing_keras_file,
    mask_of,
    output_spec,
    stateless_scope,
    try_out,
)
from keras_actpen.internals.trainable import trainable_in_front
from keras_actpen.internals.training import (
    give_back_jax_state,
    unwrap_reported_logs,
    wrap_reported_logs,
)

__all__ = [
    "Entry",
    "TransparentLayer",
    "calls_in_order",
    "carry_over",
    "compute_loss_watched",
    "entry_of_replica",
    "functional_like",
    "give_back_jax_state",
    "is_writing_keras_file",
    "let_calls_go",
    "mask_of",
    "output_spec",
    "own_losses",
    "rebuilt_outputs",
    "replace_sublayer",
    "running_progress_bar",
    "sequential_like",
    "share_compile_state",
    "stateless_scope",
    "track",
    "trainable_in_front",
    "try_out",
    "unlocked",
    "untrack",
    "unwrap_reported_logs",
    "wrap_reported_logs",
]
