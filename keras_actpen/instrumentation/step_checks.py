"""What a step does with its penalties: whether they are called, and used."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import keras

from keras_actpen import internals
from keras_actpen.attach import recording
from keras_actpen.attach.frozen import frozen_layers
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key
from keras_actpen.internals.attributes import attribute_in_front


class StepChecks:
    """What the recorded steps of a model have shown, where they are traced.

    Args:
        model: The model.
        layers: Its penalized and watched layers by path.

    Attributes:
        unused: By phase the paths of layers whose penalty the step computed
            or could have, and that no `train_step` or `compute_loss` asked
            for: it is not in the loss.
        frozen: Paths of layers in front of whose penalty nothing was
            trainable when the training began.
    """

    def __init__(
        self, model: keras.Model, layers: Mapping[str, PenalizedLayer]
    ):
        self.model = model
        self.layers = layers
        self.unused: dict[str, set[str]] = {"train": set(), "test": set()}
        self.frozen: list[str] = []
        # What the training steps that called the model have called of it.
        self._called: set[str] | None = None
        # Replicas are traced in threads, in turns: what the first of them puts
        # in front of the model stays until the last one is done.
        self._running = 0
        self._in_front = contextlib.ExitStack()
        self._passes_over: Callable[[], bool] = bool

    def look_for_frozen(self) -> None:
        """See what is trainable, when a training begins."""
        penalized = {
            p: one for p, one in self.layers.items() if one.actpen.terms
        }
        self.frozen = frozen_layers(self.model, penalized)

    def facts(self) -> dict[str, Collection[str]]:
        """What one step shows: paths of layers by the kind of finding."""
        return {"unused": self.unused["train"], "frozen": self.frozen}

    def facts_of_epoch(self) -> dict[str, Collection[str]]:
        """What the steps of an epoch show, as `facts`.

        A step that bypasses a layer shows nothing: the next one may call it.
        """
        called = self.layers if self._called is None else self._called
        not_called = [
            path
            for path, layer in self.layers.items()
            if path not in called and layer.actpen.of_calls
        ]
        return {**self.facts(), "not_called": not_called}

    def unused_keys(self, phase: str) -> set[str]:
        """Keys in `logs` of the terms that are not in the loss of a phase."""
        return {
            log_key(path, name)
            for path in self.unused[phase]
            for name in self.layers[path].actpen.terms
        }

    @contextlib.contextmanager
    def watching(self, recorder: Any) -> Iterator[None]:
        """Check the step that is traced or run in this block.

        Args:
            recorder: Its `TermRecorder`.
        """
        self._enter()
        try:
            yield
        finally:
            passes_over = self._exit()
        called = recorder.called_layers
        asked = set() if passes_over else recorder.asked_layers
        self.unused[recorder.phase] = {
            path
            for path, layer in self.layers.items()
            if layer.actpen.terms and id(layer) in called - asked
        }
        if recorder.model_called and recorder.phase == "train":
            self._called = self._called or set()
            self._called |= {
                path
                for path, layer in self.layers.items()
                if id(layer) in called
            }

    def _enter(self) -> None:
        self._running += 1
        if self._running > 1:
            return
        plain = self.model.call

        def call(*args: Any, **kwargs: Any) -> Any:
            recorder = recording.current()
            if recorder is None:
                return plain(*args, **kwargs)
            with recorder.calling_model():
                return plain(*args, **kwargs)

        enter = self._in_front.enter_context
        enter(attribute_in_front(self.model, "call", call))
        self._passes_over = enter(internals.compute_loss_watched(self.model))

    def _exit(self) -> bool:
        """Whether `compute_loss` passed over losses that it was handed."""
        self._running -= 1
        if not self._running:
            self._in_front.close()
        return self._passes_over()
