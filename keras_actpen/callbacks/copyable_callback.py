"""A callback whose copies have seen no training."""

from typing import Any

import keras


class CopyableCallback(keras.callbacks.Callback):
    """Base of the callbacks here: Keras Tuner deep-copies callbacks.

    A copy takes along what the constructor was given, and no more: attributes
    whose name begins with `_` belong to a training, and `_start` makes them.
    """

    def _start(self) -> None:
        """Set what belongs to a training."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """The arguments only."""
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
