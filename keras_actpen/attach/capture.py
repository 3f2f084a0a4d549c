"""Where a layer is looked at: its outputs or its pre-activation."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_actpen import backend, internals
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.call_arguments import is_tensor, received
from keras_actpen.attach.padding import (
    PADDING_MASKS,
    mask_for,
    padding_mask,
)
from keras_actpen.backend.tensors import (
    Activation,
    MaskedTensors,
    Tensor,
    storage,
)

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
    if all(spec.on != "preactivation" for spec in specs):
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
    return layer.compute_output_spec(*args, **kwargs), watched


def _is_tensor_to_tensor(
    args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
) -> bool:
    """Whether a tensor, without a padding mask, gave a dense one of floats."""
    return (
        len(args) == 1
        and ops.is_tensor(args[0])
        and ops.is_tensor(outputs)
        and kwargs.keys().isdisjoint(PADDING_MASKS)
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
    if not specs:
        return {}
    if specs == _FIRST_OUTPUT and _is_tensor_to_tensor(args, kwargs, outputs):
        # Nearly all calls end here, in a third of the time of the search.
        return {specs[0]: [(outputs, _mask_of(layer, outputs))]}
    padding = padding_mask(layer, args, kwargs)
    return {
        spec: [
            (tensor, mask_for(tensor, mask, padding))
            for tensor, mask in tensors_at(
                spec,
                layer,
                received(layer, args, kwargs)
                if spec.on == "input"
                else outputs,
                preactivation,
            )
        ]
        for spec in specs
    }


@contextlib.contextmanager
def tapped_activation(layer: keras.layers.Layer) -> Iterator[list[Tensor]]:
    """Note every tensor that the layer's own activation receives.

    Raises:
        ValueError: If the layer has no activation of its own.
    """
    check_activation(layer)
    activation = own_activation(layer)
    # On torch a layer that serves as one is a module of the layer's.
    modules = vars(layer).get("_modules", {})
    attributes = modules if "activation" in modules else vars(layer)
    seen = []
    is_remade = internals.is_rematerialized(layer)
    reach = backend.running_reach() if is_remade else None

    def tap(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if is_remade and backend.running_reach() != reach:
            raise _rematerialized(layer)
        seen.append(x)
        return activation(x, *args, **kwargs)

    # Not setattr, which would track the function as state of the layer.
    attributes["activation"] = tap
    try:
        yield seen
    finally:
        attributes["activation"] = activation


def check_activation(layer: keras.layers.Layer) -> None:
    """Refuse a layer without an activation of its own."""
    if own_activation(layer) is None:
        raise _no_preactivation(layer)


def own_activation(layer: keras.layers.Layer) -> Activation | None:
    """The activation of a layer, None if it has none of its own."""
    attributes = {**vars(layer).get("_modules", {}), **vars(layer)}
    activation = attributes.get("activation")
    return activation if callable(activation) else None


def only_tapped(layer: keras.layers.Layer, seen: list[Tensor]) -> Tensor:
    """The one tensor that the activation received.

    Raises:
        ValueError: If there was none, or several.
    """
    if len(seen) != 1:
        raise _no_preactivation(layer)
    return seen[0]


def _rematerialized(layer: keras.layers.Layer) -> ValueError:
    return ValueError(
        "Invalid value received for argument `on`. Expected on='output' for "
        f"layer {layer.name!r} (of type {type(layer).__name__}), which was "
        "made in a `keras.RematScope`: what its activation receives cannot "
        "leave the code that is run a second time for the gradients. "
        "Received: on='preactivation'"
    )


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
    """Tensors at a place of a layer, each with its mask or None.

    Args:
        spec: The place.
        layer: The layer.
        outputs: What the layer gave, or `received` for `on="input"`.
        preactivation: What its activation received, if that is the place.
    """
    if spec.on == "preactivation":
        mask = internals.mask_of(tree.flatten(outputs)[0])
        chosen = [(preactivation, mask)]
    else:
        found = tree.flatten(outputs)
        if spec.output != "all":
            found = [_chosen_output(layer, outputs, spec.output)]
        masks = internals.mask_of
        if spec.on == "output":
            masks = functools.partial(_mask_of, layer)
        chosen = [(tensor, masks(tensor)) for tensor in found]
    for tensor, _ in chosen:
        _check_tensor(layer, tensor, spec.on)
    return chosen


def _mask_of(layer: keras.layers.Layer, output: Tensor) -> Tensor | None:
    """The mask of an output, in the order of its positions.

    Keras (3.15) gives what an RNN returns that goes backwards the mask of its
    inputs, in their order.
    """
    mask = internals.mask_of(output)
    if mask is None or not isinstance(layer, keras.layers.RNN):
        return mask
    return ops.flip(mask, axis=1) if layer.go_backwards else mask


def _check_tensor(layer: keras.layers.Layer, tensor: Tensor, on: str) -> None:
    """Refuse a tensor that holds no floats, or not one at each position."""
    what = "input" if on == "input" else "output"
    if not is_tensor(tensor):
        expected = f"a tensor as {what}"
        found = f"is {type(tensor).__name__}"
    elif not _is_float(tensor.dtype):
        expected = f"a float {what}; target the layer behind it"
        found = f"has dtype {keras.backend.standardize_dtype(tensor.dtype)}"
    elif storage(tensor) != "dense":
        expected = f"a dense {what}; target the Dense or other layer behind it"
        found = f"is a {storage(tensor)} tensor"
    elif len(tensor.shape) == 0:
        expected = (
            f"an {what} for each sample; penalize what it is computed from, "
            "or use `add_loss`"
        )
        found = "is a scalar"
    else:
        return
    raise ValueError(
        "Invalid value received for argument `layers`. Expected a layer with "
        f"{expected}. Received: layer {layer.name!r} (of type "
        f"{type(layer).__name__}), whose {what} {found}"
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
