"""Penalise and watch what Keras layers put out, by name, on finished models."""

from keras_actpen import penalties
from keras_actpen.monitor import PenaltyMonitor
from keras_actpen.summary import penalty_summary
from keras_actpen.surgery import (
    attach_penalty,
    detach_penalty,
    penalized_layers,
    watch_activations,
)
from keras_actpen.terms import penalty_terms
from keras_actpen.wrapper import PenalizedLayer

__all__ = [
    "PenalizedLayer",
    "PenaltyMonitor",
    "attach_penalty",
    "detach_penalty",
    "penalized_layers",
    "penalties",
    "penalty_summary",
    "penalty_terms",
    "watch_activations",
]

__version__ = "0.1.0"
