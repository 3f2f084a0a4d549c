"""Which layers of a model suit a penalty."""

from typing import Any

import keras

from keras_actpen.penalties.base import Penalty
from keras_actpen.places import Place, tensors_at
from keras_actpen.selection_errors import listed
from keras_actpen.sites import Site, sites, unwrapped


def check_suits(
    penalty: Penalty, place: Place, site: Site, model: keras.Model
) -> None:
    """Refuse a layer whose output cannot suit a penalty.

    Layers that were never called on symbolic tensors, as those of subclassed
    models, are checked when their wrapper is traced.

    Raises:
        ValueError: If it cannot; the message names the layers that suit.
    """
    try:
        _check(penalty, place, site)
    except ValueError as error:
        suited = [
            other.path
            for other in sites(model)
            if _suits(penalty, place, other)
        ]
        advice = (
            f"Layers of model {model.name!r} that suit: {listed(suited)}."
            if suited
            else f"No layer of model {model.name!r} suits."
        )
        raise ValueError(f"{error} (layer {site.path!r}). {advice}") from None


def _check(penalty: Penalty, place: Place, site: Site) -> None:
    layer = unwrapped(site.layer)
    output = _symbolic_output(site.layer)
    if output is None:
        return
    activation = getattr(layer, "activation", None)
    for tensor, _ in tensors_at(place, layer, output, _first(output)):
        penalty.check_target(tensor, activation, place.on)


def _suits(penalty: Penalty, place: Place, site: Site) -> bool:
    if _symbolic_output(site.layer) is None:
        return False
    if place.on == "preactivation" and not hasattr(
        unwrapped(site.layer), "activation"
    ):
        return False
    try:
        _check(penalty, place, site)
    except ValueError:
        return False
    return True


def _symbolic_output(layer: keras.layers.Layer) -> Any:
    """Output of a layer's first symbolic call, None if there was none."""
    try:
        return layer.output
    except (AttributeError, ValueError):
        return None


def _first(output: Any) -> Any:
    """The symbolic pre-activation: an activation keeps the shape."""
    return keras.tree.flatten(output)[0]
