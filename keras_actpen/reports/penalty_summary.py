"""The table that `penalty_summary` prints."""

from collections.abc import Callable

import keras
from rich.console import Console

from keras_actpen.attach.attach import check_built, penalized_layers
from keras_actpen.attach.layer_refs import output_shape
from keras_actpen.reports.data import check_count
from keras_actpen.reports.tables import LayerTable


def penalty_summary(
    model: keras.Model,
    line_length: int | None = None,
    print_fn: Callable[[str], object] | None = None,
) -> None:
    """Print the penalized and watched layers, like `model.summary()`.

    A table with the path, class and output shape of every layer, and for
    every term what it is on, its name and its coefficient. In a notebook the
    table is shown as HTML. Where it is too wide for the terminal, the path
    of a layer stands above its terms.

    Example:
    >>> from keras_actpen import attach_penalty
    >>> model = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.ReLU(name="relu")], name="tiny")
    >>> penalty_summary(attach_penalty(model, "relu", l2=0.5))
    Penalties of model 'tiny'
    ┏━━━━━━━┳━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━┳━━━━━━━━━━━━━┓
    ┃ Layer ┃ Class ┃ Output shape ┃ On     ┃ Term ┃ Coefficient ┃
    ┡━━━━━━━╇━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━╇━━━━━━━━━━━━━┩
    │ relu  │ ReLU  │ (None, 2)    │ output │ l2   │         0.5 │
    └───────┴───────┴──────────────┴────────┴──────┴─────────────┘

    Args:
        model: A built `keras.Model`.
        line_length: Width of the table; default: that of the terminal.
        print_fn: What to print with, for example `logging.info`: a function
            that is called once, with the whole text.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `model` is not built or `line_length` is below 1.
    """
    check_built(model)
    check_count("line_length", line_length)
    table = LayerTable(
        f"Penalties of model {model.name!r}",
        [
            ("Class", "left"),
            ("Output shape", "left"),
            ("On", "left"),
            ("Term", "left"),
            ("Coefficient", "right"),
        ],
    )
    for path, layer in penalized_layers(model).items():
        about = (path, type(layer).__name__, output_shape(layer))
        for name, term in layer.actpen.terms.items():
            coefficient = f"{layer.actpen.coefficients[name]:g}"
            table.add_row(*about, str(term.spec), name, coefficient)
        if not layer.actpen.terms:
            table.add_row(*about, str(layer.actpen.specs[0]), "watched", "")
    if not table.rows:
        table.add_row("none", "", "", "", "", "")
    if print_fn is None:
        # In a notebook rich shows HTML.
        Console(width=line_length).print(table)
    else:
        print_fn(table.text(line_length))
