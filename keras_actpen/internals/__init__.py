"""Everything that needs one of Keras's private attributes.

Each function says why the public API is not enough. All were checked on Keras
3.14 and 3.15; `tests/internals/test_internals.py` fails when Keras changes one
of them.
"""

from keras_actpen.internals.data import batches_of
from keras_actpen.internals.graphs import (
    graph_of,
    has_calls,
    has_outputs,
    moved_operations,
    original_graph,
    rebuilt_graph,
    symbolic_arguments,
)
from keras_actpen.internals.inner_calls import Caller, inner_calls_made_by
from keras_actpen.internals.layers import (
    Entry,
    attributes_of,
    entry_layer,
    entry_of_replica,
    inner_layers,
    is_rematerialized,
    own_losses,
    sublayers,
)
from keras_actpen.internals.losses import compute_loss_watched
from keras_actpen.internals.models import (
    carry_over,
    functional_like,
    replace_sublayer,
    sequential_like,
    share_compile_state,
)
from keras_actpen.internals.observed_twin import ObservedTwin
from keras_actpen.internals.pickling import load_pickled, pickle_with_import
from keras_actpen.internals.progress_bar import running_progress_bar
from keras_actpen.internals.summary import NotedCount
from keras_actpen.internals.tracing import (
    is_exporting,
    is_in_constructor,
    is_writing_keras_file,
    mask_of,
    output_spec,
    serialized_for_sharing,
    stateless_scope,
    traced_spec,
    try_out,
)
from keras_actpen.internals.trainable import trainable_in_front
from keras_actpen.internals.training import (
    batches_seen,
    build_optimizer,
    give_back_jax_state,
    unwrap_reported_logs,
    wrap_reported_logs,
)
from keras_actpen.internals.twins import (
    make_twin,
    original_of,
    own,
    plain_twin,
    rebuilt_model_class,
    root_of,
    twin_class,
)

__all__ = [
    "Caller",
    "Entry",
    "NotedCount",
    "ObservedTwin",
    "attributes_of",
    "batches_of",
    "batches_seen",
    "build_optimizer",
    "carry_over",
    "compute_loss_watched",
    "entry_layer",
    "entry_of_replica",
    "functional_like",
    "give_back_jax_state",
    "graph_of",
    "has_calls",
    "has_outputs",
    "inner_calls_made_by",
    "inner_layers",
    "is_exporting",
    "is_in_constructor",
    "is_rematerialized",
    "is_writing_keras_file",
    "load_pickled",
    "make_twin",
    "mask_of",
    "moved_operations",
    "original_graph",
    "original_of",
    "output_spec",
    "own",
    "own_losses",
    "pickle_with_import",
    "plain_twin",
    "rebuilt_graph",
    "rebuilt_model_class",
    "replace_sublayer",
    "root_of",
    "running_progress_bar",
    "sequential_like",
    "serialized_for_sharing",
    "share_compile_state",
    "stateless_scope",
    "sublayers",
    "symbolic_arguments",
    "traced_spec",
    "trainable_in_front",
    "try_out",
    "twin_class",
    "unwrap_reported_logs",
    "wrap_reported_logs",
]
