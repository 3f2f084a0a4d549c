"""One warning per training about each thing that fails."""

import warnings


class WarnOnce:
    """Warns once of each subject, shared by all that may fail."""

    def __init__(self):
        self._told: set[str] = set()

    def __call__(self, subject: str, message: str) -> None:
        """Warn, unless it has been done of this subject.

        Args:
            subject: What it is about: a kind of failure, a key.
            message: What has failed, and what becomes of it.
        """
        if subject not in self._told:
            self._told.add(subject)
            warnings.warn(message, stacklevel=3)
