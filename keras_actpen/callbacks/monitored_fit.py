"""One `fit` of a PenaltyMonitor: what its steps record, what is written."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import keras

from keras_actpen import backend
from keras_actpen.callbacks.dead_units import OnDeadUnits, tell_dead_units
from keras_actpen.callbacks.ownership import is_moved
from keras_actpen.callbacks.step_count import StepCount, steps_done
from keras_actpen.instrumentation.instrumented_steps import (
    EveryNthStep,
    StepsWithinOverhead,
)
from keras_actpen.instrumentation.session import Session
from keras_actpen.statistics.alerts import Alerts, OnFinding
from keras_actpen.statistics.findings import Finding
from keras_actpen.statistics.since_fired import DeadWindow
from keras_actpen.statistics.thresholds import AlertKinds
from keras_actpen.statistics.unit_values import UnitValues, unit_values
from keras_actpen.tensorboard.epoch_data import Recorded, number
from keras_actpen.tensorboard.tags import statistic_tag

if TYPE_CHECKING:
    from keras_actpen.tensorboard.runs import Runs


class Arguments(Protocol):
    """The arguments of a PenaltyMonitor."""

    update_freq: str | int
    histogram_freq: int
    statistics_freq: int
    max_overhead: float | None
    statistics: tuple[str, ...]
    statistics_in_logs: tuple[str, ...]
    dead_after: int | None
    validation_statistics: bool
    images: bool
    alerts: AlertKinds
    on_finding: OnFinding | None
    on_dead_units: OnDeadUnits | None
    hparams: Mapping[str, Any]


class MonitoredFit:
    """What lasts as long as one `fit`.

    Args:
        monitor: The monitor, for its arguments.
        session: The session of the model that is fitted.
        directory: Absolute path of the log directory, or `None`.
    """

    def __init__(
        self,
        monitor: Arguments,
        session: Session,
        directory: str | None,
    ):
        self._monitor = monitor
        self._session = session
        self._directory = directory
        self._alerts = Alerts(monitor.alerts, monitor.on_finding)
        self._window = DeadWindow(monitor.dead_after)
        # What each unit did in the last epoch, by the path of its layer.
        self.units: dict[str, UnitValues] = {}
        self._runs: Runs | None = None
        self._pace: EveryNthStep | StepsWithinOverhead = EveryNthStep(0)
        self._validation_pace = EveryNthStep(0)
        # Else nothing shows statistics.
        if directory is not None or monitor.statistics_in_logs:
            self._choose_steps()
        self._follows_units = monitor.on_dead_units is not None
        if self._follows_units:
            self._session.follow_units()
        self._count = StepCount()
        # Batches trained on when last written.
        self._last_written = 0
        self.has_begun: bool = False
        self._validation: Recorded | None = None

    def _choose_steps(self) -> None:
        """Choose how instrumented steps are chosen."""
        monitor = self._monitor
        self._session.record_also(monitor.statistics)
        if monitor.statistics_freq:
            self._session.follow_units()
        self._pace = EveryNthStep(monitor.statistics_freq)
        if monitor.max_overhead is not None:
            self._pace = StepsWithinOverhead(monitor.max_overhead)
        if monitor.validation_statistics and monitor.statistics_freq:
            self._session.record_validation()
            self._validation_pace = EveryNthStep(monitor.statistics_freq)

    @property
    def model(self) -> keras.Model:
        """The model that is fitted."""
        return self._session.model

    def begin(self, earlier: str | None, resumed: bool) -> str | None:
        """Begin the first epoch, and open what is written.

        Args:
            earlier: Name of the run that the monitor wrote before, if any.
            resumed: Whether the training goes on where an earlier one stopped.

        Returns:
            The name of the run, `None` if nothing is written.

        Raises:
            ValueError: If the log directory cannot be written.
        """
        self.has_begun = True
        self._last_written = steps_done(self.model)
        if self._directory is None or not backend.is_chief(self.model):
            return None
        # Not at the top: importing the package must not import tensorboard.
        from keras_actpen.tensorboard.runs import Runs

        runs = Runs(self._directory, earlier, resumed)
        layers, model = self._session.layers, self.model.name
        monitor = self._monitor
        runs.open(layers, model, monitor.statistics, monitor.hparams)
        if self._monitor.images:
            runs.draw_images(with_units=self._monitor.histogram_freq > 0)
        self._runs = runs
        return runs.name

    def begin_epoch(self) -> None:
        """Start a new period."""
        self._session.begin_period("train")
        self._pace.begin_epoch()
        self._count.begin_epoch(self.model)
        self._validation = None

    def before_step(self, batch: int) -> None:
        """Choose what the coming step records.

        Args:
            batch: Its number in the epoch.
        """
        self.tell_facts()
        runs = self._session.state.runs["train"]
        self._write_batches(self._count.begin_step(batch, runs))
        what = "statistics" if self._pace.instruments(batch) else "terms"
        self._session.request("train", what, self._pace.stopwatch)

    def tell_facts(self) -> None:
        """Tell what the last step has shown, without waiting for it."""
        session = self._session
        if facts := self._alerts.new_facts(session.checks.facts()):
            self._alerts.announce(facts, self.model, len(session.layers))

    def _write_batches(self, steps: int) -> None:
        """Write the terms until the last step, if it is time."""
        freq, runs = self._monitor.update_freq, self._session.state.runs
        # Nothing to write before the first step of an epoch.
        if self._runs is None or freq == "epoch" or not runs["train"]:
            return
        if steps >= self._last_written + freq:
            self._last_written = steps
            backend.sync_variables(self.model)
            means = self._session.means("train")
            self._runs.attempt(self._runs.write_batch, means, steps)

    def _end_last_step(self) -> None:
        """Count the step that began last, if it has run."""
        count, runs = self._count, self._session.state.runs["train"]
        if count.settle(count.has_run(runs)):
            self._pace.take_back()
        else:
            # More than was counted, if the last call ran several steps.
            self._write_batches(max(steps_done(self.model), count.done))

    def begin_validation(self) -> None:
        """Start to count its steps."""
        self._validation_pace.begin_epoch()

    def before_validation_step(self, batch: int) -> None:
        """Choose what the coming step records."""
        instrumented = self._validation_pace.instruments(batch)
        self._session.request("test", "statistics" if instrumented else "terms")

    def end_validation(self) -> None:
        """Keep what has been recorded."""
        snapshots = {}
        if self._validation_pace.steps:
            snapshots = self._session.state.validation_snapshots()
        self._validation = Recorded(
            self._session.means("test"),
            snapshots,
            unused=self._session.checks.unused_keys("test"),
        )

    def end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """Write the epoch, and tell what is wrong.

        Args:
            epoch: Its number, from 0.
            logs: Gets the terms.
        """
        self._end_last_step()
        with self._pace.writing():
            recorded = {"train": self._recorded()}
            # A train_step of the user's own may have returned anything.
            _put_last(logs, recorded["train"].means)
            if self._validation is not None:
                recorded["validation"] = self._validation
                means = self._validation.means
                _put_last(logs, {f"val_{key}": v for key, v in means.items()})
            findings = self._alerts.findings(
                self._session.layers,
                recorded["train"].means,
                number(logs.get("loss")),
                recorded["train"].snapshots,
                self._session.checks.facts_of_epoch(),
            )
            # What another callback keeps small needs no larger coefficient.
            findings = [
                one
                for one in findings
                if one.kind != "negligible"
                or not is_moved(self._session.layers[one.path])
            ]
            if self._runs is not None:
                self._write_epoch(epoch, logs, recorded, findings)
        if self._runs is not None:
            self._runs.attempt(
                self._runs.write_costs,
                epoch,
                self._pace.costs(),
                self.model.steps_per_execution,
            )
        # Not earlier: what is written has curves of its own for them.
        for (path, spec), seen in recorded["train"].snapshots.items():
            for name in self._monitor.statistics_in_logs:
                logs[statistic_tag(name, path, spec)] = seen.value(name)
        if self._follows_units:
            tell_dead_units(
                self._monitor.on_dead_units,
                self._session.layers,
                recorded["train"].snapshots,
            )
        # Last, because a warning may be an error.
        layers = len(self._session.layers)
        self._alerts.announce(findings, self.model, layers)

    def _recorded(self) -> Recorded:
        """What the steps of the epoch have recorded."""
        means = self._session.means("train")
        unused = self._session.checks.unused_keys("train")
        monitor = self._monitor
        shows = self._runs is not None or monitor.statistics_in_logs
        has_none = not self._session.has_steps("train")
        is_shown = shows and monitor.statistics_freq
        if has_none or not (is_shown or self._follows_units):
            return Recorded(means, unused=unused)
        state = self._session.state
        snapshots = self._window.after_epoch(state.snapshots())
        optional = state.optional_values(self._monitor.statistics)
        self.units = unit_values(snapshots, optional)
        return Recorded(means, snapshots, optional, unused)

    def _write_epoch(
        self,
        epoch: int,
        logs: dict[str, Any],
        recorded: dict[str, Recorded],
        findings: Sequence[Finding],
    ) -> None:
        """Write the epoch."""
        # Schedulers after the monitor in the list have not logged it yet.
        optimizer = getattr(self.model, "optimizer", None)
        rate = number(getattr(optimizer, "learning_rate", None))
        of_optimizer = {} if rate is None else {"learning_rate": rate}
        freq = self._monitor.histogram_freq
        self._runs.attempt(
            self._runs.write_epoch,
            epoch,
            {**of_optimizer, **logs},
            self._session.reported["train"],
            recorded,
            findings,
            freq > 0 and epoch % freq == 0,
        )

    def end(self) -> None:
        """Close what is written."""
        if self._runs is not None:
            self._runs.attempt(self._runs.close)


def _put_last(logs: dict[str, Any], means: Mapping[str, float]) -> None:
    """Put the terms into logs in model order: Keras has sorted them."""
    for key in means:
        logs.pop(key, None)
    logs.update(means)
