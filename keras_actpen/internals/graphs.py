"""Graphs of calls, with other operations in the place of some."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import keras.src.models.functional
from keras import tree
from keras.src.ops.node import KerasHistory, Node

from keras_actpen.backend.tensors import Tensor
from keras_actpen.internals.observed_twin import ObservedTwin
from keras_actpen.internals.tracing import mask_of
from keras_actpen.internals.twins import root_of

Functional = keras.src.models.functional.Functional

# Flat outputs of a graph, and the operations in it by the ids of those whose
# place they took.
Graph = tuple[list[Tensor], dict[int, Any]]


def graph_of(model: keras.Model) -> Functional:
    """The model that holds the graph: a Sequential one has it inside."""
    return getattr(model, "_functional", model)


def has_calls(operation: Any) -> bool:
    """Whether an operation is in any graph."""
    return bool(operation._inbound_nodes)


def symbolic_arguments(
    layer: keras.layers.Layer,
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """What a layer was first called on in a graph, None if it never was.

    `Layer.input` has no keyword arguments.
    """
    if not layer._inbound_nodes:
        return None
    arguments = layer._inbound_nodes[0].arguments
    return arguments.args, arguments.kwargs


def has_outputs(model: keras.Model, outputs: list[Tensor]) -> bool:
    """Whether the outputs of a model's graph are these very tensors."""
    own = graph_of(model).outputs
    return list(map(id, own)) == list(map(id, outputs))


def calls_of(model: keras.Model) -> list[Any]:
    """The calls that make up a model, each behind those it needs."""
    nodes_by_depth = graph_of(model)._nodes_by_depth
    return [
        node
        for depth in sorted(nodes_by_depth, reverse=True)
        for node in nodes_by_depth[depth]
    ]


def moved_operations(
    graphs: list[tuple[keras.Model, Any]], replaced: set[int]
) -> set[int]:
    """Ids of the operations that need calls of their own in another graph.

    Those that are replaced and those behind them, with all their calls, and
    nested models that hold any.

    Args:
        graphs: Each graph model with the operation that it is in the model
            around it, or None.
        replaced: Ids of the layers that are replaced.
    """
    moved = set(replaced)
    calls = [(outer, calls_of(model), model.layers) for model, outer in graphs]
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


def original_graph(
    model: keras.Model, moved: set[int], plain: Callable[[Any], Any]
) -> Graph | None:
    """The graph that the plain layers are in already, None if there is none.

    A model that loses its penalties gets back the calls it had before.

    Args:
        model: The model, left as it is.
        moved: `moved_operations`.
        plain: Maps one of these to the one in its place.
    """
    in_place_of: dict[int, Tensor] = {}
    placed: dict[int, Any] = {}
    nodes = calls_of(model)
    for node in nodes:
        if node.is_input or id(node.operation) not in moved:
            in_place_of.update((id(one), one) for one in node.outputs)
            continue
        new = plain(node.operation)
        if isinstance(new, ObservedTwin):
            return None
        root = placed[id(node.operation)] = root_of(new)
        given = node.arguments.fill_in(in_place_of)
        found = [one for one in root._inbound_nodes if _is_call(one, given)]
        number = _number_among_equals(node, nodes)
        if number >= len(found):
            return None
        in_place_of.update(
            zip(map(id, node.outputs), found[number].outputs, strict=True)
        )
    return [in_place_of[id(one)] for one in graph_of(model).outputs], placed


def _number_among_equals(node: Any, nodes: list[Any]) -> int:
    """How many calls of a graph before this one are of the same arguments."""
    calls = node.operation._inbound_nodes
    given = (node.arguments.args, node.arguments.kwargs)
    return sum(
        one in nodes and _is_call(one, given)
        for one in calls[: calls.index(node)]
    )


def _is_call(node: Any, given: tuple[Any, Any]) -> bool:
    """Whether a call is on the very tensors and on equal values."""
    arguments = (node.arguments.args, node.arguments.kwargs)
    try:
        tree.assert_same_structure(arguments, given)
    except ValueError:
        return False
    return all(
        one is other
        or (isinstance(one, int | float | str | bytes) and one == other)
        for one, other in zip(
            tree.flatten(arguments), tree.flatten(given), strict=True
        )
    )


def rebuilt_graph(
    model: keras.Model,
    moved: set[int],
    traced: set[int],
    place: Callable[[Any], Any],
) -> Graph:
    """A model's graph with other operations in it.

    Calls in front of the replaced layers stay. Calls behind them are noted,
    without a trace: shapes and dtypes are the same. Only where there are masks
    are layers called, because a symbolic mask knows the graph that it was
    computed in.

    Args:
        model: The model, left as it is.
        moved: `moved_operations`.
        traced: Ids of those whose replacement has to be called.
        place: Maps one of the moved to the one in its place.
    """
    nodes = calls_of(model)
    in_place_of: dict[int, Tensor] = {}
    placed: dict[int, Any] = {}
    for node in nodes:
        if node.is_input or id(node.operation) not in moved:
            in_place_of.update((id(one), one) for one in node.outputs)
    renumbered: dict[int, dict[Any, int]] = {}
    with _nothing_noted_at(list(in_place_of.values())):
        for node in nodes:
            old = node.operation
            if node.is_input or id(old) not in moved:
                continue
            new = placed[id(old)] = place(old)
            args, kwargs = node.arguments.fill_in(in_place_of)
            if id(old) in traced or any(map(_has_mask, node.outputs)):
                outputs = tree.flatten(new(*args, **kwargs))
            else:
                outputs = [_same_spec(tensor) for tensor in node.outputs]
                Node(new, args, kwargs, outputs)
            in_place_of.update(zip(map(id, node.outputs), outputs, strict=True))
            renumbered.setdefault(id(old), {})[new._inbound_nodes[-1]] = (
                old._inbound_nodes.index(node)
            )
    for old, order in renumbered.items():
        _number_calls(placed[old], order)
    return [in_place_of[id(one)] for one in graph_of(model).outputs], placed


def _has_mask(tensor: Tensor) -> bool:
    return mask_of(tensor) is not None


def _number_calls(operation: Any, order: dict[Any, int]) -> None:
    """Put the last calls of an operation in another order.

    Keras (3.15) goes by the depth of the calls: of two calls that do not
    depend on each other the later one may come first. Left in that order,
    `get_layer(name).output` would be that of another call than before.
    """
    first = len(operation._inbound_nodes) - len(order)
    operation._inbound_nodes[first:] = sorted(order, key=order.__getitem__)
    for index, node in enumerate(operation._inbound_nodes):
        for number, tensor in enumerate(node.outputs):
            tensor._keras_history = KerasHistory(operation, index, number)


@contextlib.contextmanager
def _nothing_noted_at(tensors: list[Tensor]) -> Iterator[None]:
    """Let what computes these tensors know nothing of the calls behind them.

    Keras writes down in an operation which calls follow, and never reads it;
    they would keep each graph that was ever built on these tensors.
    """
    masks = [mask for one in tensors if (mask := mask_of(one)) is not None]
    notes = [
        tensor._keras_history.operation._outbound_nodes
        for tensor in (*tensors, *masks)
    ]
    counts = list(map(len, notes))
    try:
        yield
    finally:
        for noted, count in zip(notes, counts, strict=True):
            del noted[count:]


def _same_spec(tensor: Tensor) -> Tensor:
    """A new symbolic tensor like another one, without a mask."""
    return keras.KerasTensor(
        tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        ragged=tensor.ragged,
    )
