"""The functions of keras.ops that statistics need, as torch has them.

Keras looks at every argument of every operation, for symbolic tensors, dtypes
and devices. The statistics of a layer are some 100 operations, most of them of
scalars: with these the statistics of 65,000 elements took a third of the time.

The names and the arguments are those of keras.ops. Tensors are torch's, dtypes
are not promoted, and numbers stay numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import torch

from keras_actpen.backend.tensors import Tensor

_DTYPES: dict[Any, Any] = {
    "bool": torch.bool,
    "float32": torch.float32,
    "int": torch.int32,
    "int32": torch.int32,
}

_Operation: TypeAlias = Callable[..., Tensor]

abs: _Operation = torch.abs
copy: _Operation = torch.clone
equal: _Operation = torch.eq
expand_dims: _Operation = torch.unsqueeze
greater: _Operation = torch.gt
isfinite: _Operation = torch.isfinite
logical_and: _Operation = torch.logical_and
logical_or: _Operation = torch.logical_or
not_equal: _Operation = torch.ne
reshape: _Operation = torch.reshape
square: _Operation = torch.square
stack: _Operation = torch.stack
stop_gradient: _Operation = torch.detach
where: _Operation = torch.where
zeros_like: _Operation = torch.zeros_like


def convert_to_tensor(x: Any, dtype: str | None = None) -> Tensor:
    """A tensor; of a variable its own, which later writes change."""
    if dtype is None and isinstance(x, keras.Variable):
        return x.value
    return keras.ops.convert_to_tensor(x, dtype)


def cast(x: Any, dtype: str | torch.dtype) -> Any:
    """A tensor of another dtype, or a number."""
    dtype = _DTYPES.get(dtype, dtype)
    if isinstance(x, torch.Tensor):
        return x.to(dtype)
    return float(x) if dtype.is_floating_point else int(x)


def ones_like(x: Tensor, dtype: str) -> Tensor:
    """A tensor of ones of the same shape."""
    return torch.ones_like(x, dtype=_DTYPES[dtype])


def size(x: Tensor) -> int:
    """Number of elements."""
    return x.numel()


def shape(x: Tensor) -> tuple[int, ...]:
    """Shape."""
    return tuple(x.shape)


def sum(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """Sum along some axes, without any of them the tensor itself."""
    if axis is None:
        return torch.sum(x)
    return torch.sum(x, axis) if axis != () else x


def max(
    x: Tensor,
    axis: int | Sequence[int] | None = None,
    initial: float | None = None,
) -> Tensor:
    """Largest element along some axes, or `initial` if there is none."""
    return _reduced(torch.amax, x, axis, initial)


def min(
    x: Tensor,
    axis: Sequence[int] | None = None,
    initial: float | None = None,
) -> Tensor:
    """Smallest element along some axes, or `initial` if there is none."""
    return _reduced(torch.amin, x, axis, initial)


def _reduced(
    reduce: _Operation,
    x: Tensor,
    axis: int | Sequence[int] | None,
    initial: float | None,
) -> Tensor:
    axis = tuple(range(x.dim())) if axis is None else axis
    if x.numel():
        return reduce(x, axis)
    axis = (axis,) if isinstance(axis, int) else axis
    kept = [n for i, n in enumerate(x.shape) if i not in axis]
    return x.new_full(kept, initial)


def maximum(x: Any, y: Any) -> Any:
    """Larger of each two elements; `y` may be a number."""
    if isinstance(y, torch.Tensor):
        return torch.maximum(x, y)
    if isinstance(x, torch.Tensor):
        return torch.clamp(x, min=y)
    return x if x >= y else y


def minimum(x: Tensor, y: Any) -> Tensor:
    """Smaller of each two elements; `y` may be a number."""
    if isinstance(y, torch.Tensor):
        return torch.minimum(x, y)
    return torch.clamp(x, max=y)


def concatenate(parts: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors one behind the other."""
    return torch.cat(list(parts), axis)


def flip(x: Tensor, axis: int) -> Tensor:
    """A tensor, its last elements along an axis first."""
    return torch.flip(x, (axis,))


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose axes of size 1 are repeated."""
    return torch.broadcast_to(x, shape)
