"""Telling a function of the user's which units of each layer are dead."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.penalties.validation import invalid_type
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
