"""The images of a training: layers or units by epochs.

Each image shows all epochs so far, so that it need not be drawn again for
every one of them: what that costs, and the log, would grow with the square of
the epochs.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.attach.recording import log_key
from keras_actpen.statistics.optional import Values
from keras_actpen.statistics.snapshot import Snapshots
from keras_actpen.tensorboard import events, tags

OptionalValues = Mapping[tuple[str, ActivationSpec], Values]


class Overviews:
    """What the images show, and when they are to be drawn again.

    Args:
        layers: The penalised and watched layers by path.
        has_units: Whether there are images of single units.
    """

    def __init__(self, layers: Mapping[str, PenalizedLayer], has_units: bool):
        self._layers = layers
        self._has_units = has_units
        # For each heat map and each image of units its epochs and columns.
        self._layer_columns: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self._unit_columns: dict[
            tuple[str, str, ActivationSpec], list[tuple[int, np.ndarray]]
        ] = {}
        self._drawn: dict[object, int] = {}

    def add(
        self,
        epoch: int,
        means: Mapping[str, float],
        statistics: Snapshots,
        optional: OptionalValues,
    ) -> None:
        """Take in an epoch.

        Args:
            epoch: Its number, from 0.
            means: Coefficient times value of every term, by `penalty/...`.
            statistics: Activation statistics.
            optional: Values of the optional statistics.
        """
        self._add_layers(epoch, means, statistics)
        if self._has_units:
            self._add_units(epoch, statistics, optional)

    def _add_layers(
        self, epoch: int, means: Mapping[str, float], statistics: Snapshots
    ) -> None:
        columns: dict[str, dict[str, float]] = {
            "penalty": {
                path: sum(
                    means[log_key(path, name)] for name in layer.actpen.terms
                )
                for path, layer in self._layers.items()
                if layer.actpen.terms
            },
            "dead_fraction": {
                tags.place_path(path, place): snapshot.values()["dead_fraction"]
                for (path, place), snapshot in statistics.items()
                if place.on == "output"
            },
        }
        for name, column in columns.items():
            if column:
                self._layer_columns.setdefault(name, []).append((epoch, column))

    def _add_units(
        self, epoch: int, statistics: Snapshots, optional: OptionalValues
    ) -> None:
        columns: dict[tuple[str, str, ActivationSpec], np.ndarray] = {
            (name, path, place): value
            for (path, place), values in optional.items()
            for name, value in values.items()
            if isinstance(value, np.ndarray)
        }
        for (path, place), snapshot in statistics.items():
            rates = snapshot.firing_rates
            if place.on == "output" and rates is not None:
                columns["firing_rate", path, place] = rates
        for key, column in columns.items():
            self._unit_columns.setdefault(key, []).append((epoch, column))

    def draw(self) -> Iterator[events.Value]:
        """Every image to which an epoch has been added since it was drawn."""
        for name, history in self._layer_columns.items():
            if self._is_longer(name, history):
                epochs, columns = zip(*history, strict=True)
                yield tags.heat_map(name, columns, epochs)
        for key, history in self._unit_columns.items():
            # Units that are never 0 would all look alike.
            if self._is_longer(key, history) and (
                key[0] != "firing_rate"
                or any((c < 1).any() for _, c in history)
            ):
                epochs, columns = zip(*history, strict=True)
                yield tags.unit_image(*key, columns, epochs)

    def _is_longer(self, key: object, history: list) -> bool:
        before = self._drawn.get(key, 0)
        self._drawn[key] = len(history)
        return len(history) > before
