"""How code is traced, differentiated and waited for."""

import contextlib
import inspect
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras

from keras_actpen.backend.tensors import MaskedTensors, Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    from tensorflow.python.eager import record  # nothing public says

    # What of these runs eagerly calls a function once a sample, and once more
    # to see what it returns.
    _MAPS = [inspect.unwrap(f).__code__ for f in (keras.ops.map, tf.map_fn)]
    # What `tf.vectorized_map` calls the scope of its function.
    _MAP_SCOPE = re.compile(r"loop_body(_\d+)?")
elif keras.backend.backend() == "jax":
    import jax
    from jax.extend.core import get_opaque_trace_state
elif keras.backend.backend() == "torch":
    import torch
    from torch._C._functorch import maybe_current_level  # nothing public says


def below_root() -> contextlib.AbstractContextManager[object]:
    """Lets a layer that is traced alone have any name it may have in a model.

    TensorFlow restricts names more at the root of a graph: there none starts
    with `_` or `-`. Names of variables do not change.
    """
    if keras.backend.backend() == "tensorflow":
        return tf.name_scope("traced")
    return contextlib.nullcontext()


def traces_twice() -> bool:
    """Whether Keras traces a function twice for the spec of its outputs.

    On torch, with 83 and with 89 for every unknown size.
    """
    return keras.backend.backend() == "torch"


def is_in_reach(tensors: Any) -> bool:
    """Whether more can be computed from `tensors` here.

    False outside of the tf.function that they were made in.
    """
    if keras.backend.backend() != "tensorflow" or not tf.executing_eagerly():
        return True
    return not any(
        tf.is_symbolic_tensor(tensor) for tensor in keras.tree.flatten(tensors)
    )


def have_escaped(tensors: Any, trace: object) -> bool:
    """Whether some belong to a function that is traced by itself, not here.

    The backends' own errors name no layer, and JAX's comes when it compiles.
    Eagerly run code of TensorFlow may have tensors of a compiled step, see
    `is_in_reach`. Tensors made inside a map may hold a single sample.

    Args:
        tensors: Tensors, in any structure.
        trace: The `running_trace` that they were made in.
    """
    if keras.backend.backend() == "jax":
        return trace != running_trace() and any(
            isinstance(x, jax.core.Tracer) for x in keras.tree.flatten(tensors)
        )
    if keras.backend.backend() == "torch":
        return trace != running_trace()
    if trace[1] != _maps_around():
        return True
    if tf.executing_eagerly():
        return False
    graphs, graph = [], running_graph()
    while graph is not None:
        graphs.append(graph)
        graph = getattr(graph, "outer_graph", None)
    return any(
        tf.is_symbolic_tensor(x) and all(x.graph is not one for one in graphs)
        for x in keras.tree.flatten(tensors)
    )


def running_trace() -> object:
    """What running code is traced into; equal if nothing lies in between."""
    if keras.backend.backend() == "jax":
        return get_opaque_trace_state()
    if keras.backend.backend() == "torch":
        # Where torch makes a graph nothing lies in between, and this cannot
        # be asked.
        return None if is_traced() else maybe_current_level()
    graph = running_graph()
    # Weakly, as JAX does: a layer remembers its last trace.
    return graph if graph is None else weakref.ref(graph), _maps_around()


def is_traced_once() -> bool:
    """Whether the running code may not run again when it is needed again.

    `tf.function`, but neither a branch nor a loop, keeps what it has traced;
    JAX keeps it for every function that it is given.
    """
    if keras.backend.backend() == "tensorflow":
        return type(running_graph()).__name__ == "FuncGraph"
    return keras.backend.backend() == "jax"


def _maps_around() -> int:
    """How many maps of TensorFlow the running code is inside of."""
    if not tf.executing_eagerly():
        # That function is traced into the graph around it.
        scopes = tf.get_current_name_scope().split("/")
        return sum(bool(_MAP_SCOPE.fullmatch(one)) for one in scopes)
    count, frame = 0, inspect.currentframe()
    while frame is not None:
        count += frame.f_code in _MAPS
        frame = frame.f_back
    return count


