"""Weights of a layer, by their names."""

from collections import Counter

import keras

from keras_actpen.attach.activation_spec import OF_CALLS


def weight_of(layer: keras.layers.Layer, name: str) -> keras.Variable:
    """The weight of a layer that a value of `on` names.

    Args:
        layer: The plain layer, built.
        name: Name of the weight, or of the layer's attribute that it is.

    Raises:
        ValueError: If there is none, or it holds no floats.
    """
    weights = layer.weights
    found = [one for one in weights if one.name == name]
    if len(found) > 1:
        own = vars(layer).get(name, vars(layer).get(f"_{name}"))
        found = [one for one in found if one is own] or found
    if not found:
        attribute = getattr(layer, name, None)
        found = [one for one in weights if one is attribute]
    if len(found) != 1:
        raise _not_one(layer, name, len(found))
    (weight,) = found
    kind = keras.backend.standardize_dtype(weight.dtype)
    if not keras.backend.is_float_dtype(kind):
        raise _refused(
            layer,
            name,
            "a weight of floats; penalize the output instead, or attach the "
            "penalty before `quantize`",
            f"which has dtype {kind}",
        )
    return weight


def trained_weight_of(layer: keras.layers.Layer, name: str) -> keras.Variable:
    """`weight_of`, for a term that is attached: one that is trained.

    Raises:
        ValueError: If it is not, while the layer is.
    """
    weight = weight_of(layer, name)
    if getattr(layer, "lora_enabled", False) and not weight.trainable:
        raise _refused(
            layer,
            name,
            "a weight that is trained: with LoRA these are "
            "'lora_kernel_a' and 'lora_kernel_b'",
            "which LoRA has frozen",
        )
    if layer.trainable and not weight.trainable:
        raise _refused(
            layer,
            name,
            f"a weight that is trained: {_trained(layer)}",
            "which is not",
        )
    return weight


def _trained(layer: keras.layers.Layer) -> list[str]:
    return [one.name for one in layer.trainable_weights]


def _refused(
    layer: keras.layers.Layer, name: str, expected: str, found: str
) -> ValueError:
    return ValueError(
        f"Invalid value received for argument `on`. Expected {expected}. "
        f"Received: on={name!r} for layer {layer.name!r} (of type "
        f"{type(layer).__name__}), {found}"
    )


def _not_one(layer: keras.layers.Layer, name: str, count: int) -> ValueError:
    names = Counter(_trained(layer))
    single = [one for one, times in names.items() if times == 1]
    places = ", ".join(map(repr, OF_CALLS))
    if count:
        expected = (
            "a name that one weight has; write the path of the layer inside "
            "it that has the weight"
        )
        found = f"a name that {count} of its weights have"
    else:
        expected = f"one of {places}"
        if single:
            expected += f" or the name of a weight, here {single}"
        found = "a name that none of its weights has"
    return _refused(layer, name, expected, found)
