"""What a layer is called on."""

from typing import Any

import keras
from keras import ops, tree

from keras_actpen.backend.tensors import Tensor


def by_name(
    layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of a call by name, in the order of the signature."""
    names = layer.call_signature_parameters
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: given[name] for name in names if name in given} | given


def received(
    layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """What a layer is called on: one value, or several by argument."""
    given = {
        name: value
        for name, value in by_name(layer, args, kwargs).items()
        if not name.endswith("mask")
        and any(map(is_tensor, tree.flatten(value)))
    }
    first = next(iter(given.values()), None)
    return given if len(given) > 1 else first


def first_tensor(
    layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """The first tensor that a layer is called on and that is no mask."""
    if args and is_tensor(args[0]):  # nearly all calls
        return args[0]
    tensors = [
        one
        for name, value in by_name(layer, args, kwargs).items()
        if not name.endswith("mask")
        for one in tree.flatten(value)
        if is_tensor(one)
    ]
    return (tensors or tree.flatten((args, kwargs)))[0]


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, symbolic or not."""
    return ops.is_tensor(value) or isinstance(value, keras.KerasTensor)
