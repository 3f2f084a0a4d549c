"""The command `keras-actpen report`: what penalties do, on data in a file."""

import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from keras_actpen.attach.attach import penalized_layers, watch_activations
from keras_actpen.demo.layers_command import load, one_line
from keras_actpen.reports.penalty_report import penalty_report

_NAMES = ("x", "y", "sample_weight")


def run(path: str, data: str, modules: Sequence[str], batch_size: int) -> int:
    """Print the report of a saved model, of all its layers if it is plain.

    Args:
        path: A `.keras` or `.h5` file.
        data: A `.npz` file with `x` and, optionally, `y` and
            `sample_weight`.
        modules: Modules to import first, which register the model's own
            classes.
        batch_size: Samples in a batch.

    Returns:
        The exit status: 2, after one line on stderr, if there is no report.
    """
    try:
        arrays = _arrays(data)
        model = load(path, modules, compile=True)
        if not penalized_layers(model):
            model = watch_activations(model, "*")
        report = penalty_report(
            model, **arrays, batch_size=batch_size, verbose=0
        )
    except (TypeError, ValueError) as error:
        print(f"keras-actpen report: {one_line(error)}", file=sys.stderr)
        return 2
    Console().print(report)
    return 0


def _arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
        ValueError: With one line that says why there are none.
    """
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    # A file that is not an archive can raise any error.
    except Exception as error:
        raise ValueError(
            f"cannot load {path!r} as a .npz file of arrays: {one_line(error)}"
        ) from error
    if "x" not in arrays or not {*arrays} <= {*_NAMES}:
        raise ValueError(
            f"{path!r} has the arrays {sorted(arrays)} instead of x and, "
            "optionally, y and sample_weight; write it with "
            "numpy.savez('data.npz', x=x, y=y)"
        )
    return arrays
