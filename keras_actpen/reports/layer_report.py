"""What a report holds of every layer, and how it is shown."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from keras_actpen.reports.tables import LayerTable
from keras_actpen.statistics.alerts import sentences
from keras_actpen.statistics.findings import (
    SAMPLES_TO_BE_DEAD,
    Finding,
    percent,
)

_NO_LOSS = (
    "Shares of the loss and of the gradient are not known: they need a "
    "compiled model, the targets `y` and a loss that is not NaN."
)


@dataclass(frozen=True)
class TermReport:
    """One penalty term.

    Attributes:
        name: Its name.
        on: What it is on: `"output"`, `"preactivation"`, `"output[1]"`.
        coefficient: Its coefficient.
        value: Coefficient times value, the mean over the samples.
        loss_share: `value` as a share of the loss; NaN if that is not known.
        gradient_share: Its share of the gradient on the first batch, see
            `penalty_gradient_share`; NaN if that is not known.
    """

    name: str
    on: str
    coefficient: float
    value: float
    loss_share: float
    gradient_share: float


@dataclass(frozen=True)
class LayerReport:
    """One penalized or watched layer.

    Attributes:
        path: Its path.
        layer_class: Name of its class.
        output_shape: Its output shape as text.
        terms: Its terms, none if it is only watched.
        statistics: For each place, named as in `TermReport.on`, the
            statistics of the activations by name.
        unjudged: The places at which too few samples were seen to call a
            unit dead.
    """

    path: str
    layer_class: str
    output_shape: str
    terms: tuple[TermReport, ...]
    statistics: Mapping[str, Mapping[str, float]]
    unjudged: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class PenaltyReport:
    """What `penalty_report` returns; a table where it is printed or shown.

    Attributes:
        model: Name of the model.
        samples: Number of samples.
        loss: The loss, penalties included; NaN if it is not known.
        layers: One entry per penalized or watched layer, in model order.
        findings: What is wrong.
    """

    model: str
    samples: int
    loss: float
    layers: tuple[LayerReport, ...]
    findings: tuple[Finding, ...]

    def __rich__(self) -> LayerTable:
        """The report as a table, the findings below it."""
        return _table(self)

    def __str__(self) -> str:
        """The report as plain text, of the terminal's width."""
        return str(_table(self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The report in a notebook."""
        return _table(self)._repr_html_()


def _table(report: PenaltyReport) -> LayerTable:
    what = f"{report.samples} samples"
    if not math.isnan(report.loss):
        what += f", loss {report.loss:.4g}"
    table = LayerTable(
        f"Penalties of model {report.model!r} on {what}",
        [
            ("On", "left"),
            ("Term", "left"),
            ("Coefficient", "right"),
            ("Value", "right"),
            ("Loss share", "right"),
            ("Gradient share", "right"),
            ("Zeros", "right"),
            ("Dead units", "right"),
        ],
    )
    for layer in report.layers:
        for on, statistics in layer.statistics.items():
            dead = percent(statistics["dead_fraction"])
            if on in layer.unjudged:
                dead = "too few samples"
            shares = percent(statistics["zero_fraction"]), dead
            terms = [term for term in layer.terms if term.on == on]
            for term in terms:
                table.add_row(layer.path, on, *_cells(term), *shares)
            if not terms:
                empty = ("",) * 4
                table.add_row(layer.path, on, "watched", *empty, *shares)
    if math.isnan(report.loss):
        table.notes.append(_NO_LOSS)
    nothing = "No findings."
    if any(layer.unjudged for layer in report.layers):
        table.notes.append(
            "There are too few samples to judge which units are dead: it takes "
            f"{SAMPLES_TO_BE_DEAD} per unit."
        )
        nothing = "No other findings."
    table.notes += sentences(report.findings) or [nothing]
    return table


def _cells(term: TermReport) -> tuple[str, ...]:
    pull = term.gradient_share
    return (
        term.name,
        f"{term.coefficient:g}",
        f"{term.value:.4g}",
        percent(term.loss_share),
        "-" if math.isnan(pull) else f"{pull:.2g}",
    )
