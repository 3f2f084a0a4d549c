"""PenaltyMonitor: when to read the device's state, and what to write."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_actpen import backend, internals
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.callbacks.copyable_callback import CopyableCallback
from keras_actpen.callbacks.frequencies import (
    STATISTICS_FREQ,
    check_frequency,
    check_overhead,
)
from keras_actpen.callbacks.penalty_scheduler import steps_done
from keras_actpen.callbacks.short_progress_bar import shorten
from keras_actpen.instrumentation.session import Session
from keras_actpen.statistics.alerts import Alerts, OnFinding
from keras_actpen.statistics.findings import Finding
from keras_actpen.statistics.optional import check_names
from keras_actpen.statistics.snapshot import Snapshots
from keras_actpen.statistics.thresholds import THRESHOLDS
from keras_actpen.tensorboard.pacing import FixedPace, MeasuredPace

if TYPE_CHECKING:
    from keras_actpen.tensorboard.runs import Runs

# The mean of every term by phase.
Means = Mapping[str, Mapping[str, float]]

_NO_FIT = object()


class PenaltyMonitor(CopyableCallback):
    """Logs every penalty term and the activations of the penalised layers.

    Terms are exact: they are accumulated at every step, on the device or, on
    torch on a CPU, as numbers, weighted by batch size as Keras weighs the
    loss, and read once per epoch; a term is 0 in a step in which its layer is
    not called. They are in `logs`, hence in the history and the progress bar,
    as `penalty/<path>/<term>` and `val_penalty/<path>/<term>`. Other callbacks
    can monitor them, wherever they stand in the list, if they are told the
    direction: `EarlyStopping("val_penalty/dense_4/l2", mode="min")`.

    Statistics and histograms of the activations are taken on the first step
    of each epoch and on every `statistics_freq`-th, by a second compiled
    train function; all other steps run without them. With `max_overhead` the
    monitor times both functions on a few steps and instruments as many steps
    as the share allows, in a short epoch maybe none; what it costs is under
    `monitor/` in TensorBoard.

    TensorBoard shows everything under the runs `actpen/train` and
    `actpen/validation` of `log_dir`; a further `fit` from epoch 0 gets the
    runs `actpen-2/...`. Open it with `tensorboard --logdir logs` and set
    smoothing to 0. Neither TensorFlow nor the `tensorboard` server is needed
    to write.

    Example:
    ```python
    model = attach_penalty(model, "dense_4", l2=0.01)
    model.fit(x, y, callbacks=[PenaltyMonitor("logs")])
    ```

    Args:
        log_dir: Where to write TensorBoard events, or `None` to write none.
        update_freq: `"epoch"`, or how many batches lie between two points
            of the terms' curves over batches (`"batch"` stands for 1), which
            are written besides those over epochs.
        histogram_freq: Epochs between two histograms, 0 for none and for no
            images of single units. Images show all epochs so far; they are
            drawn after the first epoch, at the end of the training, and in
            between ever more rarely, never for more than 0.2 % of the time.
        statistics_freq: Steps between two instrumented ones, 0 for none.
        max_overhead: Instead of `statistics_freq`, the most that the
            instrumented steps may add to the time of the training, as a
            share: 0.01 for 1 %. Compilation and writing are not in it.
        statistics: Names of further statistics: `"quantiles"`, `"kurtosis"`,
            `"participation_ratio"`, `"stable_rank"`, `"effective_rank"`,
            `"dormant_fraction"`, `"saturated_fraction"`, `"unit_rms"`. The
            text page in TensorBoard defines them.
        alerts: What to warn of, once a kind and `fit`, and again when it has
            grown worse: the kinds of findings, `()` for none, a mapping from
            kinds to thresholds other than the default ones, `None` to leave a
            kind out, or `"sparse"` for all but `"dominating"` and
            `"negligible"`, which are usual while a sparse autoencoder warms
            up. The kinds and when they are found, the first three in the
            first step that shows them: `"unused"`, a penalty that the
            model's `train_step` or `compute_loss` does not add to the loss;
            `"not_called"`, a layer that the model did not call;
            `"frozen"`, a penalty in front of which nothing is trainable;
            `"nonfinite"`, any NaN or infinity in
            activations or terms; `"exploding"`, root mean square of the
            activations from 1000 on; `"dead"`, half of the units or more,
            judged by 100 samples a unit at least, of several epochs if one
            has less; `"saturated"`, half of the activations or more close to
            a bound of tanh, sigmoid and the like; `"dominating"`, half of the
            loss or more is the layer's penalty; `"negligible"`, less than
            0.0001 of it is, but not 0, not in the first epoch and not where
            units are dead. The thresholds of the last four are shares, from
            0 to 1. Without a `log_dir` only the terms are judged, not the
            activations. The findings are in TensorBoard's text page too, as
            `actpen/findings`.
        on_finding: Function `f(finding, model)` that is called with every
            `Finding`, once an epoch or, of the first three kinds, once; it
            may set `model.stop_training = True`.
        verbose_terms: Whether Keras's progress bar shows every term instead
            of their sum, `penalty_total`. `logs` have the terms anyway.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a wrong value; when training starts,
            if the model has no penalised or watched layer or `log_dir`
            cannot be written.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = "logs",
        *,
        update_freq: str | int = "epoch",
        histogram_freq: int = 1,
        statistics_freq: int = STATISTICS_FREQ,
        max_overhead: float | None = None,
        statistics: Sequence[str] = (),
        alerts: str | Sequence[str] | Mapping[str, float | None] = tuple(
            THRESHOLDS
        ),
        on_finding: OnFinding | None = None,
        verbose_terms: bool = False,
    ):
        super().__init__()
        self.log_dir: str | None = (
            None if log_dir is None else os.fspath(log_dir)
        )
        if update_freq == "batch":
            update_freq = 1
        elif update_freq != "epoch":
            check_frequency(
                "update_freq", update_freq, "'epoch', 'batch' or an integer", 1
            )
        check_frequency("histogram_freq", histogram_freq, "an integer", 0)
        check_frequency("statistics_freq", statistics_freq, "an integer", 0)
        self.update_freq = update_freq
        self.histogram_freq = histogram_freq
        self.statistics_freq = statistics_freq
        self.max_overhead: float | None = check_overhead(
            max_overhead, statistics_freq
        )
        self.statistics: tuple[str, ...] = check_names(statistics)
        self.alerts = alerts
        self.on_finding = on_finding
        self.verbose_terms = verbose_terms
        self._start()

    def _start(self) -> None:
        """What is not carried into a copy."""
        self._alerts = Alerts(self.alerts, self.on_finding)
        self._session: Session | None = None
        self._runs: Runs | None = None
        self._run: str | None = None
        self._is_copy = False
        self._pace: FixedPace | MeasuredPace = FixedPace(0)
        # Batches trained on: until now, when the epoch began, when last
        # written. None until the first epoch begins.
        self._steps: int | None = None
        self._epoch_start = self._last_written = 0
        self._fit_params: Any = _NO_FIT
        self._validation: dict[str, float] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy that has seen no training."""
        super().__setstate__(state)
        self._is_copy = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stand in for the model's train function."""
        self._open_session()
        self._session.forget_others(self)
        # Without a log_dir nothing shows them.
        self._pace = FixedPace(0)
        if self.log_dir is not None:
            self._session.record_also(self.statistics)
            if self.max_overhead is not None:
                self._pace = MeasuredPace(self.max_overhead)
            else:
                self._pace = FixedPace(self.statistics_freq)
        self._session.install(self)
        self._session.stand_in("train")
        self._fit_params = self.params
        self._steps = None
        self._runs = None
        self._alerts.start()
        self._session.checks.look_for_frozen()
        self._tell_facts()
        self._shorten_progress_bar()

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Start a new period, in the first epoch a new run."""
        if self._steps is None:
            # Not earlier: BackupAndRestore sets epoch, optimizer and
            # coefficients in its on_train_begin.
            self._steps = self._last_written = steps_done(self.model)
            self._open_runs(epoch)
        self._session.state.reset("train")
        self._pace.begin_epoch()
        self._epoch_start = self._steps
        self._validation = None

    # No on_train_batch_end: Keras would wait for every step's logs.
    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Choose what the coming step records."""
        self._tell_facts()
        self._steps = self._epoch_start + batch
        self._write_batches()
        self._steps += 1
        what = "statistics" if self._pace.instruments(batch) else "terms"
        self._session.arm("train", what, self._pace.stopwatch)

    def _write_batches(self) -> None:
        """Write the terms until the last step, where that is asked for."""
        if self._runs is None or self.update_freq == "epoch":
            return
        if self._steps >= self._last_written + self.update_freq:
            self._last_written = self._steps
            if keras.backend.backend() == "jax":
                self._session.model.jax_state_sync()
            means = self._session.means("train")
            self._runs.attempt(self._runs.write_batch, means, self._steps)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stand in for the model's test function."""
        # Not in a fit: a callback may have evaluated another model since that
        # shares the layers, and has a session of its own.
        if self.params is not self._fit_params:
            self._open_session()
            self._shorten_progress_bar()
        self._session.install(self)
        self._session.stand_in("test")
        self._session.state.reset("test")

    def on_test_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Record the terms of the coming step."""
        self._session.arm("test", "terms")

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the terms, and leave a model that was only evaluated."""
        self._validation = self._session.means("test")
        # Keras gives the callbacks of one `fit` the same dictionary, and
        # those of an evaluation of its own another.
        if self.params is not self._fit_params:
            self._session.uninstall(self)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Write the epoch."""
        session = self._session
        logs = {} if logs is None else logs
        # More than was counted, if the last call ran several steps.
        self._steps = max(steps_done(self.model), self._steps)
        self._write_batches()
        means = {"train": session.means("train")}
        # A train_step of the user's own may have returned anything. In model
        # order: Keras has sorted them.
        for key in means["train"]:
            logs.pop(key, None)
        logs.update(means["train"])
        if self._validation is not None:
            means["validation"] = self._validation
            for key in self._validation:
                logs.pop(f"val_{key}", None)
            logs.update({f"val_{k}": v for k, v in self._validation.items()})
        if self._runs is None:
            findings = self._findings(logs, means, {})
        else:
            with self._pace.writing():
                findings = self._write_epoch(epoch, logs, means)
            self._runs.attempt(
                self._runs.write_costs,
                epoch,
                self._pace.costs(),
                self.model.steps_per_execution,
            )
        # Last, because a warning may be an error.
        self._alerts.announce(findings, self.model, len(session.layers))

    def _tell_facts(self) -> None:
        """Tell what the last step has shown, without waiting for it."""
        session = self._session
        if facts := self._alerts.new_facts(session.checks.facts()):
            self._alerts.announce(facts, session.model, len(session.layers))

    def _shorten_progress_bar(self) -> None:
        bar = internals.running_progress_bar()
        if bar is not None and not self.verbose_terms:
            shorten(bar)

    def _findings(
        self, logs: dict[str, Any], means: Means, snapshots: Snapshots
    ) -> list[Finding]:
        return self._alerts.findings(
            self._session.layers,
            means["train"],
            logs.get("loss"),
            snapshots,
            self._session.checks.facts(),
        )

    def _write_epoch(
        self, epoch: int, logs: dict[str, Any], means: Means
    ) -> list[Finding]:
        snapshots, optional = {}, {}
        if self.statistics_freq:
            snapshots = self._session.state.snapshots()
            optional = self._session.state.optional_values(self.statistics)
        findings = self._findings(logs, means, snapshots)
        self._runs.attempt(self._runs.add_findings, epoch, findings)
        has_histograms = (
            self.histogram_freq > 0 and epoch % self.histogram_freq == 0
        )
        self._runs.attempt(
            self._runs.write_epoch,
            epoch,
            logs,
            means,
            snapshots,
            optional,
            has_histograms,
            {
                "train": self._session.checks.unused_keys("train"),
                "validation": self._session.checks.unused_keys("test"),
            },
        )
        return findings

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the model's own train function back."""
        self._fit_params = _NO_FIT
        self._session.uninstall(self)
        if self._runs is not None:
            self._runs.attempt(self._runs.close)

    def _open_session(self) -> None:
        layers = penalized_layers(self.model)
        if not layers:
            raise ValueError(
                "Invalid value received for argument `callbacks`. Expected "
                "PenaltyMonitor only for a model with penalised or watched "
                "layers: call `attach_penalty(model, ...)` or "
                "`watch_activations(model, ...)` first and fit the model that "
                f"it returns. Received: model {self.model.name!r} without any"
            )
        self._session = Session.of(self.model, layers)

    def _open_runs(self, epoch: int) -> None:
        if self.log_dir is None or not backend.is_chief(self.model):
            return
        # Not at the top: importing the package must not import tensorboard.
        from keras_actpen.tensorboard.runs import Runs

        # The last run may be that of another copy: Keras Tuner's Hyperband
        # starts new trials at a later epoch than the first.
        resumed = epoch > 0 and not (self._is_copy and self._run is None)
        runs = Runs(self.log_dir, self._run, resumed)
        try:
            runs.open(
                self._session.layers,
                self.statistics,
                has_units=self.histogram_freq > 0,
            )
        except ValueError:
            self._session.uninstall(self)
            raise
        self._runs, self._run = runs, runs.name
