"""A log directory as PenaltyMonitor writes it, without any training."""

import os

import numpy as np

from keras_actpen import dashboards, events
from keras_actpen.event_file import EventWriter

LAYERS = ("encoder/dense", "dense_1")
EPOCHS = 3
RUNS = ("actpen", "actpen/train", "actpen/validation")
STATISTICS = (
    "mean",
    "std",
    "min",
    "max",
    "rms",
    "zero_fraction",
    "dead_fraction",
    "nonfinite",
)
SCALARS = (
    "actpen/penalty_total",
    "actpen/penalty_share",
    "actpen/task_loss",
    *(
        f"{quantity}/{layer}/l2"
        for quantity in ("penalty", "penalty.share", "penalty.coefficient")
        for layer in LAYERS
    ),
    *(
        f"activation.{statistic}/{layer}"
        for statistic in STATISTICS
        for layer in LAYERS
    ),
)
HISTOGRAMS = tuple(f"activation.values/{layer}" for layer in LAYERS)
IMAGES = ("actpen/dead_fraction", "actpen/penalty")
TEXTS = ("actpen/attached",)
CHARTS = tuple(
    f"{layer}: {chart}" for layer in LAYERS for chart in ("penalties", "values")
)
HPARAMS = {f"{layer}/l2": 0.01 for layer in LAYERS}
METRICS = tuple((run, "actpen/task_loss") for run in ("train", "validation"))


def write(log_dir: str | os.PathLike[str]) -> None:
    """Write three epochs of two layers with an L2 penalty each."""
    random = np.random.default_rng(0)
    session = EventWriter(os.path.join(log_dir, "actpen"))
    session.add([_hparams_config(), dashboards.session_start(HPARAMS)], 0)
    session.flush()
    for run in ("train", "validation"):
        writer = EventWriter(os.path.join(log_dir, "actpen", run))
        writer.open()
        if run == "train":
            writer.add([_layout(), _attached()], 0)
        for epoch in range(EPOCHS):
            noise = random.uniform(0.8, 1.0)
            values = [
                events.scalar(
                    tag,
                    noise * (1 + index % 3) / (epoch + 1),
                    f"What `{tag}` means.",
                )
                for index, tag in enumerate(SCALARS)
            ]
            if run == "train":
                values += [
                    events.histogram(tag, _buckets(random, epoch), "Values.")
                    for tag in HISTOGRAMS
                ]
                values += [
                    events.image(tag, _heat_map(random, epoch), "Heat map.")
                    for tag in IMAGES
                ]
            writer.add(values, epoch)
            writer.flush()
        writer.close()
    session.add([dashboards.session_end()], EPOCHS)
    session.close()


def _hparams_config() -> events.Value:
    return dashboards.hparams_config(
        {name: "Coefficient of the penalty." for name in HPARAMS},
        {metric: "Loss without penalties." for metric in METRICS},
    )


def _layout() -> events.Value:
    return dashboards.custom_scalars_layout(
        [
            (
                layer,
                [
                    dashboards.multiline_chart(
                        f"{layer}: penalties", [f"penalty/{layer}/l2"]
                    ),
                    dashboards.margin_chart(
                        f"{layer}: values",
                        f"activation.mean/{layer}",
                        f"activation.min/{layer}",
                        f"activation.max/{layer}",
                    ),
                ],
            )
            for layer in LAYERS
        ]
    )


def _attached() -> events.Value:
    rows = "\n".join(f"| {layer} | l2 | 0.01 |" for layer in LAYERS)
    return events.text(
        TEXTS[0], f"| layer | term | coefficient |\n|---|---|---|\n{rows}"
    )


def _buckets(random: np.random.Generator, epoch: int) -> np.ndarray:
    values = random.gamma(2.0, 1.0 + epoch, size=2000)
    counts, edges = np.histogram(values, bins=30)
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


def _heat_map(random: np.random.Generator, epochs: int) -> np.ndarray:
    cells = random.integers(0, 256, (len(LAYERS), epochs + 1, 3), np.uint8)
    return cells.repeat(40, axis=0).repeat(40, axis=1)
