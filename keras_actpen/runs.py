"""The TensorBoard runs that one training writes."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from keras_actpen import dashboards, events, pages, tags
from keras_actpen.alerts import sentences
from keras_actpen.event_file import EventWriter, last_run, next_run
from keras_actpen.findings import Finding
from keras_actpen.one_warning import OneWarning
from keras_actpen.optional_statistics import Values
from keras_actpen.places import Place
from keras_actpen.recording import log_key
from keras_actpen.snapshots import StatisticsSnapshot
from keras_actpen.summary import output_shape
from keras_actpen.wrapper import PenalizedLayer

Snapshots = Mapping[tuple[str, Place], StatisticsSnapshot]


class Runs:
    """The runs `actpen/train` and `actpen/validation` of a log directory.

    What HParams needs is in their parent, the run `actpen`.

    Args:
        log_dir: The log directory.
        earlier: Name of the run that the same monitor wrote before, if any.
        resumed: Whether the training goes on where an earlier one stopped:
            its runs are continued, those of `earlier` or else the last ones.
    """

    def __init__(self, log_dir: str, earlier: str | None, resumed: bool):
        self.name: str
        if resumed:
            self.name = earlier or last_run(log_dir)
        else:
            self.name = next_run(log_dir)
        self._trial = dashboards.trial_name(log_dir, self.name)
        run = os.path.join(log_dir, self.name)
        self._warn = OneWarning()
        self._writers = {
            phase: EventWriter(os.path.join(run, phase), self._warn)
            for phase in ("train", "validation")
        }
        # HParams looks for metrics in the runs below that of the session.
        self._session = EventWriter(run, self._warn)
        self._layers: dict[str, PenalizedLayer] = {}
        self._has_columns = False
        # For each heat map and each image of units its epochs and columns.
        self._columns: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self._units: dict[
            tuple[str, str, Place], list[tuple[int, np.ndarray]]
        ] = {}

    def open(
        self,
        layers: dict[str, PenalizedLayer],
        optional: Sequence[str] = (),
    ) -> None:
        """Write what is known before the first step.

        Args:
            layers: The penalised and watched layers by path.
            optional: Names of the optional statistics.

        Raises:
            ValueError: If the log directory cannot be written.
        """
        self._layers = layers
        self._writers["train"].open()
        shapes = {path: output_shape(layer) for path, layer in layers.items()}
        self._writers["train"].add(
            [
                pages.text_page(
                    layers, shapes, metadata.version("keras-actpen"), optional
                ),
                pages.layout(layers, optional),
            ],
            0,
        )
        self._writers["train"].flush()
        self._add_to_session(pages.session_start(layers, self._trial))

    def attempt(self, write: Callable[..., None], *args: Any) -> None:
        """Write; whatever fails warns once, and training goes on.

        A disk that cannot be written is no failure: the events wait.

        Args:
            write: One of the methods below.
            args: Its arguments.
        """
        try:
            write(*args)
        except Exception as error:
            self._warn(
                "TensorBoard events could not be written "
                f"({type(error).__name__}: {error}). Training goes on, and "
                "what comes later is written if it can be."
            )

    def write_batch(self, means: Mapping[str, float], iterations: int) -> None:
        """Write the terms' means since the epoch began.

        Args:
            means: Coefficient times value of every term, by `penalty/...`.
            iterations: Number of batches trained on so far.
        """
        values = list(tags.batch_values(means))
        self._writers["train"].add(values, iterations)

    def write_epoch(
        self,
        epoch: int,
        logs: Mapping[str, float],
        means: Mapping[str, Mapping[str, float]],
        statistics: Snapshots,
        optional: Mapping[tuple[str, Place], Values],
        shows_units: bool,
    ) -> None:
        """Write an epoch; it is on disk when this returns.

        Args:
            epoch: Number of the epoch, from 0.
            logs: What Keras reports of the epoch.
            means: For `"train"`, and `"validation"` if there was one,
                coefficient times value of every term, by `penalty/...`.
            statistics: Activation statistics of the epoch.
            optional: Values of the optional statistics.
            shows_units: Whether to write histograms and images of the units.
        """
        if not self._has_columns:
            self._has_columns = True
            self._add_to_session(pages.hparams_columns(self._layers, logs))
        for phase, phase_means in means.items():
            values = [
                *tags.metric_values(phase, logs),
                *tags.loss_values(phase_means, tags.loss(phase, logs)),
            ]
            if phase == "train":
                values += tags.coefficient_values(self._layers)
                for (path, place), snapshot in statistics.items():
                    values += tags.statistic_values(path, place, snapshot)
                    if shows_units:
                        values += tags.histogram_value(path, place, snapshot)
                for (path, place), of_place in optional.items():
                    values += tags.optional_values(path, place, of_place)
                values += self._heat_maps(epoch, phase_means, statistics)
                values += self._unit_images(
                    epoch, statistics, optional, shows_units
                )
            self._writers[phase].add(values, epoch)
            self._writers[phase].flush()

    def add_findings(self, epoch: int, findings: Sequence[Finding]) -> None:
        """Add what is wrong to what `write_epoch` writes next.

        Args:
            epoch: Number of the epoch.
            findings: What was found in it.
        """
        if findings:
            page = pages.findings_page(sentences(findings))
            self._writers["train"].add([page], epoch)

    def write_costs(
        self, epoch: int, costs: Mapping[str, float], steps: int
    ) -> None:
        """Write what the monitor itself has cost.

        Args:
            epoch: Number of the epoch.
            costs: Costs by name, counted in calls of the train function.
            steps: Steps that each call runs.
        """
        if not costs:
            return
        costs = dict(costs)
        if "statistics_freq" in costs:
            costs["statistics_freq"] *= steps
        self._writers["train"].add(tags.cost_values(costs), epoch)
        self._writers["train"].flush()

    def close(self) -> None:
        """Write how the training ended."""
        self._add_to_session(pages.session_end(self._layers))
        for writer in (self._session, *self._writers.values()):
            writer.close()

    def _add_to_session(self, values: Iterable[events.Value]) -> None:
        # Without coefficients there is nothing to compare: no such run.
        if values := list(values):
            self._session.add(values, 0)
            self._session.flush()

    def _unit_images(
        self,
        epoch: int,
        statistics: Snapshots,
        optional: Mapping[tuple[str, Place], Values],
        shows_units: bool,
    ) -> Iterator[events.Value]:
        """The images of single units, with a column more than before."""
        columns: dict[tuple[str, str, Place], np.ndarray] = {
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
            history = self._units.setdefault(key, [])
            history.append((epoch, column))
            # Units that are never 0 would all look alike.
            if shows_units and (
                key[0] != "firing_rate"
                or any((c < 1).any() for _, c in history)
            ):
                epochs, seen = zip(*history, strict=True)
                yield tags.unit_image(*key, seen, epochs)

    def _heat_maps(
        self,
        epoch: int,
        means: Mapping[str, float],
        statistics: Snapshots,
    ) -> list[events.Value]:
        """The overview images, with a column more than in the last epoch."""
        columns = {"penalty": {}, "dead_fraction": {}}
        for path, layer in self._layers.items():
            if layer.terms:
                columns["penalty"][path] = sum(
                    means[log_key(path, name)] for name in layer.terms
                )
        for (path, place), snapshot in statistics.items():
            if place.on == "output":
                columns["dead_fraction"][tags.place_path(path, place)] = (
                    snapshot.values()["dead_fraction"]
                )
        images = []
        for name, column in columns.items():
            if column:
                history = self._columns.setdefault(name, [])
                history.append((epoch, column))
                epochs, columns_so_far = zip(*history, strict=True)
                images.append(tags.heat_map(name, columns_so_far, epochs))
        return images
