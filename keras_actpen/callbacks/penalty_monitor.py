"""PenaltyMonitor: its arguments, and what it does at each hook."""

# Annotations stay as written, so that `help()` shows short names of types.
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from keras_actpen import internals
from keras_actpen.attach.attach import penalized_layers
from keras_actpen.callbacks import dead_units, frequencies
from keras_actpen.callbacks.copyable_callback import CopyableCallback
from keras_actpen.callbacks.monitored_fit import MonitoredFit
from keras_actpen.callbacks.short_progress_bar import shorten
from keras_actpen.instrumentation.session import Session
from keras_actpen.penalties.validation import check_integer
from keras_actpen.statistics.alerts import Alerts, OnFinding
from keras_actpen.statistics.optional import StatisticName, check_names
from keras_actpen.statistics.since_fired import check_dead_after
from keras_actpen.statistics.snapshot import STATISTICS
from keras_actpen.statistics.thresholds import THRESHOLDS, AlertKinds
from keras_actpen.statistics.unit_values import UnitValues
from keras_actpen.tensorboard.log_directory import absolute, check_log_dir

_NO_FIT = object()


class PenaltyMonitor(CopyableCallback):
    """Logs every penalty term and the activations of the penalized layers.

    Terms are exact: they are accumulated at every step, weighted by batch
    size as Keras weighs the loss, and read once per epoch. They are in `logs`
    as `penalty/<path>/<term>` and `val_penalty/<path>/<term>`. Other
    callbacks can monitor them, at any place in the list, if they are told the
    direction: `EarlyStopping("val_penalty/dense_4/l2", mode="min")`.

    Statistics and histograms of the activations are taken on the first step
    of each epoch and on every `statistics_freq`-th, by a second compiled
    train function; all other steps run without them.

    TensorBoard shows everything under the runs `actpen/train` and
    `actpen/validation` of `log_dir`; a further `fit` from epoch 0 gets the
    runs `actpen-2/...`. Writing takes neither TensorFlow nor a server.

    Example:
    ```python
    model = attach_penalty(model, "dense_4", l2=0.01)
    model.fit(x, y, callbacks=[PenaltyMonitor("logs")])
    ```

    Args:
        log_dir: Where to write TensorBoard events, or `None` to write none.
        update_freq: `"epoch"`, or for curves of the terms over batches too:
            `"batch"`, or how many batches lie between two of their points.
        histogram_freq: Epochs between two histograms, 0 for none and for no
            images of single units.
        statistics_freq: Steps between two instrumented ones, 0 for none.
        max_overhead: Instead of `statistics_freq`, the most that the
            instrumented steps may add to the time of the training, as a
            share: 0.01 for 1 %. Compilation and writing are not in it.
        statistics: Names of additional statistics: `"quantiles"`,
            `"kurtosis"`, `"participation_ratio"`, `"stable_rank"`,
            `"effective_rank"`, `"dormant_fraction"`, `"saturated_fraction"`,
            `"unit_rms"`. The text page in TensorBoard defines them.
        statistics_in_logs: Names of statistics of the training that `logs` get
            too, for callbacks later in the list: `("l0",)` for
            `activation.l0/<path>`.
        dead_after: Number of positions after which a unit that has not fired
            is called dead. A position is a sample, or a step or pixel of one:
            all axes of `(batch, ..., units)` but the last count; masked
            positions do not. Every step of the `fit` counts, across epochs,
            but none from before it was resumed. `None` means the positions of
            the first epoch, but at least 10,000. Until that many were seen,
            all of them count (`dead_window` in TensorBoard).
        validation_statistics: Whether to take statistics and histograms of
            the validation too, with the same frequency; they are in its run.
        images: Whether to draw images of layers and units by epochs for
            TensorBoard's Images page, after 1, 2, 4, 8, ... epochs and at the
            end. The Activations tab shows the same without them.
        alerts: What to warn of, once per kind and `fit`, and again when it has
            grown worse: the kinds of findings, `()` for none, a mapping from
            kinds to thresholds other than the default ones, `None` to leave a
            kind out, or `"sparse"` for all but `"dominating"` and
            `"negligible"`, which are usual while a sparse autoencoder warms
            up. The kinds and when they are found, the first three in the
            first step that shows them: `"unused"`, a penalty that the model's
            `train_step` or `compute_loss` does not add to the loss;
            `"not_called"`, a layer that the model did not call; `"frozen"`, a
            penalty that depends on nothing trainable; `"nonfinite"`, any NaN
            or infinity in activations or terms; `"exploding"`, activations
            whose root mean square is 1000 or more; `"dead"`, half of the units
            or more, judged by at least 100 positions, see `dead_after`;
            `"saturated"`, half of the activations or more close to a bound of
            tanh, sigmoid and the like; `"dominating"`, half of the loss or
            more is the layer's penalty; `"negligible"`, less than 0.0001 of it
            is, but not 0 (not in the first epoch, nor where units are dead or
            a callback moves the coefficient). The last four thresholds are
            shares. Without statistics only the terms are judged.
        on_finding: Function `f(finding, model)` that is called with every
            `Finding`, once per epoch or, for the first three kinds, once; it
            may set `model.stop_training = True`.
        on_dead_units: Function `f(layer, mask)` that is called after each
            epoch with every layer and a boolean array of shape `(units,)`,
            true where a unit of its output is dead by `dead_after`. It may
            set weights, to resample the units of a sparse autoencoder.
        hparams: Other hyperparameters by name, for TensorBoard's HParams page.
        verbose_terms: Whether Keras's progress bar shows every term instead
            of their sum, `penalty_total`. `logs` have the terms anyway.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a wrong value; when training starts,
            if the model has no penalized or watched layer or `log_dir`
            cannot be written.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = "logs",
        *,
        update_freq: Literal["epoch", "batch"] | int = "epoch",
        histogram_freq: int = 1,
        statistics_freq: int = frequencies.STATISTICS_FREQ,
        max_overhead: float | None = None,
        statistics: Sequence[StatisticName] = (),
        statistics_in_logs: Sequence[str] = (),
        validation_statistics: bool = False,
        images: bool = False,
        dead_after: int | None = None,
        alerts: AlertKinds = tuple(THRESHOLDS),
        on_finding: OnFinding | None = None,
        on_dead_units: dead_units.OnDeadUnits | None = None,
        hparams: Mapping[str, Any] | None = None,
        verbose_terms: bool = False,
    ):
        super().__init__()
        self.log_dir: str | None = (
            None if log_dir is None else check_log_dir(log_dir)
        )
        check_integer("histogram_freq", histogram_freq, "an integer >= 0", 0)
        check_integer("statistics_freq", statistics_freq, "an integer >= 0", 0)
        self.update_freq: str | int = frequencies.check_update_freq(update_freq)
        self.histogram_freq = histogram_freq
        self.statistics_freq = statistics_freq
        self.max_overhead: float | None = frequencies.check_overhead(
            max_overhead, statistics_freq
        )
        self.statistics: tuple[str, ...] = check_names(statistics)
        self.statistics_in_logs: tuple[str, ...] = check_names(
            statistics_in_logs, "statistics_in_logs", STATISTICS
        )
        self.validation_statistics = validation_statistics
        self.images = images
        self.dead_after: int | None = check_dead_after(dead_after)
        self.alerts = alerts
        self.on_finding = on_finding
        Alerts(alerts, on_finding)  # checks both
        self.on_dead_units: dead_units.OnDeadUnits | None = (
            dead_units.check_hook(on_dead_units)
        )
        self.hparams: dict[str, Any] = dict(hparams or {})
        self.verbose_terms = verbose_terms
        frequencies.check_takes_effect(vars(self))
        self._start()

    def _start(self) -> None:
        """What is not carried into a copy."""
        self._session: Session | None = None
        self._fit: MonitoredFit | None = None
        self._fit_params: Any = _NO_FIT
        # Where it writes, by the `log_dir` that was passed, and the run there.
        self._directories: dict[str, str] = {}
        self._run: str | None = None
        self._is_copy = False

    @property
    def unit_statistics(self) -> dict[str, UnitValues]:
        """What each unit did in the last epoch, by the path of its layer.

        `rate` covers the instrumented steps; `since_fired` covers all steps
        of the training and is 0 if the unit fired anywhere in the last one.
        `rms` needs `statistics=("unit_rms",)`; `mean` and `max` are `None`.
        """
        return {} if self._fit is None else dict(self._fit.units)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy that has seen no training."""
        super().__setstate__(state)
        self._is_copy = True

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stand in for the model's train function."""
        self._open_session()
        dead_units.check_is_called(self.on_dead_units, self._session.layers)
        self._session.forget_others(self)
        self._fit = MonitoredFit(self, self._session, self._directory())
        self._session.install(self)
        self._session.stand_in("train")
        self._fit_params = self.params
        self._session.checks.look_for_frozen()
        self._fit.tell_facts()
        self._shorten_progress_bar()

    def _directory(self) -> str | None:
        """Absolute path of the log directory, the same in every `fit`."""
        if self.log_dir is None:
            return None
        if self.log_dir not in self._directories:
            self._directories = {self.log_dir: absolute(self.log_dir)}
            self._run = None
        return self._directories[self.log_dir]

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Start a new period, in the first epoch a new run."""
        if not self._fit.has_begun:
            # Not earlier: BackupAndRestore sets the epoch in on_train_begin.
            # The last run may be that of another copy: Keras Tuner's
            # Hyperband starts new trials at a later epoch than the first.
            resumed = epoch > 0 and not (self._is_copy and self._run is None)
            try:
                self._run = self._fit.begin(self._run, resumed)
            except ValueError:
                self._session.uninstall(self)
                raise
        self._fit.begin_epoch()

    # No on_train_batch_end: Keras would wait for every step's logs.
    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Choose what the coming step records."""
        self._fit.before_step(batch)

    @property
    def _is_fitting(self) -> bool:
        """Whether an evaluation is that of the running `fit`."""
        # Keras gives the callbacks of one `fit` the same dictionary.
        return self.params is self._fit_params

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stand in for the model's test function."""
        # Another model that shares the layers has a session of its own.
        if not self._is_fitting:
            self._open_session()
            self._shorten_progress_bar()
        self._session.install(self)
        self._session.stand_in("test")
        self._session.begin_period("test")
        if self._is_fitting:
            self._fit.begin_validation()

    def on_test_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Choose what the coming step records."""
        if self._is_fitting:
            self._fit.before_validation_step(batch)
        else:
            self._session.request("test", "terms")

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the terms, or leave a model that was only evaluated."""
        if self._is_fitting:
            self._fit.end_validation()
        else:
            self._session.uninstall(self)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Write the epoch."""
        self._fit.end_epoch(epoch, {} if logs is None else logs)

    def _shorten_progress_bar(self) -> None:
        """Show one number for all terms, unless all are asked for."""
        bar = internals.running_progress_bar()
        if bar is not None and not self.verbose_terms:
            shorten(bar)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the model's own train function back."""
        self._fit_params = _NO_FIT
        self._session.uninstall(self)
        self._fit.end()

    def _open_session(self) -> None:
        layers = penalized_layers(self.model)
        if not layers:
            raise ValueError(
                "Invalid value received for argument `callbacks`. Expected "
                "PenaltyMonitor only for a model with penalized or watched "
                "layers: call `attach_penalty(model, ...)` or "
                "`watch_activations(model, ...)` first and fit the model that "
                f"it returns. Received: model {self.model.name!r} without any"
            )
        self._session = Session.of(self.model, layers)
