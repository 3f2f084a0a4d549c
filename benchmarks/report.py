"""What a run writes: results.json and results.md."""

import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness import Comparison, Ratio
from benchmarks.overview import overview
from benchmarks.tables import table
from benchmarks.verdicts import LARGEST_NOISE, verdicts

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "tensorboard")


def environment(backend: str) -> dict[str, Any]:
    """Versions and the kind of machine; nothing that names it."""
    return {
        "backend": backend,
        "versions": {
            "python": platform.python_version(),
            "keras-actpen": metadata.version("keras-actpen"),
            **{
                package: metadata.version(package)
                for package in _PACKAGES
                if _installed(package)
            },
        },
        "system": platform.system(),
        "cpu": _cpu(),
        "cores": _cores(),
        "accelerators": _accelerators(backend),
    }


def ratio_text(ratio: Ratio) -> str:
    """A ratio with the bootstrap interval of its median."""
    if math.isinf(ratio.median):
        return f"> {ratio.low:.3g}, no overhead seen"
    return f"{ratio.median:.3g} ({ratio.low:.3g}..{ratio.high:.3g})"


def comparison_table(comparison: Comparison) -> str:
    """Ratio of every arm of a measurement to the baseline."""
    rows = []
    for arm in comparison.costs:
        ratio = comparison.ratio(arm)
        rows.append(
            [
                arm,
                f"{ratio.median:.3f}",
                f"{ratio.lower_quartile:.3f}..{ratio.upper_quartile:.3f}",
                f"{ratio.low:.3f}..{ratio.high:.3f}",
            ]
        )
    header = ["", "median ratio", "quartiles", "95 % interval of the median"]
    return table(header, rows)


def target_table(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    """Every target with its ratios; those without are not measured."""
    rows = []
    for target, found in verdicts(comparisons):
        sign = ">=" if target.least else "<="
        limit = f"{sign} {target.limit:g}"
        for verdict in found:
            comparison = verdict.comparison
            rows.append(
                [
                    target.text,
                    comparison.name.split("/")[1],
                    comparison.backend,
                    limit,
                    ratio_text(verdict.ratio),
                    f"{verdict.noise:.3f}",
                    verdict.text,
                ]
            )
        if not found:
            rows.append([target.text, "", "", limit, "", "", "not measured"])
    header = [
        "target",
        "on",
        "backend",
        "limit",
        "ratio",
        "A/A noise",
        "verdict",
    ]
    return table(header, rows)


def markdown(results: Mapping[str, Any]) -> str:
    """The whole report."""
    comparisons = loaded(results)
    parts = [
        "# What a penalty costs",
        "Written by `python -m benchmarks`. All numbers are ratios within "
        "one run, medians over rounds in which every arm ran once, in random "
        "order; in brackets the 95 % bootstrap interval. A/A noise is how "
        "far from 1 the interval of the baseline against itself reaches. "
        "*Within noise*: beyond the limit by less than that, or the interval "
        "reaches the limit; *too noisy to tell*: so too, but that noise or "
        "what the interval reaches beyond the limit is above "
        f"{LARGEST_NOISE:g} of the limit.",
        *(_machine(e) for e in results["environments"].values()),
        "## Overview",
        overview(comparisons),
        "## Targets",
        target_table(comparisons),
        "## Measurements",
    ]
    for device, comparison in comparisons:
        facts = ", ".join(f"{k} {v:g}" for k, v in comparison.facts.items())
        parts += [
            f"### {comparison.name}, {comparison.backend}, {device}",
            f"{comparison.unit} relative to {comparison.baseline}"
            + (f"; {facts}" if facts else ""),
            comparison_table(comparison),
        ]
    return "\n\n".join(parts) + "\n"


def loaded(results: Mapping[str, Any]) -> list[tuple[str, Comparison]]:
    """The measurements of results.json, each with its device."""
    found = []
    for entry in results["comparisons"]:
        entry = dict(entry)
        del entry["effort"]
        found.append((entry.pop("device"), Comparison(**entry)))
    return found


def merged(
    old: Mapping[str, Any], new: Mapping[str, Any], device: str
) -> dict[str, Any]:
    """Results of an earlier run, with those of a backend's run put in.

    Args:
        old: Content of results.json.
        new: What `benchmarks.worker` wrote.
        device: What it ran on.
    """
    keys = ("backend", "device", "name")
    comparisons = {
        tuple(entry[key] for key in keys): entry
        for entry in [*old["comparisons"], *new["comparisons"]]
    }
    name = f"{new['environment']['backend']}, {device}"
    environments = {**old["environments"], name: new["environment"]}
    return {
        "environments": environments,
        "comparisons": list(comparisons.values()),
    }


def _machine(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
    machine = ", ".join(
        [
            f"{environment['cores']} core(s) of {environment['cpu']}",
            environment["system"],
            *environment["accelerators"],
        ]
    )
    return f"**{environment['backend']}**: {machine}; {versions}."


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _cores() -> int | None:
    """Those that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        if found:
            return found[1].strip()
    return platform.machine()


def _accelerators(backend: str) -> list[str]:
    if backend == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    if backend == "torch":
        import torch

        return [
            torch.cuda.get_device_name(index)
            for index in range(torch.cuda.device_count())
        ]
    import tensorflow as tf

    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", "")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
