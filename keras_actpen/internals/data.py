"""Data in all forms that `fit` and `evaluate` take."""

import itertools
from collections.abc import Iterator
from typing import Any

from keras.src.trainers.data_adapters import get_data_adapter


def batches_of(
    x: Any,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    steps: int | None,
) -> tuple[Iterator[Any], int | None]:
    """Iterate over data as `evaluate` does. No public equivalent.

    Args:
        x: Inputs, or what holds inputs and targets.
        y: Targets, or `None`.
        sample_weight: Weights of the samples, or `None`.
        batch_size: Samples in a batch, where `x` is not batched yet.
        steps: How many batches at most.

    Returns:
        The batches, of NumPy arrays, and their number where it is known.

    Raises:
        ValueError: If Keras does not take the data; it may hold all of it.
    """
    adapter = get_data_adapter(
        x=x,
        y=y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        steps_per_epoch=steps,
    )

    def batches() -> Iterator[Any]:
        adapter.on_epoch_begin()
        try:
            yield from itertools.islice(adapter.get_numpy_iterator(), steps)
        finally:
            adapter.on_epoch_end()

    known = [n for n in (steps, adapter.num_batches) if n is not None]
    return batches(), min(known, default=None)
