"""Replacing layers of a subclassed model, whose graph is its own code."""

import contextlib
from collections.abc import Callable, Iterator

import keras

from keras_actpen import internals
from keras_actpen.attach.held_layers import is_graph_model
from keras_actpen.attach.inner_specs import known_arguments
from keras_actpen.attach.penalized_layer import PenalizedLayer

Layer = keras.layers.Layer
# Owner, old layer and new layer.
Change = tuple[keras.Model, Layer, Layer]


def replace_in_place(
    model: keras.Model, visit: Callable[[Layer], Layer]
) -> None:
    """Replace layers of a model; all of them or, on an error, none.

    Args:
        model: The model that is changed.
        visit: Maps a layer to the one in its place.
    """
    changes = list(_changes(model, visit, {}))
    for _, _, new in changes:
        if isinstance(new, PenalizedLayer):
            _try_out(new)
    with contextlib.ExitStack() as undo:
        for owner, old, new in changes:
            # Before the change, which may be interrupted half-way.
            undo.callback(internals.replace_sublayer, owner, new, old)
            internals.replace_sublayer(owner, old, new)
        undo.pop_all()
    model.train_function = None
    model.test_function = None
    model.predict_function = None


def _changes(
    model: keras.Model,
    visit: Callable[[Layer], Layer],
    seen: dict[int, keras.Model],
) -> Iterator[Change]:
    if id(model) in seen:
        return  # a sub-model that holds its parent as an attribute
    seen[id(model)] = model
    for layer in model.layers:
        if isinstance(layer, keras.Model) and not is_graph_model(layer):
            yield from _changes(layer, visit, seen)
        new = visit(layer)
        if new is not layer:
            yield model, layer, new


def _try_out(wrapper: PenalizedLayer) -> None:
    """Trace a wrapper on inputs of the shapes that its layer was built with.

    Nothing calls it on symbolic tensors, and its errors should come when the
    penalty is attached.
    """
    layer = wrapper.wrapped_layer
    arguments = known_arguments(layer)
    if arguments is None:
        return
    args, kwargs = arguments
    try:
        layer.compute_output_spec(*args, **kwargs)
    except Exception:  # not how the model calls it: its first call will tell
        return
    wrapper.compute_output_spec(*args, **kwargs)
