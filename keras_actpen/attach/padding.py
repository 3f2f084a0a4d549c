"""Padding masks that are arguments of a call, as KerasHub passes them."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_actpen import internals
from keras_actpen.attach.call_arguments import by_name, first_tensor
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


class MasksAround:
    """Masks of what a layer is called on, for the calls of layers inside it.

    Args:
        layer: The layer.
        args: Arguments of its call.
        kwargs: Keyword arguments of its call.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ):
        first = first_tensor(layer, args, kwargs)
        padding = padding_mask(layer, args, kwargs)
        # Where one layer is called step by step, the steps that count.
        self.steps: Tensor | None = (
            internals.mask_of(first) if padding is None else padding
        )
        self._rank = len(first.shape)
        # KerasHub's decoders are called on `encoder_sequence` too, whose mask
        # is `encoder_padding_mask`.
        self._others: list[tuple[Any, Tensor | None]] = []
        if len(args) > 1 or "encoder_sequence" in kwargs:
            given = by_name(layer, args, kwargs)
            self._others = [
                (value, given.get(name.replace("sequence", "padding_mask")))
                for name, value in given.items()
                if name.endswith("_sequence") and value is not first
            ]

    def masked(
        self,
        tensors: MaskedTensors,
        layer: keras.layers.Layer,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> MaskedTensors:
        """Tensors of a call inside the layer, with its mask where that fits.

        Args:
            tensors: The tensors, each with its own mask or None.
            layer: The layer inside.
            args: Arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        if self.steps is None and not self._others:
            return tensors
        received = first_tensor(layer, args, kwargs)
        padding = self.steps
        for value, mask in self._others:
            if value is received:
                padding = mask
        # Attention scores of shape `(batch, heads, ...)` have another rank: as
        # many heads as steps would be taken for these.
        return [
            (x, mask_for(x, mask, padding))
            if self._rank in (len(x.shape), len(received.shape))
            else (x, mask)
            for x, mask in tensors
        ]
