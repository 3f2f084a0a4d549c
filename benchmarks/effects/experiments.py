"""What an experiment is, and the network that most of them train."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import keras
from keras import layers

from benchmarks.effects.claims import Choose, Claim
from benchmarks.effects.trials import Effort, Row

CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclass(frozen=True)
class Experiment:
    """A family of penalties, what is measured and what is claimed of them.

    Attributes:
        name: For `--only` and in the rows.
        text: What is trained, and how the strength of an arm is chosen.
        run: Trains and yields the rows.
        choose: Chooses the strength that stands for an arm; `None` if every
            claim names its own.
        columns: Headings of the measures by their names.
        axes: Names of the two measures that the plot shows.
        claims: What is claimed.
        guides: Values of the horizontal axis that the plot marks.
    """

    name: str
    text: str
    run: Callable[[Effort], Iterator[Row]]
    choose: Choose | None
    columns: Mapping[str, str]
    axes: tuple[str, str]
    claims: Sequence[Claim]
    guides: Sequence[float] = ()


def classifier() -> keras.Model:
    """One hidden layer of 128 rectified units, and ten logits."""
    return keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dense(10, name="logits"),
        ]
    )
