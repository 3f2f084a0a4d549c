"""Telling a function of the user's which units of each layer are dead."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.penalties.validation import invalid_type, invalid_value
from keras_actpen.statistics.snapshot import Snapshots

OnDeadUnits: TypeAlias = Callable[[PenalizedLayer, np.ndarray], Any]


def check_hook(given: Any) -> OnDeadUnits | None:
    """Return `given` if it is a function or `None`.

    Raises:
        TypeError: If it is neither.
    """
    if given is None or callable(given):
        return given
    raise invalid_type(
        "on_dead_units", "a function f(layer, mask), or None", given
    )


def check_is_called(
    on_dead_units: OnDeadUnits | None, layers: Mapping[str, PenalizedLayer]
) -> None:
    """Refuse a function that would never be called.

    Raises:
        ValueError: If all layers are looked at elsewhere.
    """
    places = [one.on for it in layers.values() for one in it.actpen.specs]
    if on_dead_units is not None and "output" not in places:
        raise invalid_value(
            "on_dead_units",
            "a layer whose output is penalized or watched; "
            "`attach_penalty(model, layer, l2=0.0)` adds one",
            f"layers looked at: {', '.join(map(repr, dict.fromkeys(places)))}",
        )


def tell_dead_units(
    on_dead_units: OnDeadUnits,
    layers: Mapping[str, PenalizedLayer],
    snapshots: Snapshots,
) -> None:
    """Call the function for each layer whose units have been followed.

    Args:
        on_dead_units: The function.
        layers: The layers by path.
        snapshots: What was seen of them, judged by the window.
    """
    for (path, spec), seen in snapshots.items():
        if spec.on == "output" and seen.dead_units is not None:
            on_dead_units(layers[path], seen.dead_units)
