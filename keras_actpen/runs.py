"""The TensorBoard runs that one training writes."""

import os
from collections.abc import Iterable, Mapping
from importlib import metadata

from keras_actpen import events, pages, tags
from keras_actpen.event_file import EventWriter, last_run, next_run
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
        if resumed:
            self.name = earlier or last_run(log_dir)
        else:
            self.name = next_run(log_dir)
        run = os.path.join(log_dir, self.name)
        self._writers = {
            phase: EventWriter(os.path.join(run, phase))
            for phase in ("train", "validation")
        }
        # HParams looks for metrics in the runs below that of the session.
        self._session = EventWriter(run)
        self._layers: dict[str, PenalizedLayer] = {}
        self._epochs: list[int] = []
        # Columns of the heat maps so far, a column an epoch.
        self._columns: dict[str, list[dict[str, float]]] = {}

    def open(self, layers: dict[str, PenalizedLayer]) -> None:
        """Write what is known before the first step.

        Raises:
            ValueError: If the log directory cannot be written.
        """
        self._layers = layers
        self._writers["train"].open()
        shapes = {path: output_shape(layer) for path, layer in layers.items()}
        self._writers["train"].add(
            [
                pages.text_page(
                    layers, shapes, metadata.version("keras-actpen")
                ),
                pages.layout(layers),
            ],
            0,
        )
        self._writers["train"].flush()
        self._add_to_session(pages.session_start(layers))

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
        histograms: Snapshots,
    ) -> None:
        """Write an epoch; it is on disk when this returns.

        Args:
            epoch: Number of the epoch, from 0.
            logs: What Keras reports of the epoch.
            means: For `"train"`, and `"validation"` if there was one,
                coefficient times value of every term, by `penalty/...`.
            statistics: Activation statistics of the epoch.
            histograms: Those whose histogram is to be written.
        """
        if not self._epochs:
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
                for (path, place), snapshot in histograms.items():
                    values += tags.histogram_value(path, place, snapshot)
                values += self._heat_maps(epoch, phase_means, statistics)
            self._writers[phase].add(values, epoch)
            self._writers[phase].flush()

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

    def _heat_maps(
        self,
        epoch: int,
        means: Mapping[str, float],
        statistics: Snapshots,
    ) -> list[events.Value]:
        """The overview images, with a column more than in the last epoch."""
        self._epochs.append(epoch)
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
                history.append(column)
                images.append(tags.heat_map(name, history, self._epochs))
        return images
