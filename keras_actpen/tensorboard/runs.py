"""The TensorBoard runs that one training writes."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from keras_actpen.attach.layer_refs import output_shape
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics.alerts import sentences
from keras_actpen.statistics.findings import Finding
from keras_actpen.statistics.snapshot import Snapshots
from keras_actpen.tensorboard import dashboards, events, pages, tags
from keras_actpen.tensorboard.event_file import (
    EventWriter,
    last_run,
    next_run,
)
from keras_actpen.tensorboard.overviews import OptionalValues, Overviews
from keras_actpen.tensorboard.pacing import Allowance
from keras_actpen.tensorboard.warn_once import WarnOnce

# Of the time of a training, what images may take until it ends.
DRAWING_SHARE = 0.002


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
        self._warn = WarnOnce()
        self._writers = {
            phase: EventWriter(os.path.join(run, phase), self._warn)
            for phase in ("train", "validation")
        }
        # HParams looks for metrics in the runs below that of the session.
        self._session = EventWriter(run, self._warn)
        self._layers: dict[str, PenalizedLayer] = {}
        self._has_columns = False
        self._overviews = Overviews({}, has_units=False)
        self._drawing = Allowance(DRAWING_SHARE)
        self._last_epoch = 0

    def open(
        self,
        layers: dict[str, PenalizedLayer],
        optional: Sequence[str] = (),
        *,
        has_units: bool,
    ) -> None:
        """Write what is known before the first step.

        Args:
            layers: The penalised and watched layers by path.
            optional: Names of the optional statistics.
            has_units: Whether to write images of single units.

        Raises:
            ValueError: If the log directory cannot be written.
        """
        self._layers = layers
        self._overviews = Overviews(layers, has_units)
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
        optional: OptionalValues,
        has_histograms: bool,
        unused: Mapping[str, Collection[str]],
    ) -> None:
        """Write an epoch; it is on disk when this returns.

        Args:
            epoch: Number of the epoch, from 0.
            logs: What Keras reports of the epoch.
            means: For `"train"`, and `"validation"` if there was one,
                coefficient times value of every term, by `penalty/...`.
            statistics: Activation statistics of the epoch.
            optional: Values of the optional statistics.
            has_histograms: Whether to write histograms.
            unused: For the same as `means` the keys of the terms that are not
                in the loss.
        """
        if not self._has_columns:
            self._has_columns = True
            self._add_to_session(pages.hparams_columns(self._layers, logs))
        for phase, phase_means in means.items():
            values = [
                *tags.metric_values(phase, logs),
                *tags.loss_values(
                    phase_means, tags.loss(phase, logs), unused[phase]
                ),
            ]
            if phase == "train":
                values += tags.coefficient_values(self._layers)
                for (path, place), snapshot in statistics.items():
                    values += tags.statistic_values(path, place, snapshot)
                    if has_histograms:
                        values += tags.histogram_value(path, place, snapshot)
                for (path, place), of_place in optional.items():
                    values += tags.optional_values(path, place, of_place)
            self._writers[phase].add(values, epoch)
            self._writers[phase].flush()
        self._last_epoch = epoch
        self._overviews.add(epoch, means["train"], statistics, optional)
        if self._drawing.is_due:
            self._draw()

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

    def _draw(self) -> None:
        """Write the images."""
        with self._drawing.spending():
            if values := list(self._overviews.draw()):
                self._writers["train"].add(values, self._last_epoch)
                self._writers["train"].flush()

    def close(self) -> None:
        """Write how the training ended."""
        self.attempt(self._draw)
        self._add_to_session(pages.session_end(self._layers))
        for writer in (self._session, *self._writers.values()):
            writer.close()

    def _add_to_session(self, values: Iterable[events.Value]) -> None:
        # Without coefficients there is nothing to compare: no such run.
        if values := list(values):
            self._session.add(values, 0)
            self._session.flush()
