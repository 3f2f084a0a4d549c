"""Who reads the losses of a model while a step runs."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_actpen.internals.attributes import attribute_in_front


class _NotedList(list[Any]):
    """A list that knows whether its elements were looked at."""

    was_read = False

    def __iter__(self) -> Iterator[Any]:
        self.was_read = True
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        self.was_read = True
        return super().__getitem__(index)


@contextlib.contextmanager
def compute_loss_watched(model: keras.Model) -> Iterator[Callable[[], bool]]:
    """See whether `compute_loss` passes over losses that it is handed.

    Keras's JAX trainer asks the layers for their losses whatever becomes of
    them, and hands them to `compute_loss` as `_losses_override` (Keras 3.15,
    `backend/jax/trainer.py`). No public hook lies in between.

    Returns:
        A function that tells, after the step, whether losses that were there
        have not been read.
    """
    plain = model.compute_loss
    passed_over = []

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        if not model._losses_override:
            return plain(*args, **kwargs)
        losses = _NotedList(model._losses_override)
        with attribute_in_front(model, "_losses_override", losses):
            result = plain(*args, **kwargs)
        passed_over.append(not losses.was_read)
        return result

    with attribute_in_front(model, "compute_loss", compute_loss):
        yield lambda: any(passed_over)
