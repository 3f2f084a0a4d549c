"""PenaltyMonitor: when to read the device's state, and what to write."""

import os
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_actpen import backend
from keras_actpen.session import Session
from keras_actpen.surgery import penalized_layers

if TYPE_CHECKING:
    from keras_actpen.runs import Runs

_NO_FIT = object()


class PenaltyMonitor(keras.callbacks.Callback):
    """Logs every penalty term and the activations of the penalised layers.

    Terms are exact: they are accumulated on the device at every step,
    weighted by batch size as Keras weighs the loss, and read once per epoch.
    They are in `logs`, hence in the history and the progress bar, as
    `penalty/<path>/<term>` and `val_penalty/<path>/<term>`. Other callbacks
    can monitor them, wherever they stand in the list, if they are told the
    direction: `EarlyStopping("val_penalty/dense_4/l2", mode="min")`.

    Statistics and histograms of the activations are taken on the first step
    of each epoch and on every `statistics_freq`-th, by a second compiled
    train function; all other steps run without them.

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
        histogram_freq: Epochs between two histograms, 0 for none.
        statistics_freq: Steps between two instrumented ones, 0 for none.

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
        statistics_freq: int = 50,
    ):
        super().__init__()
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        if update_freq == "batch":
            update_freq = 1
        elif update_freq != "epoch":
            _check_frequency(
                "update_freq", update_freq, "'epoch', 'batch' or an integer", 1
            )
        _check_frequency("histogram_freq", histogram_freq, "an integer", 0)
        _check_frequency("statistics_freq", statistics_freq, "an integer", 0)
        self.update_freq = update_freq
        self.histogram_freq = histogram_freq
        self.statistics_freq = statistics_freq
        self._start()

    def _start(self) -> None:
        """What is not carried into a copy."""
        self._session: Session | None = None
        self._runs: Runs | None = None
        self._run: str | None = None
        self._next_instrumented = 0
        # Batches trained on: all, when the epoch began, when last written.
        self._iterations: int | None = None
        self._epoch_start = self._last_written = 0
        self._fit_params: Any = _NO_FIT
        self._validation: dict[str, float] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Arguments only: Keras Tuner deep-copies callbacks."""
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy that has seen no training."""
        super().__init__()
        vars(self).update(state)
        self._start()

    def on_train_begin(self, logs=None):
        """Stand in for the model's train function."""
        self._open_session()
        self._session.forget_others(self)
        self._session.install(self)
        self._session.stand_in("train")
        self._fit_params = self.params
        self._iterations = None
        self._runs = None

    def on_epoch_begin(self, epoch, logs=None):
        """Start a new period, in the first epoch a new run."""
        if self._iterations is None:
            # Not earlier: BackupAndRestore sets epoch, optimizer and
            # coefficients in its on_train_begin.
            self._iterations = self._last_written = _iterations(self.model)
            self._open_runs(epoch)
        self._session.reset("train")
        self._next_instrumented = 0
        self._epoch_start = self._iterations
        self._validation = None

    def on_train_batch_begin(self, batch, logs=None):
        """Choose what the coming step records."""
        what = "terms"
        # Without a log_dir nothing shows them.
        watching = self.statistics_freq and self.log_dir is not None
        if watching and batch >= self._next_instrumented:
            what = "statistics"
            done = batch // self.statistics_freq
            self._next_instrumented = (done + 1) * self.statistics_freq
        self._session.arm("train", what)

    def on_train_batch_end(self, batch, logs=None):
        """Write the terms over batches, where that is asked for."""
        self._iterations = self._epoch_start + batch + 1
        if self._runs is None or self.update_freq == "epoch":
            return
        if self._iterations >= self._last_written + self.update_freq:
            self._last_written = self._iterations
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            means = self._session.means("train")
            self._runs.write_batch(means, self._iterations)

    def on_test_begin(self, logs=None):
        """Stand in for the model's test function."""
        self._open_session()
        self._session.install(self)
        self._session.stand_in("test")
        self._session.reset("test")

    def on_test_batch_begin(self, batch, logs=None):
        """Record the terms of the coming step."""
        self._session.arm("test", "terms")

    def on_test_end(self, logs=None):
        """Keep the terms, and leave a model that was only evaluated."""
        self._validation = self._session.means("test")
        # Keras gives the callbacks of one `fit` the same dictionary, and
        # those of an evaluation of its own another.
        if self.params is not self._fit_params:
            self._session.uninstall(self)

    def on_epoch_end(self, epoch, logs=None):
        """Write the epoch."""
        session = self._session
        logs = {} if logs is None else logs
        means = {"train": session.means("train")}
        # A train_step of the user's own may have returned anything.
        logs.update(means["train"])
        if self._validation is not None:
            means["validation"] = self._validation
            logs.update({f"val_{k}": v for k, v in self._validation.items()})
        if self._runs is None:
            return
        snapshots = {}
        if self.statistics_freq:
            snapshots = session.snapshots()
        histograms = self.histogram_freq and epoch % self.histogram_freq == 0
        self._runs.write_epoch(
            epoch, logs, means, snapshots, snapshots if histograms else {}
        )

    def on_train_end(self, logs=None):
        """Put the model's own train function back."""
        self._fit_params = _NO_FIT
        self._session.uninstall(self)
        if self._runs is not None:
            self._runs.close()

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
        from keras_actpen.runs import Runs

        runs = Runs(self.log_dir, self._run, resumed=epoch > 0)
        try:
            runs.open(self._session.layers)
        except ValueError:
            self._session.uninstall(self)
            raise
        self._runs, self._run = runs, runs.name


def _iterations(model: keras.Model) -> int:
    """Number of batches that a model has been trained on."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:  # a train_step of the user's own may have several
        return 0
    batches = getattr(optimizer, "gradient_accumulation_steps", None) or 1
    # int() cannot read a MirroredVariable, a sum can.
    return int(ops.add(optimizer.iterations, 0)) * batches


def _check_frequency(
    argument: str, value: Any, expected: str, least: int
) -> None:
    expected = f"Expected {expected} >= {least}."
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(
            f"Invalid type received for argument `{argument}`. {expected} "
            f"Received: {argument}={value!r} (of type {type(value).__name__})"
        )
    if isinstance(value, str) or value < least:
        raise ValueError(
            f"Invalid value received for argument `{argument}`. {expected} "
            f"Received: {argument}={value!r}"
        )
