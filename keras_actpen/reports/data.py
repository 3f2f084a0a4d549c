"""Data as `model.evaluate` takes it, batch by batch."""

import numbers
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import ops, tree

from keras_actpen.internals import batches_of
from keras_actpen.penalties.validation import (
    check_choice,
    invalid_type,
    invalid_value,
    invalid_values,
)

Verbose = Literal["auto", 0, 1, 2]

_EXPECTED = (
    "data as `model.evaluate` takes it: arrays with one row per sample, as "
    "many targets as inputs; or a tf.data.Dataset, a PyDataset, a DataLoader "
    "or a generator of batches `(inputs, targets)`, without `y` and "
    "`sample_weight`"
)


@dataclass(frozen=True)
class Batch:
    """One batch, its targets and weights `None` where there are none."""

    samples: int
    x: Any
    y: Any
    sample_weight: Any


@dataclass(frozen=True)
class Data:
    """What was passed to a report, in any form that `evaluate` takes."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    batch_size: int | None = None
    steps: int | None = None
    verbose: Verbose = "auto"

    def batches(self) -> Iterator[Batch]:
        """Pass through the data once, behind a progress bar.

        Raises:
            TypeError: If `batch_size` or `steps` is not an integer.
            ValueError: If one of them is below 1, `verbose` is unknown, the
                data is not in a form that `evaluate` takes, its sizes do not
                go together, or there is none.
        """
        check_count("batch_size", self.batch_size)
        check_count("steps", self.steps)
        check_choice("verbose", self.verbose, ("auto", 0, 1, 2))
        found, count = self._found()
        # With a single batch, the bar would show nothing.
        auto = 0 if count == 1 else 1
        bar = keras.utils.Progbar(
            count, verbose=auto if self.verbose == "auto" else self.verbose
        )
        done = 0
        for done, one in enumerate(found, 1):
            # As `evaluate` does: Keras warns of an array where a model has a
            # list of inputs.
            one = tree.map_structure(_tensor, one)
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(one)
            samples = tree.flatten(x)[0].shape[0]
            yield Batch(samples, x, y, sample_weight)
            bar.update(done, finalize=done == count)
        if not done:
            raise _without_samples()
        if done != count:
            bar.update(done, finalize=True)

    def _found(self) -> tuple[Iterator[Any], int | None]:
        given = {"x": self.x, "y": self.y, "sample_weight": self.sample_weight}
        if any(0 in getattr(x, "shape", ())[:1] for x in tree.flatten(self.x)):
            raise _without_samples()
        try:
            return batches_of(*given.values(), self.batch_size, self.steps)
        except ValueError:
            # Not from Keras's error, which prints whole arrays.
            passed = {k: v for k, v in given.items() if v is not None}
            raise invalid_values(_EXPECTED, **passed) from None


def check_count(argument: str, value: Any) -> None:
    """Raise if `value` is neither `None` nor an integer >= 1."""
    if value is None:
        return
    expected = "an integer >= 1"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise invalid_type(argument, expected, value)
    if value < 1:
        raise invalid_value(argument, expected, f"{argument}={value!r}")


def _tensor(array: Any) -> Any:
    return None if array is None else ops.convert_to_tensor(array)


def _without_samples() -> ValueError:
    return invalid_value("x", "at least one sample", "x without any")
