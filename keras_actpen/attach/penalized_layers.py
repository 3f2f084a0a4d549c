"""The penalized and the watched layers of a model."""

from typing import Any

import keras

from keras_actpen.attach.layer_refs import LayerRef, all_refs
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.select import select_among


def penalized_layers(model: keras.Model) -> dict[str, PenalizedLayer]:
    """Return the penalized and the watched layers by their paths.

    Coefficients can be read and set through them at any time:

    ```python
    penalized_layers(model)["dense_4"].coefficients["l2"] = 0.001
    ```

    The coefficients belong to this model: a model that is made from it starts
    with their current values, and setting them changes no other model. A key
    that is not a path is looked up as in `attach_penalty`.

    Args:
        model: Any `keras.Model`.

    Returns:
        Dictionary from path to `PenalizedLayer`, in model order.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
    """
    found = PenalizedLayers(model)
    for ref in all_refs(model):
        if is_attached(ref):
            found[ref.path] = ref.layer
    return found


class PenalizedLayers(dict[str, PenalizedLayer]):
    """The penalized and the watched layers of a model by their paths.

    A key that is not a path is looked up as in `attach_penalty`.
    """

    def __init__(self, model: keras.Model):
        super().__init__()
        self._model = model

    def __missing__(self, entry: Any) -> PenalizedLayer:
        """The layer that is called so."""
        attached = [ref for ref in all_refs(self._model) if is_attached(ref)]
        try:
            found = select_among(self._model, entry, attached)
        except (TypeError, ValueError) as error:
            raise KeyError(str(error)) from None
        found = [ref for ref in found if is_attached(ref)]
        if len(found) != 1:
            which = f"{len(found)} match" if found else "none matches"
            raise KeyError(
                f"Expected one of the penalized or watched layers {list(self)}"
                f". Received: {entry!r}, of which {which}"
            )
        return self[found[0].path]


def is_attached(ref: LayerRef) -> bool:
    """Whether a layer is penalized or watched itself."""
    return isinstance(ref.layer, PenalizedLayer) and bool(
        ref.layer.actpen.specs
    )
