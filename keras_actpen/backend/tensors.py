"""Types of tensors and activations, and how tensors keep their elements."""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
elif keras.backend.backend() == "jax":
    from jax.experimental import sparse as jax_sparse
elif keras.backend.backend() == "torch":
    import torch

# A tensor of the running backend, a symbolic one, or a NumPy array. Keras has
# no type for these (3.15), and a backend's own would have to import it.
Tensor: TypeAlias = Any

# Tensors, each with the mask of its positions if it has one.
MaskedTensors: TypeAlias = list[tuple[Tensor, Tensor | None]]

# The activation of a layer: a function, or a layer that serves as one.
Activation: TypeAlias = Callable[[Tensor], Tensor]


def storage(tensor: Tensor) -> str:
    """How a tensor keeps its elements: `"dense"`, `"sparse"` or `"ragged"`."""
    if isinstance(tensor, keras.KerasTensor):
        sparse, ragged = tensor.sparse, tensor.ragged
    elif keras.backend.backend() == "tensorflow":
        sparse = isinstance(tensor, tf.SparseTensor)
        ragged = isinstance(tensor, tf.RaggedTensor)
    elif keras.backend.backend() == "jax":
        sparse, ragged = isinstance(tensor, jax_sparse.JAXSparse), False
    elif isinstance(tensor, torch.Tensor):
        ragged = tensor.is_nested
        sparse = not ragged and tensor.layout is not torch.strided
    else:
        sparse, ragged = False, False
    return "sparse" if sparse else "ragged" if ragged else "dense"
