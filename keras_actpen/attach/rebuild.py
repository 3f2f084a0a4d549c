"""Rebuilding a model with other layers in the place of some of its own.

A model is rebuilt on its own inputs with its own layers: nothing is copied,
nothing is re-created.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree

from keras_actpen import backend, internals
from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.coefficients import Term
from keras_actpen.attach.layer_refs import is_graph_model, unwrapped
from keras_actpen.attach.penalized_layer import PenalizedLayer

Layer = keras.layers.Layer
# What takes a layer's place, made from the layer after its own rebuilding.
Replacement = Callable[[Layer], Layer]


def wrapping(
    layer: Layer, terms: dict[str, Term], place: ActivationSpec
) -> Replacement:
    """What makes the wrapper of a layer that is plain or wrapped already."""
    coefficients = dict(getattr(layer, "coefficients", {}))
    if isinstance(layer, PenalizedLayer):
        place = layer.places[0]

    def wrap(inner: Layer) -> PenalizedLayer:
        wrapper = PenalizedLayer(inner, terms, on=place.on, output=place.output)
        for name, value in coefficients.items():
            if value != wrapper.coefficients[name]:
                wrapper.coefficients[name] = value
        return wrapper

    return wrap


def replace_layers(
    model: keras.Model, replacements: dict[int, Replacement]
) -> keras.Model:
    """Put other layers in the place of some layers of a model.

    Args:
        model: The model, left as it is unless it is subclassed.
        replacements: By the id of a layer, what makes its replacement from
            the (unwrapped, rebuilt) layer.
    """
    with backend.strategy_scope(model), _plain_errors():
        rebuilding = _Rebuilding(model, replacements)
        if not is_graph_model(model):
            _replace_in_place(model, rebuilding.visit)
            return model
        new = rebuilding.visit(model)
    if model.compiled and new is not model:
        internals.share_compile_state(model, new)
    return new


class _Rebuilding:
    """Maps each layer to what stands in its place in the new model."""

    def __init__(
        self, model: keras.Model, replacements: dict[int, Replacement]
    ):
        self.model = model
        self.replacements = replacements
        self.moved = internals.moved_operations(
            list(_graphs(model, None)), set(replacements)
        )
        # Layers inside of others stay: files have each object in one place.
        self._held = {
            id(inner)
            for graph, _ in _graphs(model, None)
            for layer in graph.layers
            if not is_graph_model(unwrapped(layer))
            for inner in layer._flatten_layers(include_self=False)
        }
        self._visited: dict[int, Layer] = {}
        self._placed: dict[int, Any] = {}

    def visit(self, layer: Layer) -> Layer:
        """The layer with its penalty or without, graphs rebuilt."""
        if id(layer) not in self._visited:
            self._visited[id(layer)] = self._visit(layer)
        return self._visited[id(layer)]

    def _visit(self, layer: Layer) -> Layer:
        inner = unwrapped(layer)
        rebuilt = inner
        if is_graph_model(inner) and any(
            id(one) in self.moved for one in inner.layers
        ):
            rebuilt = self._rebuild(inner)
        if id(layer) in self.replacements:
            return self.replacements[id(layer)](rebuilt)
        if isinstance(layer, PenalizedLayer) and id(layer) in self.moved:
            return wrapping(layer, layer.terms, layer.places[0])(rebuilt)
        return layer if rebuilt is inner else rebuilt

    def place(self, operation: Any) -> Any:
        """What has calls of its own in the new graph."""
        if id(operation) not in self._placed:
            new = operation
            if isinstance(operation, Layer):
                new = self.visit(operation)
            root = unwrapped(new)
            if not isinstance(new, PenalizedLayer):
                new = root
                if root._inbound_nodes and id(root) not in self._held:
                    new = internals.plain_twin(root)
            self._placed[id(operation)] = new
        return self._placed[id(operation)]

    def _rebuild(self, model: keras.Model) -> keras.Model:
        """The same graph of layers, each replaced by what `visit` returns."""
        graph = getattr(model, "_functional", model)
        plain = _plain_models.get(model)
        found = internals.plain_outputs(graph, self.moved, self._visit_any)
        if found is None:
            found = internals.rebuilt_outputs(graph, self.moved, self.place)
        outputs, placed = found
        if plain is not None and _all_same(outputs, plain.outputs):
            return plain  # the penalties inside are taken off
        outputs = tree.pack_sequence_as(graph.output, outputs)

        def placed_at(layer: Layer) -> Layer:
            if id(layer) in placed:
                return placed[id(layer)]
            return self.visit(layer)

        if isinstance(model, keras.Sequential):
            new = internals.sequential_like(
                model,
                [placed_at(one) for one in model._layers],
                graph.input,
                outputs,
            )
        else:
            new = internals.functional_like(model, graph.input, outputs)
        internals.carry_over(model, new, placed_at)
        if model is not self.model:
            _plain_models[new] = model if plain is None else plain
        return new

    def _visit_any(self, operation: Any) -> Any:
        return (
            self.visit(operation) if isinstance(operation, Layer) else operation
        )


def _all_same(one: list[Any], other: list[Any]) -> bool:
    return all(a is b for a, b in zip(one, other, strict=True))


# Nested models without the penalties that are in their place in other models.
_plain_models: "weakref.WeakKeyDictionary[keras.Model, keras.Model]" = (
    weakref.WeakKeyDictionary()
)


def _graphs(
    model: keras.Model, outer: Any
) -> Iterator[tuple[keras.Model, Any]]:
    """Graph models in a model, each with the layer that it is there."""
    inner = unwrapped(model)
    if is_graph_model(inner):
        yield inner, outer
    for layer in inner.layers:
        if isinstance(unwrapped(layer), keras.Model):
            yield from _graphs(layer, layer)


def _replace_in_place(
    model: keras.Model, visit: Callable[[Layer], Layer]
) -> None:
    """Replace layers of a subclassed model, whose graph is its own code."""
    changes = list(_changes_in_place(model, visit))
    # Nothing is changed before everything has been tried.
    for _, _, new in changes:
        if isinstance(new, PenalizedLayer):
            _try_out(new)
    for owner, old, new in changes:
        internals.replace_sublayer(owner, old, new)
    model.train_function = None
    model.test_function = None
    model.predict_function = None


def _changes_in_place(
    model: keras.Model, visit: Callable[[Layer], Layer]
) -> Iterator[tuple[keras.Model, Layer, Layer]]:
    """Yield owner, old layer and new layer."""
    for layer in model.layers:
        if isinstance(layer, keras.Model) and not is_graph_model(layer):
            yield from _changes_in_place(layer, visit)
        new = visit(layer)
        if new is not layer:
            yield model, layer, new


def _try_out(wrapper: PenalizedLayer) -> None:
    """Trace a wrapper on inputs of the shapes that its layer was built with.

    Nothing calls it on symbolic tensors, and its errors should come when the
    penalty is attached.
    """
    layer = wrapper.wrapped_layer
    config = layer.get_build_config()
    if config is None:
        return
    shapes = config.get("shapes_dict", {"inputs": config.get("input_shape")})
    args = [
        tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, layer.compute_dtype), one
        )
        for one in shapes.values()
    ]
    try:
        layer.compute_output_spec(*args)
    except Exception:  # not how the model calls it: its first call will tell
        return
    wrapper.compute_output_spec(*args)


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
