"""The TensorBoard runs that one training writes."""

import os
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics.findings import Finding
from keras_actpen.tensorboard import (
    custom_scalars,
    epoch_data,
    events,
    hparams_row,
    points,
    tab_data,
    text_pages,
)
from keras_actpen.tensorboard.epoch_data import Recorded
from keras_actpen.tensorboard.event_file import EventWriter
from keras_actpen.tensorboard.images import Images
from keras_actpen.tensorboard.log_directory import claim_run, last_run
from keras_actpen.tensorboard.warn_once import WarnOnce

# Makes values that are written together.
Part = Callable[[], Iterable[events.Value]]


class Runs:
    """The runs `actpen/train`, `actpen/validation` and `actpen/hparams`.

    Args:
        log_dir: The log directory.
        earlier: Name of the run that the same monitor wrote before, if any.
        resumed: Whether the training goes on where an earlier one stopped:
            its runs are continued, those of `earlier` or else the last ones.

    Raises:
        ValueError: If the log directory cannot be written.
    """

    def __init__(self, log_dir: str, earlier: str | None, resumed: bool):
        self.name: str
        if resumed:
            self.name = earlier or last_run(log_dir)
        else:
            self.name = claim_run(log_dir)
        self._trial = hparams_row.trial_name(log_dir, self.name)
        self._warn = WarnOnce()
        self._writers = {
            run: EventWriter(os.path.join(log_dir, self.name, run), self._warn)
            for run in ("train", "validation", "hparams")
        }
        self._layers: dict[str, PenalizedLayer] = {}
        self._findings = text_pages.FindingsPage()
        self._images: Images | None = None
        self._last_epoch = 0

    def open(
        self,
        layers: dict[str, PenalizedLayer],
        model: str,
        asked: tuple[str, ...],
        hparams: Mapping[str, Any],
    ) -> None:
        """Write what is known before the first step.

        Args:
            layers: The penalized and watched layers by path.
            model: Name of the model.
            asked: Names of the optional statistics.
            hparams: Other hyperparameters of the training by name.

        Raises:
            ValueError: If the log directory cannot be written.
        """
        self._layers = layers
        self._writers["train"].open()
        # Not imported: the rooms' imports run the other way. Not that of the
        # installed package: there may be none.
        version = sys.modules[__name__.partition(".")[0]].__version__
        self._write(
            "train",
            0,
            [
                partial(text_pages.attached, layers, version, asked),
                partial(custom_scalars.layout, layers, asked),
                partial(tab_data.model, layers, model, version, asked),
            ],
        )
        row = hparams_row.session_start
        self._write("hparams", 0, [partial(row, layers, self._trial, hparams)])

    def draw_images(self, with_units: bool) -> None:
        """Draw images too.

        Args:
            with_units: Whether to draw those of single units.
        """
        self._images = Images(self._layers, with_units)

    def attempt(self, write: Callable[..., None], *args: Any) -> None:
        """Write; whatever fails warns once, and training goes on.

        A disk that cannot be written is not a failure: the events wait.

        Args:
            write: What writes.
            args: Its arguments.
        """
        try:
            write(*args)
        except Exception as error:
            self._warn(
                "failed",
                "TensorBoard events could not be written "
                f"({type(error).__name__}: {error}). Training goes on, and "
                "later events are written if possible.",
            )

    def _write(self, run: str, step: int, parts: Iterable[Part]) -> None:
        """Write parts of a step; one that fails takes no other with it."""
        values: list[events.Value] = []
        for part in parts:
            self.attempt(_extend, values, part)
        if values:
            self._writers[run].add(values, step)
        self._writers[run].flush()

    def write_batch(self, means: Mapping[str, float], iterations: int) -> None:
        """Write the terms' means since the epoch began.

        Args:
            means: Coefficient times value of every term, by `penalty/...`.
            iterations: Number of batches trained on so far.
        """
        values = list(points.batch_points(means))
        self._writers["train"].add_batch(values, iterations)

    def write_epoch(
        self,
        epoch: int,
        logs: Mapping[str, Any],
        trained: Container[str],
        recorded: Mapping[str, Recorded],
        findings: Sequence[Finding],
        has_histograms: bool,
    ) -> None:
        """Write an epoch; it is on disk when this returns.

        Args:
            epoch: Number of the epoch, from 0.
            logs: What Keras and other callbacks report of the epoch.
            trained: Keys of `logs` that the training itself has reported.
            recorded: What `"train"`, and `"validation"` if there was one,
                have recorded.
            findings: What was found in the epoch.
            has_histograms: Whether to write histograms.
        """
        self._last_epoch = epoch
        reported = epoch_data.by_phase(logs, trained)
        self._tell_what_is_left_out(reported)
        parts = {
            phase: self._parts(reported[phase], of_phase, has_histograms)
            for phase, of_phase in recorded.items()
        }
        parts["train"] += [
            partial(points.coefficient_points, self._layers),
            partial(tab_data.findings, findings),
        ]
        if self._findings.add(epoch, findings):
            parts["train"].append(self._findings.page)
        parts["hparams"] = [
            partial(
                hparams_row.metrics, self._layers, reported, recorded["train"]
            )
        ]
        for run, of_run in parts.items():
            self._write(run, epoch, of_run)
        if self._images is not None:
            self._images.add(epoch, recorded["train"])
            if self._images.are_due:
                self._write("train", epoch, [self._images.draw])

    def _parts(
        self,
        reported: Mapping[str, Any],
        recorded: Recorded,
        has_histograms: bool,
    ) -> list[Part]:
        """What is written of a phase of an epoch."""
        loss = epoch_data.number(reported.get("loss"))
        parts = [
            partial(points.metric_points, reported),
            partial(points.loss_points, recorded, loss),
        ]
        of_snapshots = [points.statistic_points, tab_data.units]
        if has_histograms:
            of_snapshots += [
                points.histogram,
                points.rate_histogram,
                tab_data.values,
            ]
        parts += [
            partial(make, *spec, snapshot)
            for spec, snapshot in recorded.snapshots.items()
            for make in of_snapshots
        ]
        parts += [
            partial(points.optional_points, *spec, values)
            for spec, values in recorded.optional.items()
        ]
        if recorded.snapshots:
            parts.append(
                partial(tab_data.positions, self._layers, recorded.snapshots)
            )
        return parts

    def _tell_what_is_left_out(
        self, reported: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Warn once of each key whose value is not a number."""
        for phase, prefix in (("train", ""), ("validation", "val_")):
            written = {key for key, _, _ in epoch_data.numbers(reported[phase])}
            for key, value in reported[phase].items():
                if key not in written:
                    self._warn(
                        f"key {prefix}{key}",
                        f"`{prefix}{key}` in the logs is not in TensorBoard: "
                        "it is not a number but a "
                        f"{type(value).__name__}.",
                    )

    def write_costs(
        self, epoch: int, costs: Mapping[str, float], steps: int
    ) -> None:
        """Write what the monitor itself has cost.

        Args:
            epoch: Number of the epoch.
            costs: Costs by name, counted in calls of the train function.
            steps: Steps that each call runs.
        """
        costs = dict(costs)
        if "statistics_freq" in costs:
            costs["statistics_freq"] *= steps
        self._write("train", epoch, [partial(points.cost_points, costs)])

    def close(self) -> None:
        """Write how the training ended."""
        last = [self._findings.page]
        if self._images is not None:
            last.append(self._images.draw)
        self._write("train", self._last_epoch, last)
        self._write("hparams", 0, [hparams_row.session_end])
        for writer in self._writers.values():
            writer.close()


def _extend(values: list[events.Value], part: Part) -> None:
    values.extend(part())
