"""Tags of what PenaltyMonitor writes, and the definitions shown beside them."""

import re
from collections.abc import Mapping

from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.statistics import optional
from keras_actpen.statistics.snapshot import DEFINITIONS

# TensorBoard shows its groups in alphabetical order, capitals first.
# The first comes before all other groups in TensorBoard, which sorts capitals
# first; the second is that of 0.1.0, for charts and scripts that name it.
OVERVIEW_GROUPS = ("Overview", "actpen")
OVERVIEW = {
    "penalty_total": "Sum of all penalty terms of the epoch.",
    "penalty_share": "Share of all penalty terms in the loss.",
    "task_loss": (
        "Loss without the penalty terms; weight regularizers are in it."
    ),
}
BAND = {
    "lower": "Mean minus standard deviation of the activations.",
    "upper": "Mean plus standard deviation of the activations.",
}
COSTS = {
    "overhead": (
        "Extra time of the epoch's instrumented steps, as a share of the time "
        "that all its steps would take without instrumentation."
    ),
    "statistics_freq": (
        "Steps from one instrumented step to the next, in the long run."
    ),
    "step_ratio": (
        "Time of an instrumented step divided by that of a plain one: medians "
        "of the last few that were timed."
    ),
    "writing_share": (
        "Share of the epoch's time in which the monitor read the device and "
        "wrote to `log_dir`."
    ),
}
FIRING_RATE = "Share of the positions in which each unit is not 0."
LOG_RATES = (
    "Firing rates of the units on the instrumented steps of the epoch, as "
    "powers of ten: a unit at -2 fires in one of 100 positions. Units that did "
    "not fire are left out."
)
HISTOGRAM = (
    "The values of the last instrumented batch of the epoch. Zeros are left "
    "out (`zero_fraction` counts them), and so are NaN and infinities "
    "(`nonfinite` counts them)."
)

_SPECIAL = re.compile(r"[\[\]/%]")


def kind(spec: ActivationSpec) -> str:
    """How the tags of a place begin."""
    return "activation" if spec.on == "output" else spec.on


def spec_path(path: str, spec: ActivationSpec) -> str:
    """How the tags of a place end: the layer's path, and which output.

    No two places have the same: the first output of a layer that is itself
    called `a[1]` is `a[1][0]`.
    """
    if spec.output == 0 and not path.endswith("]"):
        return path
    key = _SPECIAL.sub(lambda one: f"%{ord(one[0]):02X}", str(spec.output))
    return f"{path}[{key}]"


def statistic_tag(name: str, path: str, spec: ActivationSpec) -> str:
    """Tag of a statistic of the activations at a place of a layer."""
    return f"{kind(spec)}.{name}/{spec_path(path, spec)}"


def band_tag(edge: str, path: str, spec: ActivationSpec) -> str:
    """Tag of an edge, `"lower"` or `"upper"`, of the mean's band.

    Both edges are in one group, which no page opens by itself.
    """
    return f"{statistic_tag('std_band', path, spec)}/{edge}"


def definitions(asked: tuple[str, ...]) -> dict[str, str]:
    """What the statistics mean that are always taken, and those asked for."""
    return {
        **DEFINITIONS,
        "firing_rate": FIRING_RATE,
        **{
            curve: optional.DEFINITIONS[curve]
            for name in asked
            for curve in optional.CURVES[name]
        },
    }


def coefficients(layers: Mapping[str, PenalizedLayer]) -> dict[str, float]:
    """Coefficients by `path/term`."""
    return {
        f"{path}/{name}": layer.actpen.coefficients[name]
        for path, layer in layers.items()
        for name in layer.actpen.terms
    }
