"""Pickles of models that need this package where they are loaded."""

import functools
import io
import weakref
from typing import Any

import keras


def load_pickled(file: io.BytesIO) -> Any:
    """Load what Keras pickles: a `.keras` file.

    Pickles name this function, so that this package is imported before Keras
    looks for its classes.
    """
    loaded = keras.Operation._unpickle_model(file)
    if isinstance(loaded, keras.Model):
        pickle_with_import(loaded)
    return loaded


def pickle_with_import(model: keras.Model) -> None:
    """Let pickles of this one model name `load_pickled`."""
    vars(model)["__reduce__"] = functools.partial(_reduce, weakref.ref(model))


def _reduce(found: "weakref.ref[keras.Model]") -> tuple[Any, ...]:
    model = found()
    _, arguments = type(model).__reduce__(model)
    return load_pickled, arguments
