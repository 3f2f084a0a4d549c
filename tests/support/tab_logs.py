"""Writes logs as PenaltyMonitor does, without a model: any size, any values.

    training = LoggedTraining("logs", plain_layers(3))
    training.start()
    for epoch in range(12):
        training.write_epoch(epoch)

or, from a shell, `python tests/support/tab_logs.py logs` for one of each kind.
"""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorboard.compat.proto.summary_pb2 as summary_pb2
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from keras_actpen_tensorboard import schema

STATISTICS = {
    "mean": "Mean of all finite activations.",
    "std": "Standard deviation of all finite activations.",
    "min": "Smallest finite activation.",
    "max": "Largest finite activation.",
    "rms": "Square root of the mean square of all finite activations.",
    "zero_fraction": "Share of the finite activations that are exactly 0.",
    "dead_fraction": "Share of the units that never left 0.",
    "nonfinite": "Number of NaN and infinite activations.",
}
START_TIME = 1_700_000_000.0
POSITIONS = 1920.0


@dataclasses.dataclass(frozen=True)
class LoggedLayer:
    """A layer of a training that never was."""

    path: str
    kind: str = "Dense"
    units: int = 32
    # Coefficient by term; none for a layer that is only watched.
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # How near to all zeros its units end, from 0 to 1.
    dying: float = 0.0
    is_preactivation_seen: bool = False

    def document(self) -> dict[str, Any]:
        """Its part of the model document."""
        kinds = ["activation"]
        if self.is_preactivation_seen:
            kinds.append("preactivation")
        return {
            "path": self.path,
            "class": self.kind,
            "output_shape": f"(None, {self.units})",
            "places": [
                {
                    "on": "output" if kind == "activation" else kind,
                    "output": 0,
                    "kind": kind,
                    "path": self.path,
                }
                for kind in kinds
            ],
            "terms": [
                {
                    "name": name,
                    "on": "output",
                    "penalty": f"{name.upper()}(coefficient={coefficient:g}, "
                    "reduction='batch')",
                    "formula": "c * sum|h| / batch"
                    if name == "l1"
                    else "c * sum h^2 / batch",
                    "coefficient": coefficient,
                }
                for name, coefficient in self.terms.items()
            ],
        }


def plain_layers(
    count: int, prefix: str = "", units: int = 32
) -> list[LoggedLayer]:
    """Layers of which every third is penalized; some die."""
    kinds = ("conv_a", "conv_b", "attention_output", "mlp", "conv_c")
    return [
        LoggedLayer(
            f"{prefix}block_{index // 5}/{kinds[index % 5]}",
            "Conv2D" if "conv" in kinds[index % 5] else "Dense",
            units,
            {"l1": 1e-4 * (1 + index % 7)} if index % 3 == 0 else {},
            dying=0.9 * math.exp(-(((index - count * 0.6) / 6) ** 2)),
        )
        for index in range(count)
    ]


def digits_layers(l1: float = 1e-3) -> list[LoggedLayer]:
    """A small network with all that a page can show."""
    return [
        LoggedLayer("stage1/conv_a", "Conv2D", 16, dying=0.1),
        LoggedLayer("stage1/conv_b", "Conv2D", 16, {"l2": 1e-4}, 0.15),
        LoggedLayer("stage2/conv_a", "Conv2D", 24, {"l1": 2e-4}, 0.4),
        LoggedLayer("stage2/conv_b", "Conv2D", 24, {"l1": 2e-4}, 0.3),
        LoggedLayer(
            "head/hidden",
            "Dense",
            96,
            {"l1": l1, "l2": 1e-4},
            0.7,
            is_preactivation_seen=True,
        ),
        LoggedLayer("head/logits", "Dense", 10),
    ]


