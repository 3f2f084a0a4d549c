"""Padding masks that are arguments of a call, as KerasHub passes them."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_actpen.backend.tensors import MaskedTensors, Tensor

# What KerasHub's encoder and decoder layers call the mask of their input.
PADDING_MASKS = ("padding_mask", "decoder_padding_mask")


def padding_mask(
    layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """Padding mask among the arguments of a call, or None."""
    parameters = layer.call_signature_parameters
    for name in PADDING_MASKS:
        mask = kwargs.get(name)
        if mask is None and name in parameters[: len(args)]:
            mask = args[parameters.index(name)]
        if mask is not None:
            return mask
    if args and isinstance(args[0], Mapping):
        # Not that of a decoder: a model with one has two sequences.
        return args[0].get("padding_mask")
    return None


def mask_for(
    tensor: Tensor, mask: Tensor | None, padding: Tensor | None
) -> Tensor | None:
    """The mask of a tensor: Keras's, or a padding mask that fits it."""
    if mask is not None or padding is None:
        return mask
    rank = len(padding.shape)
    fits = rank < len(tensor.shape) and all(
        a is None or b is None or a == b
        for a, b in zip(padding.shape, tensor.shape[:rank], strict=True)
    )
    return ops.cast(padding, "bool") if fits else None


def with_padding(
    tensors: MaskedTensors, received: Tensor, padding: Tensor | None, rank: int
) -> MaskedTensors:
    """Tensors of a call inside a layer, with that layer's mask where it fits.

    Args:
        tensors: The tensors, each with its own mask or None.
        received: What the call inside is made on.
        padding: Mask of what the layer around is called on.
        rank: Number of axes of what the layer around is called on. Attention
            scores of shape `(batch, heads, ...)` have more: as many heads as
            steps would be taken for these.
    """
    return [
        (x, mask_for(x, mask, padding))
        if rank in (len(x.shape), len(received.shape))
        else (x, mask)
        for x, mask in tensors
    ]
