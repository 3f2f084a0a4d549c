"""Where a layer is looked at: its outputs or its pre-activation."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_actpen import internals
from keras_actpen.backend.tensors import MaskedTensors, Tensor, storage

PLACES = ("output", "preactivation")


@dataclass(frozen=True)
class ActivationSpec:
    """Which tensors of a layer are looked at.

    Args:
        on: `"output"` or `"preactivation"`.
        output: Index or key of the output, or `"all"`.
    """

    on: str = "output"
    output: int | str = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.on not in PLACES:
            raise ValueError(
                "Invalid value received for argument `on`. Expected "
                f"'output' or 'preactivation'. Received: on={self.on!r}"
            )
        if isinstance(self.output, bool) or not isinstance(
            self.output, int | str
        ):
            raise TypeError(
                "Invalid type received for argument `output`. Expected the "
                "index or the key of one output, or 'all'. Received: "
                f"output={self.output!r} (of type "
                f"{type(self.output).__name__})"
            )

    def __str__(self) -> str:
        """The place as it is shown to users: `output`, `output[1]`."""
        return self.on if self.output == 0 else f"{self.on}[{self.output}]"


_FIRST_OUTPUT = (ActivationSpec(),)

# Activations with their mask or None, for each place of a layer.
Watched = dict[ActivationSpec, MaskedTensors]


def observed_call(
    layer: keras.layers.Layer,
    specs: Sequence[ActivationSpec],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    call: Callable[..., Any],
) -> tuple[Any, Watched]:
    """Call a layer.

    Returns:
        Its outputs, and the tensors at each place.
    """
    if specs == _FIRST_OUTPUT:
        outputs = call(*args, **kwargs)
        if _is_tensor_to_tensor(args, kwargs, outputs):
            # Nearly all calls, at a third of what the search takes.
            mask = internals.mask_of(outputs)
            return outputs, {specs[0]: [(outputs, mask)]}
        return outputs, watched_at(specs, layer, outputs, args, kwargs)
    if any(spec.on == "preactivation" for spec in specs):
        with tapped_activation(layer) as seen:
            outputs = call(*args, **kwargs)
        preactivation = only_tapped(layer, seen)
    else:
        outputs = call(*args, **kwargs)
        preactivation = None
    return outputs, watched_at(
        specs, layer, outputs, args, kwargs, preactivation
    )


def observed_spec(
    layer: keras.layers.Layer,
    specs: Sequence[ActivationSpec],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Any, Watched]:
    """Specs of what `observed_call` returns, for symbolic arguments."""
    if not isinstance(layer, keras.Model) and all(
        spec.on == "output" for spec in specs
    ):
        # Most layers know it without being traced, which takes longer.
        outputs = layer.compute_output_spec(*args, **kwargs)
        return outputs, watched_at(specs, layer, outputs, args, kwargs)

    def observed(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        outputs, watched = observed_call(layer, specs, args, kwargs, layer)
        return outputs, [
            [tensor for tensor, _ in tensors] for tensors in watched.values()
        ]

    outputs, found = internals.output_spec(observed, args, kwargs)
    padding = padding_mask(layer, args, kwargs)
    watched = {
        spec: [(one, mask_for(one, None, padding)) for one in tensors]
        for spec, tensors in zip(specs, found, strict=True)
    }
    if isinstance(layer, keras.Model):
        return outputs, watched
    return layer.compute_output_spec(*args, **kwargs), watched


def _is_tensor_to_tensor(
    args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
) -> bool:
    """Whether a tensor, without a padding mask, gave a dense one of floats."""
    return (
        len(args) == 1
        and ops.is_tensor(args[0])
        and ops.is_tensor(outputs)
        and kwargs.keys().isdisjoint(_PADDING_MASKS)
        and _is_float(outputs.dtype)
        and storage(outputs) == "dense"
    )


def watched_at(
    specs: Sequence[ActivationSpec],
    layer: keras.layers.Layer,
    outputs: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    preactivation: Tensor | None = None,
) -> Watched:
    """The tensors at each place of a call, by what it was given and gave."""
    padding = padding_mask(layer, args, kwargs)
    return {
        spec: [
            (tensor, mask_for(tensor, mask, padding))
            for tensor, mask in tensors_at(spec, layer, outputs, preactivation)
        ]
        for spec in specs
    }


@contextlib.contextmanager
def tapped_activation(layer: keras.layers.Layer) -> Iterator[list[Tensor]]:
    """Note every tensor that the layer's own activation receives.

    Raises:
        ValueError: If the layer has no activation of its own.
    """
    attributes = vars(layer)
    activation = attributes.get("activation")
    if not callable(activation):
        raise _no_preactivation(layer)
    seen = []

    def tap(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(x)
        return activation(x, *args, **kwargs)

    # Not setattr, which would track the function as state of the layer.
    attributes["activation"] = tap
    try:
        yield seen
    finally:
        attributes["activation"] = activation


def only_tapped(layer: keras.layers.Layer, seen: list[Tensor]) -> Tensor:
    """The one tensor that the activation received.

    Raises:
        ValueError: If there was none, or several.
    """
    if len(seen) != 1:
        raise _no_preactivation(layer)
    return seen[0]


def _no_preactivation(layer: keras.layers.Layer) -> ValueError:
    return ValueError(
        "Invalid value received for argument `on`. Expected on='output' for "
        f"layer {layer.name!r} (of type {type(layer).__name__}), which has no "
        "`activation` that it applies once, to its whole output, as Dense "
        "does; if it is itself an activation, such as ReLU, target the layer "
        "in front of it. Received: on='preactivation'"
    )


def tensors_at(
    spec: ActivationSpec,
    layer: keras.layers.Layer,
    outputs: Any,
    preactivation: Tensor | None,
) -> MaskedTensors:
    """Tensors at a place of a layer, each with its mask or None."""
    if spec.on == "preactivation":
        mask = internals.mask_of(tree.flatten(outputs)[0])
        chosen = [(preactivation, mask)]
    elif spec.output == "all":
        chosen = [
            (tensor, internals.mask_of(tensor))
            for tensor in tree.flatten(outputs)
        ]
    else:
        tensor = _chosen_output(layer, outputs, spec.output)
        chosen = [(tensor, internals.mask_of(tensor))]
    for tensor, _ in chosen:
        _check_tensor(layer, tensor)
    return chosen


def _check_tensor(layer: keras.layers.Layer, tensor: Tensor) -> None:
    """Refuse a tensor that holds no floats, or not one at each position."""
    if not _is_float(tensor.dtype):
        expected = "float output; target the layer behind it"
        found = f"has dtype {keras.backend.standardize_dtype(tensor.dtype)}"
    elif (kind := storage(tensor)) != "dense":
        expected = "dense output; target the Dense or other layer behind it"
        found = f"is a {kind} tensor"
    else:
        return
    raise ValueError(
        "Invalid value received for argument `layers`. Expected a layer with "
        f"a {expected}. Received: layer {layer.name!r} (of type "
        f"{type(layer).__name__}), whose output {found}"
    )


def _is_float(dtype: Any) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(dtype))


def _chosen_output(
    layer: keras.layers.Layer, outputs: Any, output: int | str
) -> Tensor:
    """The output that an index or a key stands for."""
    if isinstance(outputs, Mapping):
        keys = list(outputs)
        key = keys[output] if output in range(len(keys)) else output
        if key in outputs:
            return tree.flatten(outputs[key])[0]
        expected = f"one of {[*keys, 'all']}"
    elif isinstance(outputs, Sequence):
        if output in range(len(outputs)):
            return tree.flatten(outputs[output])[0]
        expected = f"an index below {len(outputs)}, or 'all'"
    else:
        if output == 0:
            return outputs
        expected = "0, or 'all'"
    raise ValueError(
        "Invalid value received for argument `output`. Expected "
        f"{expected} for layer {layer.name!r} (of type "
        f"{type(layer).__name__}). Received: output={output!r}"
    )


# What KerasHub's encoder and decoder layers call the mask of their input.
_PADDING_MASKS = ("padding_mask", "decoder_padding_mask")


def padding_mask(
    layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """Padding mask among the arguments of a call, or None."""
    parameters = layer.call_signature_parameters
    for name in _PADDING_MASKS:
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
