"""What was measured, and on what kind of machine; nothing that names it."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import keras_actpen

_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "tensorboard")


def environment(backend: str) -> dict[str, Any]:
    """Versions, the commit where git knows it, and the kind of machine."""
    return {
        "backend": backend,
        "versions": {
            "python": platform.python_version(),
            "keras-actpen": keras_actpen.__version__,
            **{
                package: metadata.version(package)
                for package in _PACKAGES
                if _installed(package)
            },
        },
        "commit": _commit(),
        "system": platform.system(),
        "cpu": _cpu(),
        "cores": _cores(),
        "accelerators": _accelerators(backend),
    }


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _commit() -> str | None:
    """The last one of the package, with a plus sign if it was changed since."""
    try:
        last = _git("log", "-1", "--format=%h")
        changed = _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return None
    return last + "+" if changed else last


def _git(*arguments: str) -> str:
    package = Path(keras_actpen.__file__).parent
    result = subprocess.run(
        ["git", *arguments, "--", "."],
        check=True,
        capture_output=True,
        text=True,
        cwd=package,
    )
    return result.stdout.strip()


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
