"""Seeing the calls of layers that another layer makes in its own call."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_actpen.internals.layers import is_rematerialized

# Makes a call, given the method that computes it and its arguments.
Caller = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]

_METHODS = ("call", "quantized_call", "rematerialized_call")
_MISSING = object()


class _Running(threading.local):
    """Who makes the calls of layers in the running thread."""

    def __init__(self):
        self.callers: dict[int, list[Caller]] = {}
        self.within: set[int] = set()


_running = _Running()
# How many blocks, in whatever thread, see a layer, and what stood in front of
# its methods. Replicas of a tf.distribute strategy run in threads, in turns.
_counts: dict[int, int] = {}
_before: dict[int, dict[str, Any]] = {}


@contextlib.contextmanager
def inner_calls_made_by(
    callers: Sequence[tuple[keras.layers.Layer, Caller]],
) -> Iterator[None]:
    """Let others make the calls of some layers that this thread runs.

    Keras has no hook for them. `Layer.__call__` is looked up on the class; but
    it, and TimeDistributed, find `call` on the layer.
    """
    for layer, caller in callers:
        _put_in_front(layer)
        _running.callers.setdefault(id(layer), []).append(caller)
    try:
        yield
    finally:
        for layer, _ in callers:
            _running.callers[id(layer)].pop()
            if not _running.callers[id(layer)]:
                del _running.callers[id(layer)]
            _take_away(layer)


def _put_in_front(layer: keras.layers.Layer) -> None:
    count = _counts.get(id(layer), 0)
    _counts[id(layer)] = count + 1
    if count:
        return
    attributes = vars(layer)
    _before[id(layer)] = {
        name: attributes.get(name, _MISSING) for name in _METHODS
    }
    # Not setattr, which would track the functions as state of the layer.
    attributes["call"] = _seen(layer, layer.call)
    if getattr(layer, "quantization_mode", None) is not None:
        attributes["quantized_call"] = _seen(layer, layer.quantized_call)
    if is_rematerialized(layer):
        # Around it: what is computed in it is computed a second time.
        attributes["rematerialized_call"] = _seen_outside(
            layer, layer.rematerialized_call
        )


def _take_away(layer: keras.layers.Layer) -> None:
    _counts[id(layer)] -= 1
    if _counts[id(layer)]:
        return
    del _counts[id(layer)]
    attributes = vars(layer)
    for name, value in _before.pop(id(layer)).items():
        if value is _MISSING:
            attributes.pop(name, None)
        else:
            attributes[name] = value


def _seen(
    layer: keras.layers.Layer, method: Callable[..., Any]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        callers = _running.callers.get(id(layer))
        if not callers or id(layer) in _running.within:
            return method(*args, **kwargs)
        _running.within.add(id(layer))
        try:
            return callers[-1](method, args, kwargs)
        finally:
            _running.within.discard(id(layer))

    # All that signatures are read from; `functools.wraps` would copy more, at
    # each call of the layer around.
    call.__wrapped__ = method
    return call


def _seen_outside(
    layer: keras.layers.Layer, rematerialized: Callable[..., Any]
) -> Callable[..., Any]:
    def rematerialized_call(method: Any, *args: Any, **kwargs: Any) -> Any:
        return _seen(layer, rematerialized(method, *args, **kwargs))

    return rematerialized_call
