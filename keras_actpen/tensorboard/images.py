"""The images of a training: layers or units by epochs."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

import numpy as np

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key
from keras_actpen.statistics.optional import DEFINITIONS
from keras_actpen.tensorboard import events, tags
from keras_actpen.tensorboard.color_scale import ColorScale, LogColorScale
from keras_actpen.tensorboard.epoch_data import Recorded
from keras_actpen.tensorboard.heat_map import layer_map, unit_map, unit_rows

# Epochs that an image shows at most: it is 700 pixels wide.
MOST_EPOCHS = 256

_LAYER_MAPS = {
    "dead_fraction": "Share of dead units, layers by epochs.",
    "penalty": "Sum of the penalty terms, layers by epochs, log colors.",
}
_UNIT_MAPS = {
    "firing_rate": (
        "Share of the positions in which each unit is not 0, an image of "
        "units by epochs. There is none for a layer whose units are never 0."
    ),
    "unit_rms": DEFINITIONS["unit_rms"],
}
# Shares have an upper end.
_SHARES = ("dead_fraction", "firing_rate")

# A statistic, its layer's path and its place.
UnitKey = tuple[str, str, ActivationSpec]
Column = TypeVar("Column")


class EpochColumns(Generic[Column]):
    """Something of every epoch, as evenly spaced ones where there are many."""

    def __init__(self):
        self._kept: list[tuple[int, Column]] = []
        self._spacing = 1
        self._count = 0
        self._last: tuple[int, Column] | None = None

    def add(self, epoch: int, column: Column) -> None:
        """Add what an epoch has."""
        self._last = epoch, column
        if self._count % self._spacing == 0:
            self._kept.append(self._last)
        self._count += 1
        if len(self._kept) == MOST_EPOCHS:
            del self._kept[1::2]
            self._spacing *= 2

    def shown(self) -> tuple[list[int], list[Column]]:
        """The epochs that are kept and the last one, and what they have."""
        shown = list(self._kept)
        if self._last is not None and self._last[0] != shown[-1][0]:
            shown.append(self._last)
        return [epoch for epoch, _ in shown], [column for _, column in shown]


class Images:
    """What the images show, and when they are drawn.

    Each image shows all epochs so far. It is drawn after 1, 2, 4, 8, ...
    epochs and at the end: what it costs, and the log, would grow with the
    square of the epochs if it were drawn after each.

    Args:
        layers: The penalized and watched layers by path.
        with_units: Whether there are images of single units.
    """

    def __init__(self, layers: Mapping[str, PenalizedLayer], with_units: bool):
        self._layers = layers
        self._with_units = with_units
        self._of_layers: dict[str, EpochColumns[dict[str, float]]] = {}
        self._of_units: dict[UnitKey, EpochColumns[np.ndarray]] = {}
        self._units: dict[UnitKey, int] = {}
        # Those with a unit that has been 0.
        self._not_always_firing: set[UnitKey] = set()
        self._epochs = self._drawn = 0

    @property
    def are_due(self) -> bool:
        """Whether the number of epochs is a power of 2."""
        return self._epochs > 0 and not self._epochs & (self._epochs - 1)

    def add(self, epoch: int, recorded: Recorded) -> None:
        """Take in an epoch of training."""
        self._epochs += 1
        for name, column in self._layer_columns(recorded).items():
            if column:
                self._of_layers.setdefault(name, EpochColumns()).add(
                    epoch, column
                )
        for key, values in self._unit_columns(recorded).items():
            self._units[key] = len(values)
            if (values < 1).any():
                self._not_always_firing.add(key)
            self._of_units.setdefault(key, EpochColumns()).add(
                epoch, unit_rows(values)
            )

    def _layer_columns(self, recorded: Recorded) -> dict[str, dict[str, float]]:
        """A value of each layer for each image of layers."""
        means = recorded.means
        return {
            "penalty": {
                path: sum(
                    means[log_key(path, name)] for name in layer.actpen.terms
                )
                for path, layer in self._layers.items()
                if layer.actpen.terms
            },
            "dead_fraction": {
                tags.spec_path(path, spec): snapshot.value("dead_fraction")
                for (path, spec), snapshot in recorded.snapshots.items()
                if spec.on == "output"
            },
        }

    def _unit_columns(self, recorded: Recorded) -> dict[UnitKey, np.ndarray]:
        """A value of each unit for each image of units."""
        if not self._with_units:
            return {}
        columns: dict[UnitKey, np.ndarray] = {
            (name, path, spec): value
            for (path, spec), values in recorded.optional.items()
            for name, value in values.items()
            if isinstance(value, np.ndarray)
        }
        for (path, spec), snapshot in recorded.snapshots.items():
            rates = snapshot.firing_rates
            if spec.on == "output" and rates is not None:
                columns["firing_rate", path, spec] = rates
        return columns

    def draw(self) -> Iterator[events.Value]:
        """All images, unless they show no epoch more than the last time."""
        if self._drawn == self._epochs:
            return
        self._drawn = self._epochs
        for name, history in self._of_layers.items():
            epochs, columns = history.shown()
            values = np.array([list(column.values()) for column in columns]).T
            pixels = layer_map(
                _LAYER_MAPS[name],
                list(columns[0]),
                epochs,
                values,
                _scale(name, values),
            )
            yield events.image(
                f"actpen/{name}_by_layer", pixels, _LAYER_MAPS[name]
            )
        for key, history in self._of_units.items():
            name, path, spec = key
            # Units that are never 0 would all look alike.
            if name == "firing_rate" and key not in self._not_always_firing:
                continue
            epochs, columns = history.shown()
            tag = tags.statistic_tag(name, path, spec)
            rows = np.stack(columns, axis=1)
            pixels = unit_map(
                f"{name.replace('_', ' ')}: {tag.partition('/')[2]}",
                self._units[key],
                epochs,
                rows,
                _scale(name, rows),
            )
            yield events.image(tag, pixels, _UNIT_MAPS[name])


def _scale(name: str, values: np.ndarray) -> ColorScale:
    """The colors of a statistic or of the penalty."""
    if name == "penalty":
        # Penalties of layers differ by powers of ten: all but the largest
        # would be black.
        return LogColorScale(values)
    return ColorScale(values, 0.0, 1.0 if name in _SHARES else None)
