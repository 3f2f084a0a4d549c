"""Recorders, which see the activations and terms of a forward pass."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from keras_actpen import backend
from keras_actpen.backend.tensors import MaskedTensors, Tensor


class Recorder(Protocol):
    """Receives what every penalized layer computed in one forward pass."""

    def record(
        self,
        layer: Any,
        watched: dict[Any, MaskedTensors],
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take one call of one layer.

        Args:
            layer: The `PenalizedLayer` that was called.
            watched: For each watched place of the layer the list of its
                `(activations, mask)`.
            terms: Returns for each term its coefficient times its value, a
                scalar; what the loss has, if it has been asked for before.
        """

    def record_weights(
        self,
        layer: Any,
        watched: dict[Any, MaskedTensors],
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take the weights of one layer, whenever its losses are asked for.

        Args:
            layer: The `PenalizedLayer`.
            watched: As in `record`, of weights; each as a batch of one.
            terms: As in `record`.
        """

    def asked(self, layer: Any) -> None:
        """Take note that somebody asks for the losses of a layer.

        Args:
            layer: The `PenalizedLayer`, as it was handed to `record`.
        """


# Replicas of a tf.distribute strategy are traced in threads of their own.
_local = threading.local()


def current() -> Recorder | None:
    """The recorder of the running forward pass, or None."""
    return getattr(_local, "recorder", None)


def note_asked(layer: Any) -> None:
    """Tell the recorder that somebody asks for the losses of a layer."""
    recorder = current()
    if recorder is not None:
        recorder.asked(layer)


@contextlib.contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Tell `recorder` of every penalized layer called in this block."""
    previous = current()
    _local.recorder = recorder
    try:
        yield
    finally:
        _local.recorder = previous


class ValueRecorder:
    """Keeps the value of every term, summed over the calls of a layer."""

    def __init__(self):
        self.values: dict[int, dict[str, Tensor]] = {}
        self._trace = backend.running_trace()

    def record(
        self,
        layer: Any,
        watched: dict[Any, MaskedTensors],
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take one call of one layer."""
        if backend.running_trace() != self._trace:
            raise out_of_reach(layer)
        new = terms()
        values = self.values.setdefault(id(layer), dict.fromkeys(new, 0.0))
        for name, value in new.items():
            values[name] = values[name] + value

    def record_weights(
        self,
        layer: Any,
        watched: dict[Any, MaskedTensors],
        terms: Callable[[], dict[str, Tensor]],
    ) -> None:
        """Take the weights of one layer, once."""
        values = self.values.setdefault(id(layer), {})
        values |= terms()

    def asked(self, layer: Any) -> None:
        """Nothing depends on who asks."""


def out_of_reach(layer: Any) -> ValueError:
    """The error of a layer that is called where nothing can leave the call."""
    return ValueError(
        "Invalid value received for argument `layers`. Expected a layer whose "
        f"activations leave the code that calls it. Received: layer "
        f"{layer.name!r}, which is called inside of a function that lets out "
        "only what it returns: that of `ops.cond`, `ops.map`, `ops.scan`, "
        "`ops.while_loop`, `ops.vectorized_map`, `keras.remat`, "
        "`jax.checkpoint` or a `tf.function`, such as one around `call`. Call "
        "the layer outside of that function, or penalize one that is called "
        "outside of it."
    )


def log_key(path: str, term: str) -> str:
    """Key of a term in `logs`, and its tag in TensorBoard."""
    return f"penalty/{path}/{term}"
