"""Penalise and watch what Keras layers put out, by name, on finished models."""

from keras_actpen import installed  # noqa: F401  First: it imports Keras.

# isort: split
from keras_actpen import penalties
from keras_actpen.control_rules import GECO, PI
from keras_actpen.controllers import TargetController
from keras_actpen.findings import Finding
from keras_actpen.gradients import penalty_gradient_share, suggest_coefficient
from keras_actpen.monitor import PenaltyMonitor
from keras_actpen.plots import plot_activations
from keras_actpen.report import penalty_report
from keras_actpen.schedules import PenaltyScheduler
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
    "GECO",
    "PI",
    "Finding",
    "PenalizedLayer",
    "PenaltyMonitor",
    "PenaltyScheduler",
    "TargetController",
    "attach_penalty",
    "detach_penalty",
    "penalized_layers",
    "penalties",
    "penalty_gradient_share",
    "penalty_report",
    "penalty_summary",
    "penalty_terms",
    "plot_activations",
    "suggest_coefficient",
    "watch_activations",
]

__version__ = "0.1.0"
