"""Models made of the layers of others, and what they are compiled with."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import keras
import keras.src.models.functional
from keras import tree
from keras.src.ops.node import Node

from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.layers import unlocked
from keras_actpen.internals.tracing import mask_of
from keras_actpen.internals.twins import root_of

Layer = keras.layers.Layer
Functional = keras.src.models.functional.Functional


def functional_like(
    model: Functional, inputs: Any, outputs: Any
) -> keras.Model:
    """A Functional model of `model`'s own class on other tensors.

    The class's `__init__` is not run: it would build other layers.
    `keras.Model.__init__` cannot be run on such a class by itself.
    """
    cls = type(root_of(model))
    new = cls.__new__(cls)
    Functional.__init__(new, inputs, outputs, name=model.name)
    return new


def sequential_like(
    model: keras.Sequential, layers: list[Any], inputs: Any, outputs: Any
) -> keras.Sequential:
    """A Sequential model of `model`'s own class on other tensors.

    The class's `__init__` is not run: it would build other layers. Nor is
    `build`, which would call the layers.
    """
    cls = type(root_of(model))
    new = cls.__new__(cls)
    keras.Sequential.__init__(new, name=model.name)
    new._layers.extend(layers)
    new._functional = Functional(inputs, outputs)
    new.built = True
    new._post_build()
    return new


def moved_operations(
    graphs: list[tuple[keras.Model, Any]], replaced: set[int]
) -> set[int]:
    """Ids of the operations that need calls of their own in another graph.

    Those that are replaced, those behind them, all calls of both, and the
    nested models that hold any.

    Args:
        graphs: Each graph model with the operation that it is in the model
            around it, or None.
        replaced: Ids of the layers that are replaced.
    """
    moved = set(replaced)
    calls = [
        (outer, calls_in_order(model), model.layers) for model, outer in graphs
    ]
    count = -1
    while count != len(moved):
        count = len(moved)
        for outer, nodes, layers in calls:
            for node in nodes:
                if any(
                    id(tensor._keras_history.operation) in moved
                    for tensor in node.input_tensors
                ):
                    moved.add(id(node.operation))
            if outer is not None and any(id(one) in moved for one in layers):
                moved.add(id(outer))
    return moved


def plain_outputs(
    model: Functional, moved: set[int], visit: Callable[[Any], Any]
) -> tuple[list[Tensor], dict[int, Any]] | None:
    """Outputs of the graph that plain layers already are in, if they are.

    A penalty that is taken off leaves the graph it was attached to.
    """
    in_place_of: dict[int, Tensor] = {}
    placed: dict[int, Any] = {}
    for node in calls_in_order(model):
        operation = node.operation
        if node.is_input or id(operation) not in moved:
            in_place_of.update((id(one), one) for one in node.outputs)
            continue
        new = visit(operation)
        if hasattr(type(new), "_values_of"):
            return None  # penalised
        root = placed[id(operation)] = root_of(new)
        args, kwargs = node.arguments.fill_in(in_place_of)
        found = [
            other
            for other in root._inbound_nodes
            if _same((args, kwargs), other.arguments)
        ]
        if not found:
            return None
        in_place_of.update(
            zip(map(id, node.outputs), found[0].outputs, strict=True)
        )
    return [in_place_of[id(tensor)] for tensor in model.outputs], placed


def _same(given: Any, arguments: Any) -> bool:
    one = tree.flatten(given)
    other = tree.flatten((arguments.args, arguments.kwargs))
    return len(one) == len(other) and all(
        a is b
        or (
            type(a) is type(b)
            and isinstance(a, (int, float, str, bool))
            and a == b
        )
        for a, b in zip(one, other, strict=True)
    )


def rebuilt_outputs(
    model: Functional, moved: set[int], place: Callable[[Any], Any]
) -> tuple[list[Tensor], dict[int, Any]]:
    """Outputs of a model's graph with other operations in it.

    The calls in front of the replaced layers stay. Those behind them are
    noted in twins, without a trace: shapes and dtypes are the same. Only
    where there are masks are layers called, because a symbolic mask knows the
    graph that it was computed in.

    Args:
        model: The model, left as it is.
        moved: `moved_operations`.
        place: Maps one of these to the one in its place.

    Returns:
        The flat outputs, and the operations by the ids of those of `model`.
    """
    in_place_of: dict[int, Tensor] = {}
    placed: dict[int, Any] = {}
    for node in calls_in_order(model):
        old = node.operation
        if node.is_input or id(old) not in moved:
            in_place_of.update((id(one), one) for one in node.outputs)
            continue
        new = placed[id(old)] = place(old)
        args, kwargs = node.arguments.fill_in(in_place_of)
        if (
            root_of(new) is root_of(old)
            and not hasattr(type(new), "_values_of")
            and all(mask_of(one) is None for one in node.outputs)
        ):
            outputs = [_same_spec(tensor) for tensor in node.outputs]
            Node(new, args, kwargs, outputs)
        else:
            outputs = tree.flatten(new(*args, **kwargs))
        in_place_of.update(zip(map(id, node.outputs), outputs, strict=True))
        _leave_no_trace(new._inbound_nodes[-1], set(map(id, placed.values())))
    return [in_place_of[id(tensor)] for tensor in model.outputs], placed


def _leave_no_trace(node: Any, ids: set[int]) -> None:
    """Let operations in front of a new graph know nothing of it.

    Keras writes down in an operation which calls follow, and never reads it;
    they would keep each graph that was ever built on their outputs.
    """
    for tensor in node.input_tensors:
        operation = tensor._keras_history.operation
        if id(operation) not in ids:
            following = operation._outbound_nodes
            following[:] = [one for one in following if one is not node]


def _same_spec(tensor: Tensor) -> Tensor:
    """A new symbolic tensor like another one, without a mask."""
    return keras.KerasTensor(
        tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        ragged=tensor.ragged,
    )


def calls_in_order(model: keras.Model) -> list[Any]:
    """The calls that make up a model, each layer's in their order.

    Keras (3.15) goes by the depth of the calls: of two calls that do not
    depend on each other the later one may come first. If they were added in
    that order, `get_layer(name).output` would be that of the other call.
    """
    nodes_by_depth = getattr(model, "_functional", model)._nodes_by_depth
    nodes = [
        node
        for depth in sorted(nodes_by_depth, reverse=True)
        for node in nodes_by_depth[depth]
    ]
    calls: dict[int, list[Any]] = {}
    for node in nodes:
        calls.setdefault(id(node.operation), []).append(node)
    for one in calls.values():
        one.sort(key=one[0].operation._inbound_nodes.index)
    known, in_order, begun = set(nodes), [], set()

    def add(node: Any) -> None:
        if node in begun:
            return
        begun.add(node)
        of_layer = calls[id(node.operation)]
        earlier = of_layer[: of_layer.index(node)]
        for other in chain(node.parent_nodes, earlier):
            if other in known:
                add(other)
        in_order.append(node)

    for node in nodes:
        add(node)
    return in_order


# What a rebuilt model gets from its own construction, and must keep.
_OWN_ATTRIBUTES = frozenset(
    (
        "_layers",
        "_functional",
        "_tracker",
        "_torch_params",
        # Left behind by `wrap_reported_logs` where `fit` was interrupted.
        "_get_metrics_result_or_logs",
    )
)
# What construction sets to a default and the original may have changed.
_CHANGEABLE_ATTRIBUTES = (
    "_trainable",
    "_auto_config",
    "_dtype_policy",
    "_supports_masking",
    "supports_jit",
    "_path",
    "_parent_path",
    "_build_shapes_dict",
    "_call_context_args",
    "_call_has_context_arg",
)


def carry_over(
    old: keras.Model, new: keras.Model, visit: Callable[[Layer], Layer]
) -> None:
    """Give a rebuilt model the attributes its class or its user has set.

    Args:
        old: The model that was rebuilt.
        new: The rebuilt model.
        visit: Maps a layer of `old` to the one in its place in `new`.
    """

    def mapped(value: Any) -> Any:
        if isinstance(value, Layer):
            return visit(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(mapped, value))
        if isinstance(value, list | tuple):
            return (tuple if isinstance(value, tuple) else list)(
                map(mapped, value)
            )
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        return value

    attributes = {**vars(old), **vars(old).get("_modules", {})}
    present = {**vars(new), **vars(new).get("_modules", {})}
    for name, value in attributes.items():
        if name not in present and name not in _OWN_ATTRIBUTES:
            setattr(new, name, mapped(value))
    # Nothing but its outputs may leave a rematerialised call, on JAX, so no
    # penalty either. The layers inside keep their own modes.
    new._remat_mode = None
    for name in _CHANGEABLE_ATTRIBUTES:
        if name in vars(old):
            # Not setattr: the setter of `trainable` rewrites every layer.
            vars(new)[name] = vars(old)[name]


def share_compile_state(old: keras.Model, new: keras.Model) -> None:
    """Compile `new` with the very objects that `old` is compiled with.

    `get_compile_config` goes through serialisation: lambda losses raise, and
    the optimizer starts again at iteration 0.
    """
    config = old._compile_config.config
    keras.Model.compile(
        new,
        optimizer=old.optimizer,
        loss=config["loss"],
        loss_weights=config["loss_weights"],
        metrics=config["metrics"],
        weighted_metrics=config["weighted_metrics"],
        run_eagerly=old.run_eagerly,
        steps_per_execution=old.steps_per_execution,
        jit_compile=config["jit_compile"],
        # The optimizer is already wrapped if it had to be.
        auto_scale_loss=False,
    )
    # Metric objects are shared: a second set of containers around them would
    # reset or count them twice.
    new._compile_loss = old._compile_loss
    # Not setattr, which would track the metrics a second time.
    vars(new)["_compile_metrics"] = old._compile_metrics


def replace_sublayer(owner: Layer, old: Layer, new: Layer) -> None:
    """Put `new` everywhere that `owner` holds `old`, order kept.

    Setting the attribute anew would append to the list of sub-layers, which
    changes the order of the weights, and is refused on a built layer.
    """

    def replaced(value: Any) -> Any:
        if value is old:
            return new
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(replaced, value))
        if isinstance(value, tuple):
            return tuple(map(replaced, value))
        if isinstance(value, list):
            for index, item in enumerate(value):
                if (changed := replaced(item)) is not item:
                    value[index] = changed
        elif isinstance(value, dict):
            for key, item in value.items():
                if (changed := replaced(item)) is not item:
                    value[key] = changed
        return value

    with unlocked(owner):
        owner._tracker.replace_tracked_value("layers", old, new)
        attributes = {
            name: value
            for name, value in {
                **vars(owner),
                **vars(owner).get("_modules", {}),
            }.items()
            if name not in _OWN_ATTRIBUTES
        }
        for name, value in attributes.items():
            if (changed := replaced(value)) is not value:
                setattr(owner, name, changed)
    if hasattr(owner, "_torch_params"):
        owner._track_variables()
