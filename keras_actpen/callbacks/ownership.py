"""Which callback moves a coefficient, and from which step on."""

import weakref
from collections.abc import Sequence

import keras

from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.callbacks.term_refs import TermRef

# The callbacks that move a term, and their first steps. Weak: they hold the
# model, and an interrupted training releases nothing.
_Owners = dict[str, "weakref.WeakKeyDictionary[keras.callbacks.Callback, int]"]
_owners: "weakref.WeakKeyDictionary[PenalizedLayer, _Owners]" = (
    weakref.WeakKeyDictionary()
)


def claim(ref: TermRef, callback: keras.callbacks.Callback, start: int) -> None:
    """Let a callback move a coefficient from a step on.

    Args:
        ref: The term.
        callback: Who moves it, until `release` or another training.
        start: Batches that the optimizer has seen when it begins.

    Raises:
        ValueError: If another callback of the same training begins at the
            same step, or is of the same kind.
    """
    owners = _owners.setdefault(ref.layer, {}).setdefault(
        ref.name, weakref.WeakKeyDictionary()
    )
    for other in list(owners):
        # Keras gives all callbacks of one `fit` the same dictionary: others
        # are left from a training that was interrupted.
        if other.params is not callback.params:
            del owners[other]
    for other, others_start in owners.items():
        alike = isinstance(other, type(callback))
        if other is not callback and (alike or others_start == start):
            kinds = sorted([type(other).__name__, type(callback).__name__])
            advice = "leave one of them out"
            if kinds[0] != kinds[1]:
                advice = (
                    "to hand the coefficient from one to the other, give the "
                    "controller the step from which on it is its own: "
                    f"TargetController({ref.key!r}, ..., start=1000)"
                )
            raise ValueError(
                "Invalid value received for argument `callbacks`. Expected "
                "one callback that moves the coefficient of a term; "
                f"{advice}. Received: {kinds[0]} and {kinds[1]} for the term "
                f"{ref.key!r}"
            )
    owners[callback] = start


def owns(ref: TermRef, callback: keras.callbacks.Callback, step: int) -> bool:
    """Whether this callback moves a coefficient at a step."""
    owners = _owners.get(ref.layer, {}).get(ref.name, {})
    started = [start for start in owners.values() if start <= step]
    return callback in owners and owners[callback] == max(started, default=-1)


def is_moved(layer: PenalizedLayer) -> bool:
    """Whether a callback moves a coefficient of a layer."""
    return any(_owners.get(layer, {}).values())


def release(
    refs: Sequence[TermRef], callback: keras.callbacks.Callback
) -> None:
    """Let a callback stop moving coefficients."""
    for ref in refs:
        _owners.get(ref.layer, {}).get(ref.name, {}).pop(callback, None)
