"""What the terms of a layer add to the loss."""

from collections.abc import Mapping

import keras
from keras import ops

from keras_actpen import backend
from keras_actpen.attach.capture import Watched
from keras_actpen.attach.coefficients import Coefficients, Term
from keras_actpen.backend.tensors import MaskedTensors, Tensor


def term_values(
    terms: Mapping[str, Term],
    coefficients: Coefficients | dict[str, float],
    watched: Watched,
) -> dict[str, Tensor]:
    """Coefficient times value of the terms at some places of a layer.

    Args:
        terms: All terms of the layer by their names.
        coefficients: Its coefficients, a plain dictionary if it has no terms.
        watched: The tensors at these places; weights as they are.
    """
    if not isinstance(coefficients, Coefficients):  # only watched
        return {}
    scalars = backend.scalars(coefficients.variable)
    return {
        name: _term_value(term, watched[term.spec], coefficient)
        for (name, term), coefficient in zip(
            terms.items(), scalars, strict=True
        )
        if term.spec in watched
    }


def _term_value(
    term: Term, tensors: MaskedTensors, coefficient: Tensor
) -> Tensor:
    if term.spec.is_weight:
        ((weight, _),) = tensors
        return backend.scaled(term.penalty.weight_value(weight), coefficient)
    # Not from 0: that would be one more operation.
    first, *others = (term.penalty.value(*one) for one in tensors)
    value = sum(others, first)
    return backend.scaled(value, coefficient)


def loss_of(first: Tensor, *others: Tensor) -> Tensor:
    """Sum, of the dtype of Keras's own losses: TensorFlow adds no others."""
    total = sum(others, first)
    floatx = keras.config.floatx()
    if keras.backend.standardize_dtype(total.dtype) == floatx:
        return total
    return ops.cast(total, floatx)
