"""How many batches a model has been trained on."""

import keras

from keras_actpen import backend, internals


class StepCount:
    """The steps of one `fit`, by the optimizer or else by the hooks.

    Keras lets a step begin that does not run where data of unknown length has
    come to its end: the last step of an epoch counts once it is known to have
    run. What was counted is a lower bound: one call may run several steps.

    Attributes:
        done: Batches trained on.
        epoch_start: Those when the epoch began.
        begun: Number of the step that may still be running, or `None`.
    """

    def __init__(self):
        self.done: int = 0
        self.epoch_start: int = 0
        self.begun: int | None = None
        self._optimizer_start = 0
        self._runs_before = 0

    def begin_epoch(self, model: keras.Model) -> None:
        """Start from the optimizer's steps, or from one's own if more."""
        # An optimizer that a train_step of the user's own leaves alone has 0.
        self._optimizer_start = steps_done(model)
        self.done = self.epoch_start = max(self._optimizer_start, self.done)
        self.begun = None

    def begin_step(self, batch: int, runs: int = 0) -> int:
        """A step begins, so that the one before it has run.

        Args:
            batch: Its number in the epoch.
            runs: Calls of the train function that have run in the epoch.

        Returns:
            Its number in the training.
        """
        self.end_step()
        self._runs_before = runs
        self.begun = self.epoch_start + batch
        return self.begun

    def end_step(self) -> None:
        """The step that has begun, if any, has run."""
        if self.begun is not None:
            self.done = self.begun + 1
            self.begun = None

    def has_run(self, runs: int) -> bool:
        """Whether the step that has begun, if any, has run.

        Args:
            runs: As in `begin_step`, until now.
        """
        return self.begun is None or runs > self._runs_before

    def settle(self, has_run: bool) -> bool:
        """Count the step that has begun, if any, or drop it.

        Args:
            has_run: Whether it has run.

        Returns:
            Whether it was dropped.
        """
        if has_run:
            self.end_step()
        is_dropped, self.begun = self.begun is not None, None
        return is_dropped

    def is_missed_by(self, model: keras.Model) -> bool:
        """Whether the optimizer has seen all steps but the one that has begun.

        Only if it counts all batches: else this says nothing.
        """
        if self.begun is None:
            return False
        moved = steps_done(model) - self._optimizer_start
        begun = self.begun - self.epoch_start
        return 0 < moved <= begun < moved + model.steps_per_execution


def steps_done(model: keras.Model) -> int:
    """Number of batches that a model's optimizer has seen.

    This is what a learning rate schedule counts: with gradient accumulation,
    several batches make one update.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:  # a train_step of the user's own may have several
        return 0
    batches = internals.batches_seen(optimizer)
    if isinstance(batches, keras.Variable):
        # int() cannot read a MirroredVariable.
        batches = backend.local_values(batches)[0]
    return int(batches)
