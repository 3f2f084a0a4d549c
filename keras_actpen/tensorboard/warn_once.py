"""One warning a training, whatever fails and however often."""

import warnings


class WarnOnce:
    """Warns the first time it is called, shared by all that may fail."""

    def __init__(self):
        self._told = False

    def __call__(self, message: str) -> None:
        """Warn, unless that has been done.

        Args:
            message: What has failed, and what becomes of it.
        """
        if not self._told:
            self._told = True
            warnings.warn(message, stacklevel=3)
