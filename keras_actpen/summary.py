"""The table that `penalty_summary` prints."""

from typing import Any

import keras
from rich.console import Console
from rich.table import Table

from keras_actpen.surgery import check_built, penalized_layers


def penalty_summary(model: keras.Model) -> None:
    """Print the penalised and watched layers, like `model.summary()`.

    Args:
        model: A built `keras.Model`.

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If it is not built.
    """
    check_built(model)
    table = Table(title=f"Penalties of model {model.name!r}")
    for title in ("Layer", "Class", "Output shape", "On", "Term"):
        table.add_column(title, overflow="fold")
    table.add_column("Coefficient", justify="right")
    for path, layer in penalized_layers(model).items():
        about = (path, type(layer).__name__, output_shape(layer))
        for name, term in layer.terms.items():
            coefficient = f"{layer.coefficients[name]:g}"
            table.add_row(*about, str(term.place), name, coefficient)
        if not layer.terms:
            table.add_row(*about, str(layer.places[0]), "watched", "")
    if not table.row_count:
        table.add_row("none", "", "", "", "", "")
    Console().print(table)


def output_shape(layer: keras.layers.Layer) -> str:
    """Output shape of a layer as text, `?` where it has no single one."""
    try:
        shapes = keras.tree.map_structure(
            lambda tensor: str(tuple(tensor.shape)), layer.output
        )
    except (AttributeError, ValueError):  # never called on a symbolic tensor
        return "?"
    flat: list[Any] = keras.tree.flatten(shapes)
    return ", ".join(flat)
