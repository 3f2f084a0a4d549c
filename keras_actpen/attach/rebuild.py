"""Rebuilding a model with other layers in the place of some of its own.

A model is rebuilt on its own inputs with its own layers and twins of them:
nothing is copied, nothing is re-created.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from keras_actpen import backend, internals
from keras_actpen.attach.held_layers import (
    attribute_layers,
    is_graph_model,
    unwrapped,
)
from keras_actpen.attach.layer_refs import LayerRef
from keras_actpen.attach.penalized_layer import (
    PenalizedLayer,
    penalized,
    plan_of,
)
from keras_actpen.attach.plan import Plan
from keras_actpen.attach.replace_in_place import replace_in_place

Layer = keras.layers.Layer


class Plans:
    """What the layers of a model are to have attached.

    Attributes:
        by_layer: By the ids of the layers of the model itself.
    """

    def __init__(self):
        self.by_layer: dict[int, Plan] = {}

    def _of_model(self, ref: LayerRef) -> Plan:
        if ref.inner is not None and isinstance(
            ref.inner.layer, PenalizedLayer
        ):
            raise ValueError(
                "Invalid value received for argument `layers`. Expected layers "
                "whose penalties were attached to the model. Received: "
                f"{ref.path!r}, which layer {ref.host.path!r} penalizes by "
                "itself; change its code, or the coefficients in "
                f"`penalized_layers(model)[{ref.path!r}]`"
            )
        layer = (ref.host or ref).layer
        if id(layer) not in self.by_layer:
            self.by_layer[id(layer)] = plan_of(layer)
        return self.by_layer[id(layer)]

    def at(self, ref: LayerRef) -> Plan:
        """What a layer is to have attached, to be written."""
        plan = self._of_model(ref)
        if ref.inner is None:
            return plan
        return plan.inner.setdefault(ref.inner.path, Plan())

    def remove(self, ref: LayerRef) -> None:
        """Take off what a layer has attached."""
        plan = self._of_model(ref)
        if ref.inner is not None:
            del plan.inner[ref.inner.path]
        else:
            self.by_layer[id(ref.layer)] = Plan(inner=plan.inner)


def replace_layers(model: keras.Model, plans: dict[int, Plan]) -> keras.Model:
    """Penalize some layers of a model, or make them plain again.

    Args:
        model: The model, left as it is unless it is subclassed.
        plans: By the id of a layer, what it is to have attached.
    """
    with backend.strategy_scope(model), _plain_errors():
        rebuilding = _Rebuilding(model, plans.by_layer)
        if is_graph_model(model):
            new = rebuilding.visit(model)
        else:
            replace_in_place(model, rebuilding.visit)
            new = model
    internals.pickle_with_import(new)
    if model.compiled and new is not model:
        internals.share_compile_state(model, new)
    return new


class _Rebuilding:
    """Maps each layer to what stands in its place in the new model."""

    def __init__(self, model: keras.Model, plans: dict[int, Plan]):
        self._model = model
        self._plans = plans
        graphs = list(_graphs(model, None))
        replaced = set(plans)
        if is_graph_model(model):
            # Coefficients are each model's own.
            replaced |= {
                id(layer)
                for graph, _ in graphs
                for layer in graph.layers
                if isinstance(layer, PenalizedLayer)
            }
        self._moved = internals.moved_operations(graphs, replaced)
        # Layers inside of others stay: files have each object in one place.
        self._held = {
            id(inner)
            for graph, _ in graphs
            for layer in graph.layers
            if not is_graph_model(unwrapped(layer))
            for inner in internals.inner_layers(layer)
        }
        self._visited: dict[int, Layer] = {}
        self._placed: dict[int, Any] = {}

    def visit(self, layer: Layer) -> Layer:
        """The layer with its penalty or without, graphs rebuilt."""
        if id(layer) not in self._visited:
            self._visited[id(layer)] = self._visit(layer)
        return self._visited[id(layer)]

    def _visit(self, layer: Layer) -> Layer:
        inner = rebuilt = unwrapped(layer)
        if is_graph_model(inner) and any(
            id(one) in self._moved for one in inner.layers
        ):
            rebuilt = self._rebuild(inner)
        if id(layer) in self._plans:
            return penalized(rebuilt, self._plans[id(layer)])
        if isinstance(layer, PenalizedLayer) and id(layer) in self._moved:
            return penalized(rebuilt, plan_of(layer))
        return layer if rebuilt is inner else rebuilt

    def _operation(self, operation: Any) -> Any:
        """The same for operations that are not layers."""
        return (
            self.visit(operation) if isinstance(operation, Layer) else operation
        )

    def _place(self, operation: Any) -> Any:
        """What has calls of its own in the new graph."""
        if id(operation) not in self._placed:
            new = self._operation(operation)
            if not isinstance(new, PenalizedLayer):
                new = unwrapped(new)
                if internals.has_calls(new) and id(new) not in self._held:
                    new = internals.plain_twin(new)
            self._placed[id(operation)] = new
        return self._placed[id(operation)]

    def _rebuild(self, model: keras.Model) -> keras.Model:
        """The same graph of layers, each replaced by what `visit` returns."""
        graph = internals.original_graph(model, self._moved, self._operation)
        if graph is None:
            graph = internals.rebuilt_graph(
                model, self._moved, set(self._plans), self._place
            )
        flat, placed = graph
        original = internals.original_of(model)
        if model is not original and internals.has_outputs(original, flat):
            return original  # the penalties inside are taken off

        def placed_at(layer: Layer) -> Layer:
            if id(layer) in placed:
                return placed[id(layer)]
            return self.visit(layer)

        cls = type(original)
        if model is not unwrapped(self._model):
            cls = internals.rebuilt_model_class(model)
        inputs = internals.graph_of(model).input
        outputs = internals.graph_of(model).output
        outputs = tree.pack_sequence_as(outputs, flat)
        if isinstance(model, keras.Sequential):
            new = internals.sequential_like(
                model, cls, placed_at, inputs, outputs
            )
        else:
            new = internals.functional_like(model, cls, inputs, outputs)
        internals.carry_over(model, new, placed_at)
        return new


def _graphs(
    model: keras.Model, outer: Any, seen: set[int] | None = None
) -> Iterator[tuple[keras.Model, Any]]:
    """Graph models in a model, each with the layer that it is there."""
    seen = set() if seen is None else seen
    if id(model) in seen:
        return  # a model that holds the one around it
    seen.add(id(model))
    inner = unwrapped(model)
    if is_graph_model(inner):
        yield inner, outer
    # Models in attributes may have layers of the graph in theirs.
    for layer in (*inner.layers, *attribute_layers(inner)):
        if isinstance(unwrapped(layer), keras.Model):
            yield from _graphs(layer, layer, seen)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Let errors of penalties through without Keras's wrapping of them."""
    filtering = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if filtering:
            keras.config.enable_traceback_filtering()
