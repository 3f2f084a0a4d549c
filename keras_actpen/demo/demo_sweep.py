"""The demo's sweep: five coefficients of one penalty on the MNIST CNN."""

import importlib.util
import os
from collections.abc import Callable

import keras
from rich.console import Console

from keras_actpen.attach.attach import attach_penalty
from keras_actpen.demo import demo, pareto, sweep
from keras_actpen.reports.penalty_summary import penalty_summary

# What a term is to achieve, besides accuracy.
MEASURES = {"l1": "zero_fraction", "l2": "mean_square"}


def run(
    *,
    epochs: int,
    log_dir: str,
    layer: str,
    l1: float | None,
    l2: float | None,
    on: str,
    load: Callable[[], demo.Data],
) -> None:
    """Train with five coefficients, print and plot the results.

    The coefficient that is given is the middle one of the five. Accuracy is
    set against the share of zeros for L1, which makes zeros, and against the
    mean square for L2, which makes small activations.

    Args:
        epochs: Epochs of each training.
        log_dir: Where every coefficient gets a directory of its own, and
            `pareto.png` is written.
        layer: Name of the layer to penalize.
        l1: Middle coefficient of an L1 term, or `None`; 0.001 if `l2` is
            `None` too.
        l2: Middle coefficient of an L2 term, or `None`.
        on: `"output"` or `"preactivation"`.
        load: Returns the training and the test data.

    Raises:
        ValueError: If both coefficients are given.
    """
    if l1 is not None and l2 is not None:
        raise ValueError(
            "Invalid value received for arguments `l1` and `l2`. Expected one "
            "of them, the middle of the coefficients to compare. Received: "
            f"l1={l1!r}, l2={l2!r}"
        )
    if l2 is None:
        l1 = 1e-3 if l1 is None else l1
        term, middle = "l1", l1
    else:
        term, middle = "l2", l2
    console = Console()
    train, test = load()
    model = attach_penalty(demo.build_model(), layer, l1=l1, l2=l2, on=on)
    penalty_summary(model)

    def fit(
        coefficient: float, callbacks: list[keras.callbacks.Callback]
    ) -> None:
        console.rule(f"{term} = {coefficient:g}")
        demo.fit(model, train, test, epochs, callbacks)

    points = sweep.run_sweep(
        model,
        layer,
        term,
        sweep.log_spaced(middle),
        log_dir=log_dir,
        seed=demo.SEED,
        fit=fit,
        measure=lambda: demo.measure(model, layer, test),
    )
    console.print(pareto.pareto_table(points, layer, term, MEASURES[term]))
    if importlib.util.find_spec("matplotlib") is None:
        console.print("No plot: it needs matplotlib (pip install matplotlib).")
        return
    path = os.path.join(log_dir, "pareto.png")
    pareto.plot_pareto(points, layer, term, MEASURES[term], path)
    console.print(f"Plot: {path}", highlight=False, soft_wrap=True)
