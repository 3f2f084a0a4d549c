"""Imports Keras, and says what to do where its backend is not installed."""

import importlib.util

BACKENDS = ("tensorflow", "jax", "torch")


def advice(missing: str) -> str:
    """What to do where the backend that Keras wants is not installed.

    Args:
        missing: The backend.
    """
    others = [
        backend
        for backend in BACKENDS
        if backend != missing and importlib.util.find_spec(backend)
    ]
    first = f"Keras's backend {missing!r} is not installed. "
    if not others:
        return first + f"Install it: pip install 'keras-actpen[{missing}]'"
    return (
        first + "Set the environment variable KERAS_BACKEND to one that is, "
        f"before Python starts: KERAS_BACKEND={others[0]}"
    )


def _import_keras() -> None:
    try:
        import keras  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in BACKENDS:
            raise
        raise ModuleNotFoundError(
            advice(error.name), name=error.name
        ) from error


_import_keras()
