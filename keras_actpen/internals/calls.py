"""The calls that Keras notes on a layer, some of them held weakly."""

import weakref
from collections.abc import Iterator
from typing import Any, SupportsIndex

from keras_actpen.backend.tensors import Tensor


class Calls(list[Any]):
    """A layer's list of calls that lets those of models that are gone go.

    Keras numbers a layer's calls by their places in this list, so a call that
    is gone keeps its place for as long as a later one is there.
    """

    def hold_weakly(self, call: Any) -> None:
        """Keep a call no longer than others do."""
        super().__setitem__(self.index(call), weakref.ref(call))

    def append(self, call: Any) -> None:
        """Add a call, in the place of those at the end that are gone."""
        while self and isinstance(self[-1], Gone):
            self.pop()
        super().append(call)

    def index(self, call: Any, *limits: SupportsIndex) -> int:
        """Number of a call."""
        return list(self).index(call, *limits)

    def __getitem__(self, index: Any) -> Any:
        """A call or a list of calls."""
        found = super().__getitem__(index)
        if isinstance(index, slice):
            return [self._alive(one) for one in found]
        return self._alive(found)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the calls."""
        return map(self._alive, super().__iter__())

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        """Copy as a plain list: weak references cannot be pickled."""
        return list, (list(self),)

    def _alive(self, held: Any) -> Any:
        if isinstance(held, weakref.ref):
            return held() or Gone(super().__getitem__(0))
        return held


class Gone:
    """Stands for a call of a model that is gone.

    Args:
        first: The layer's first call, for the shapes that `model.summary()`
            reads off all calls.
    """

    def __init__(self, first: Any):
        self.input_tensors: list[Tensor] = []
        self.outputs: list[Tensor] = first.output_tensors
        self.output_tensors: list[Tensor] = self.outputs
