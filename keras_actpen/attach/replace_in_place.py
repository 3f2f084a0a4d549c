"""Replacing layers of a subclassed model, whose graph is its own code."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_actpen import backend, internals
from keras_actpen.attach.held_layers import is_graph_model
from keras_actpen.attach.inner_specs import Arguments, known_arguments
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import recording

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
        _try_out_model(model, [new for *_, new in changes])
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


class _Called:
    """Notes which penalized layers are called."""

    def __init__(self):
        self.layers: set[int] = set()

    def record(self, layer: Any, *_: Any) -> None:
        """Take note of a call."""
        self.layers.add(id(layer))

    def record_weights(self, *_: Any) -> None:
        """Weights are there whoever is called."""

    def asked(self, layer: Any) -> None:
        """Nothing depends on who asks."""


def _try_out_model(model: keras.Model, layers: list[Layer]) -> None:
    """Trace a model to see whether its code finds the layers put into it.

    Not on torch, which runs what it cannot trace: that may change the model.

    Raises:
        ValueError: If it calls one by another object alone.
    """
    if backend.traces_twice():
        return
    wrappers = [
        one
        for one in layers
        if isinstance(one, PenalizedLayer) and one.actpen.of_calls
    ]
    arguments = known_arguments(model)
    if arguments is None or not wrappers:
        return
    called = _Called()
    attachments = [
        one.actpen
        for wrapper in wrappers
        for one in (wrapper, *wrapper.actpen.inner.values())
    ]
    units = [dict(one.spec_units) for one in attachments]
    with recording(called):
        _traced(model, arguments, 83)
    for one, before in zip(attachments, units, strict=True):
        # Other calls may have others.
        one.spec_units = before
    missing = [one for one in wrappers if id(one) not in called.layers]
    gone_round: list[PenalizedLayer] = []

    def caller(wrapper: PenalizedLayer) -> internals.Caller:
        def call(
            method: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
        ) -> Any:
            gone_round.append(wrapper)
            return method(*args, **kwargs)

        return call

    if missing:
        seen = [(one.wrapped_layer, caller(one)) for one in missing]
        with internals.inner_calls_made_by(seen):
            _traced(model, arguments, 89)
    if gone_round:
        (wrapper, *_) = gone_round
        raise ValueError(
            "Invalid value received for argument `layers`. Expected a layer "
            "that the code of the model calls by the attribute that holds it. "
            f"Received: layer {wrapper.name!r}, which model {model.name!r} "
            "calls by another object, such as a function or a "
            "`keras.remat(layer)` that was made in `__init__`, or a layer "
            "that holds it too. Make it in `call`, of the attribute, or name "
            "the layer by the path of the one that calls it."
        )


def _traced(model: keras.Model, arguments: Arguments, samples: int) -> None:
    """Trace a model for so many samples.

    A `tf.function` of the user's own, and JAX, keep traces by sizes: of this
    one there is none yet, and `fit` needs none.
    """

    def resized(tensor: Any) -> Any:
        if not isinstance(tensor, keras.KerasTensor) or not tensor.shape:
            return tensor
        return keras.KerasTensor((samples, *tensor.shape[1:]), tensor.dtype)

    # What is wrong its first call will tell.
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        args, kwargs = keras.tree.map_structure(resized, arguments)
        internals.traced_spec(model, args, kwargs)