def differentiates_latest_first(tensors: Iterable[MaskedTensors]) -> bool:
    """Whether what is computed last from tensors is differentiated first.

    That is so on torch. If penalties were computed after the whole forward
    pass, their gradients, of the size of the activations, would all be there
    before any of the model's own. Where it compiles or exports, the graph
    that it makes has an order of its own.
    """
    return (
        keras.backend.backend() == "torch"
        and torch.is_grad_enabled()
        and not is_traced()
        and any(x.requires_grad for some in tensors for x, _ in some)
    )


def is_traced() -> bool:
    """Whether torch makes a graph of the running code, to be run later."""
    if keras.backend.backend() != "torch":
        return False
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_hidden_from_tapes() -> bool:
    """Whether no gradient tape of TensorFlow sees what is computed here.

    That is so in the forward pass of `tf.recompute_grad`, which runs a second
    time, and is seen, when gradients are computed.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    # In a graph of its own, which leaves no trace in one that is exported.
    entered = tf.Graph().as_default
    if tf.executing_eagerly():
        entered = contextlib.nullcontext
    with entered():
        probe = tf.zeros(())
        with tf.GradientTape() as tape:
            tape.watch(probe)
            seen = tf.identity(probe)
        return tape.gradient(seen, probe) is None


def are_recorded(tensors: Any) -> bool:
    """Whether a gradient tape of TensorFlow records what is made of tensors.

    Not within its `stop_recording()`.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    flat = [x for x in keras.tree.flatten(tensors) if x is not None]
    return record.should_record_backprop(flat)


def running_graph() -> object:
    """The graph that running code is traced into, or None.

    There is none on JAX and torch.
    """
    if keras.backend.backend() == "tensorflow":
        return tf.compat.v1.get_default_graph()
    return None


def running_reach() -> object:
    """Where tensors of the running code can be used; equal in all of it.

    One made in a loop, a branch or a rematerialized block cannot be used
    around it.
    """
    if keras.backend.backend() == "tensorflow":
        return running_trace(), is_hidden_from_tapes()
    return running_trace()


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Leave the random numbers that come after this block as they are.

    Keras's dropout draws from torch's global generators; elsewhere it draws
    from a `SeedGenerator`, whose state is a variable.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    # Without devices it warns where there are several GPUs, and keeps the
    # states of all; Keras computes on the current one.
    has_gpu = torch.cuda.is_available()
    devices = [torch.cuda.current_device()] if has_gpu else []
    with torch.random.fork_rng(devices):
        yield


def value_and_gradients(
    function: Callable[[list[Tensor]], Tensor], tensors: list[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    """Value of a scalar function and its gradients, outside of training.

    Args:
        function: Takes a list of tensors, returns a float scalar.
        tensors: The tensors to differentiate with respect to.

    Returns:
        The value and a sequence of one gradient per tensor, 0 where the value
        does not depend on it.
    """
    if keras.backend.backend() == "tensorflow":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            value = function(tensors)
        zero = tf.UnconnectedGradients.ZERO
        return value, tape.gradient(value, tensors, unconnected_gradients=zero)
    if keras.backend.backend() == "jax":
        return jax.value_and_grad(function)(tensors)
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        value = function(tensors)
    if not value.requires_grad:
        return value, [torch.zeros_like(tensor) for tensor in tensors]
    return value, torch.autograd.grad(
        value, tensors, allow_unused=True, materialize_grads=True
    )


def wait_for(tensors: Any) -> None:
    """Wait until the device has done all that it was given.

    Args:
        tensors: On JAX it is these, in any structure, that are waited for.
    """
    if keras.backend.backend() == "tensorflow":
        tf.test.experimental.sync_devices()
    elif keras.backend.backend() == "jax":
        # The iterator over the data is among a step's arguments.
        leaves = keras.tree.flatten(tensors)
        jax.block_until_ready([x for x in leaves if isinstance(x, jax.Array)])
    elif torch.cuda.is_available():
        torch.cuda.synchronize()
