"""The progress bar of the running `fit` or `evaluate`."""

import sys
from types import FrameType

import keras


def running_progress_bar() -> keras.callbacks.ProgbarLogger | None:
    """Find the progress bar that Keras has added to the running callbacks.

    Keras (3.15) tells a callback neither of the list it is in nor of the other
    callbacks; the list is found as the object whose method runs.

    Returns:
        The bar, or `None` if there is none or it is of a class of the user's.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            for callback in caller.callbacks:
                if type(callback) is keras.callbacks.ProgbarLogger:
                    return callback
            return None
        frame = frame.f_back
    return None
