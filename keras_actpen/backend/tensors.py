"""Types of tensors and activations, for annotations."""

from collections.abc import Callable
from typing import Any, TypeAlias

# A tensor of the running backend, a symbolic one, or a NumPy array. Keras has
# no type for these (3.15), and a backend's own would have to import it.
Tensor: TypeAlias = Any

# Tensors, each with the mask of its positions if it has one.
MaskedTensors: TypeAlias = list[tuple[Tensor, Tensor | None]]

# The activation of a layer: a function, or a layer that serves as one.
Activation: TypeAlias = Callable[[Tensor], Tensor]