class LoggedTraining:
    """Writes `<log_dir>/actpen/train` and `.../validation`.

    Args:
        log_dir: The log directory.
        layers: The layers, in model order.
        seed: What all values follow from.
        has_validation: Whether there is one.
        document: What to change in the model document.
        spoil: Values by tag that replace what would be written.
        has_tensors: Whether to write units, positions and values.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        layers: Sequence[LoggedLayer],
        *,
        seed: int = 0,
        has_validation: bool = True,
        document: Mapping[str, Any] | None = None,
        spoil: Mapping[str, float] | None = None,
        has_tensors: bool = True,
    ):
        self.layers = list(layers)
        self._seed = seed
        self._spoil = dict(spoil or {})
        self._document = dict(document or {})
        self._has_tensors = has_tensors
        phases = ["train", "validation"] if has_validation else ["train"]
        self._files = {
            phase: _EventFile(Path(log_dir, "actpen", phase))
            for phase in phases
        }

    def start(self) -> None:
        """Write the model document."""
        document = {
            "schema": schema.SCHEMA,
            "version": "0.2.0",
            "model": "functional",
            "statistics": STATISTICS,
            "layers": [layer.document() for layer in self.layers],
        } | self._document
        self._files["train"].add(
            [tensor(schema.MODEL, json.dumps(document).encode())], 0
        )

    def write_epoch(self, epoch: int) -> None:
        """Write what a training has seen of an epoch."""
        for phase, file in self._files.items():
            file.add(list(self._values(phase, epoch)), epoch)

    def write(self, epochs: int) -> "LoggedTraining":
        """Start, and write so many epochs."""
        self.start()
        for epoch in range(epochs):
            self.write_epoch(epoch)
        return self

    def _values(self, phase: str, epoch: int) -> Iterable[Any]:
        is_train = phase == "train"
        random = np.random.default_rng([self._seed, epoch, is_train])
        progress = 1 - math.exp(-epoch / 6)
        task = (2.3 if is_train else 2.35) * math.exp(-epoch / 4) + (
            0.05 if is_train else 0.2
        )
        terms: dict[str, float] = {}
        findings: list[dict[str, Any]] = []
        for layer in self.layers:
            seen = _Seen(layer, progress, random)
            for name, coefficient in layer.terms.items():
                power = np.abs(seen.values) ** (1 if name == "l1" else 2)
                terms[f"{layer.path}/{name}"] = (
                    coefficient * float(power.mean()) * layer.units
                )
            yield from self._of_layer(layer, seen, phase)
            if seen.dead >= 0.5:
                share = f"{100 * seen.dead:.0f} %"
                findings.append(
                    finding(
                        "dead",
                        layer.path,
                        seen.dead,
                        f"{share} of units are dead",
                    )
                )
        total = sum(terms.values())
        loss = task + total
        for tag, value in {
            "metric/loss": loss,
            "metric/accuracy": 1
            - math.exp(-epoch / 3 - 0.2)
            - (0 if is_train else 0.03),
            "Overview/penalty_total": total,
            "Overview/penalty_share": total / loss,
            "Overview/task_loss": task,
        }.items():
            yield self._scalar(tag, value)
        for name, value in terms.items():
            yield self._scalar(f"penalty/{name}", value)
            yield self._scalar(f"penalty.share/{name}", value / loss)
            share = value / loss
            if is_train and share >= 0.5:
                path, _, term = name.rpartition("/")
                message = f"the penalty is {100 * share:.0f} % of the loss"
                findings.append(
                    finding("dominating", path, share, message, term)
                )
        if self._has_tensors:
            places = sum(len(one.document()["places"]) for one in self.layers)
            yield tensor(schema.POSITIONS, np.full(places, POSITIONS))
        if not is_train:
            return
        for layer in self.layers:
            for name, coefficient in layer.terms.items():
                yield self._scalar(
                    f"penalty.coefficient/{layer.path}/{name}", coefficient
                )
        if findings:
            content = {"schema": schema.SCHEMA, "findings": findings}
            yield tensor(schema.FINDINGS, json.dumps(content).encode())

    def _of_layer(
        self, layer: LoggedLayer, seen: "_Seen", phase: str
    ) -> Iterable[Any]:
        for place in layer.document()["places"]:
            kind = place["kind"]
            values = seen.values
            if kind == "preactivation":
                values = values - 0.3
            for name, value in statistics(values, seen.dead).items():
                yield self._scalar(
                    schema.statistic_tag(name, kind, layer.path), value
                )
            if not self._has_tensors:
                continue
            rates = np.maximum(
                seen.rates, (seen.rates > 0) * schema.SMALLEST_RATE
            )
            yield tensor(
                schema.units_tag(kind, layer.path), rates.astype(np.float16)
            )
            shown = values[values != 0]
            counts, edges = np.histogram(shown, bins=30)
            yield tensor(
                schema.values_tag(kind, layer.path),
                np.stack([edges[:-1], edges[1:], counts], axis=1),
            )

    def _scalar(self, tag: str, value: float) -> Any:
        return scalar(tag, self._spoil.get(tag, value))


class _Seen:
    """What a layer would put out in an epoch."""

    def __init__(
        self, layer: LoggedLayer, progress: float, random: np.random.Generator
    ):
        fixed = np.random.default_rng(len(layer.path) + layer.units)
        base = 10 ** fixed.normal(-0.6, 0.45, layer.units)
        fate = fixed.random(layer.units) < layer.dying * progress
        noise = 10 ** random.normal(0, 0.05, layer.units)
        rates = np.clip(base * noise * (1 - 0.6 * progress), 0, 1)
        self.rates = np.where(fate, 0.0, rates)
        self.dead = float(fate.mean())
        values = np.abs(random.normal(0.2, 0.6, (64, layer.units)))
        self.values = values * (random.random(values.shape) < self.rates)
        self.values[0, 0] = 0.5  # never a layer without any value


def statistics(values: np.ndarray, dead: float) -> dict[str, float]:
    """The statistics by name."""
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "rms": float(np.sqrt((values**2).mean())),
        "zero_fraction": float((values == 0).mean()),
        "dead_fraction": dead,
        "nonfinite": 0.0,
    }


def finding(
    kind: str, path: str, value: Any, message: str, term: str | None = None
) -> dict[str, Any]:
    """A finding as the monitor writes it."""
    return {
        "kind": kind,
        "path": path,
        "term": term,
        "value": value,
        "threshold": 0.5,
        "message": message,
    }


def scalar(tag: str, value: float) -> Any:
    """A point of a curve."""
    return _value(tag, np.float32(value), "scalars", "DATA_CLASS_SCALAR")


def tensor(tag: str, data: Any, plugin: str = schema.PLUGIN) -> Any:
    """A tensor of our own plugin, or of another."""
    if isinstance(data, bytes):
        data = make_tensor_proto(data, dtype=np.object_)
    return _value(tag, data, plugin, "DATA_CLASS_TENSOR")


def write_event(directory: Path, values: Iterable[Any], step: int) -> None:
    """Write one event into a run of its own."""
    _EventFile(directory).add(list(values), step)


def _value(tag: str, data: Any, plugin: str, data_class: str) -> Any:
    if not hasattr(data, "tensor_shape"):
        data = make_tensor_proto(data)
    metadata = summary_pb2.SummaryMetadata(
        data_class=data_class,
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin),
    )
    return summary_pb2.Summary.Value(tag=tag, tensor=data, metadata=metadata)


class _EventFile:
    def __init__(self, directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "events.out.tfevents.1700000000.test.actpen"
        if not self._path.exists():
            self._append(
                event_pb2.Event(
                    wall_time=START_TIME, file_version="brain.Event:2"
                )
            )

    def add(self, values: Sequence[Any], step: int) -> None:
        self._append(
            event_pb2.Event(
                wall_time=START_TIME + 60 * step,
                step=step,
                summary=summary_pb2.Summary(value=values),
            )
        )

    def _append(self, event: Any) -> None:
        with open(self._path, "ab") as file:
            RecordWriter(file).write(event.SerializeToString())


def main(directory: str) -> None:
    """Write one log of each kind."""
    root = Path(directory)
    LoggedTraining(root / "digits", digits_layers()).write(12)
    for l1 in (1e-5, 1e-4, 1e-3, 1e-2):
        LoggedTraining(
            root / f"sweep/l1={l1:g}", digits_layers(l1), seed=int(1 / l1)
        ).write(12)
    deep = plain_layers(60, "backbone/", 64)
    LoggedTraining(root / "deep", deep).write(300)
    LoggedTraining(
        root / "layers_300", plain_layers(300, "transformer/"), seed=3
    ).write(20)
    LoggedTraining(
        root / "long", digits_layers(), seed=4, has_validation=False
    ).write(1000)


if __name__ == "__main__":
    main(sys.argv[1])
