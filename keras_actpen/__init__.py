"""Penalise and watch what Keras layers put out, by name, on finished models."""

from keras_actpen import penalties
from keras_actpen.surgery import (
    attach_penalty,
    detach_penalty,
    penalized_layers,
    watch_activations,
)
from keras_actpen.wrapper import PenalizedLayer

__all__ = [
    "PenalizedLayer",
    "attach_penalty",
    "detach_penalty",
    "penalized_layers",
    "penalties",
    "watch_activations",
]

__version__ = "0.1.0"
