"""Rebuilding a model with other layers in the place of some of its own.

A model is rebuilt on its own inputs with its own layers: nothing is copied,
nothing is re-created.
"""

import contextlib
from collections.abc import Callable, Iterator

import keras
from keras import tree

from keras_actpen import backend, internals
from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.coefficients import Term
from keras_actpen.attach.layer_refs import is_graph_model, sites
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
        visit = _visitor(replacements)
        if not is_graph_model(model):
            _replace_in_place(model, visit)
            return model
        new = visit(model)
    if model.compiled and new is not model:
        internals.share_compile_state(model, new)
    return new


def _visitor(
    replacements: dict[int, Replacement],
) -> Callable[[Layer], Layer]:
    """Map each layer to what stands in its place in the new model."""
    memo: dict[int, Layer] = {}

    def visit(layer: Layer) -> Layer:
        if id(layer) not in memo:
            memo[id(layer)] = visited(layer)
        return memo[id(layer)]

    def visited(layer: Layer) -> Layer:
        inner = getattr(layer, "wrapped_layer", layer)
        if not isinstance(layer, PenalizedLayer):
            inner = layer
        rebuilt = inner
        if is_graph_model(inner) and any(
            id(site.layer) in replacements for site in sites(inner)
        ):
            rebuilt = _rebuild(inner, visit)
        if id(layer) in replacements:
            return replacements[id(layer)](rebuilt)
        if rebuilt is inner:
            return layer
        if isinstance(layer, PenalizedLayer):
            return wrapping(layer, layer.terms, layer.places[0])(rebuilt)
        return rebuilt

    return visit


def _rebuild(
    model: keras.Model, visit: Callable[[Layer], Layer]
) -> keras.Model:
    """The same graph of layers, each replaced by what `visit` returns."""
    if isinstance(model, keras.Sequential):
        layers = [visit(layer) for layer in model.layers]
        new = internals.sequential_like(model, [model.inputs[0], *layers])
        calls = internals.calls_in_order(new)
    else:
        outputs, calls = internals.rebuilt_outputs(model, visit)
        outputs = tree.pack_sequence_as(model.output, outputs)
        new = internals.functional_like(model, model.input, outputs)
    internals.carry_over(model, new, visit)
    internals.let_calls_go(calls)
    return new


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
