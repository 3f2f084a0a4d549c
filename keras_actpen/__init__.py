"""Penalize and watch the outputs of Keras layers of finished models."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.2.0"


def __dir__() -> list[str]:
    """Public names alone."""
    return sorted(__all__)


def _is_for_the_command() -> bool:
    """Whether `keras-actpen` or `python -m keras_actpen` is starting."""
    (name, *rest) = sys.argv or [""]
    if name == "-m":  # as long as Python looks for what to run
        return sys.orig_argv[-1 - len(rest)] == "keras_actpen"
    return Path(name).stem == "keras-actpen"


# The command answers `--help` without a backend. Then it reloads this module,
# which finds itself loaded.
if TYPE_CHECKING or "__all__" in globals() or not _is_for_the_command():
    from keras_actpen import backend  # noqa: F401  First: it imports Keras.

    # isort: split
    from keras_actpen import penalties
    from keras_actpen.attach.attach import (
        attach_penalty,
        detach_penalty,
        penalized_layers,
        watch_activations,
    )
    from keras_actpen.attach.penalized_layer import PenalizedLayer
    from keras_actpen.callbacks.control_rules import GECO, PI, LogPI
    from keras_actpen.callbacks.penalty_monitor import PenaltyMonitor
    from keras_actpen.callbacks.penalty_scheduler import PenaltyScheduler
    from keras_actpen.callbacks.target_controller import TargetController
    from keras_actpen.reports.gradient_share import (
        penalty_gradient_share,
        suggest_coefficient,
    )
    from keras_actpen.reports.penalty_report import penalty_report
    from keras_actpen.reports.penalty_summary import penalty_summary
    from keras_actpen.reports.penalty_terms import penalty_terms
    from keras_actpen.reports.plot_activations import plot_activations
    from keras_actpen.reports.unit_statistics import unit_statistics
    from keras_actpen.statistics.findings import Finding

__all__ = [
    "GECO",
    "PI",
    "Finding",
    "LogPI",
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
    "unit_statistics",
    "watch_activations",
]
