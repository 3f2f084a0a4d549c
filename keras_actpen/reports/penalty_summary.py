"""The table that `penalty_summary` prints."""

import keras
from rich.console import Console

from keras_actpen.attach.attach import check_built, penalized_layers
from keras_actpen.attach.layer_refs import output_shape
from keras_actpen.reports.tables import LayerTable


def penalty_summary(model: keras.Model) -> None:
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

    Raises:
        TypeError: If `model` is no `keras.Model`.
        ValueError: If it is not built.
    """
    check_built(model)
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
    # In a notebook rich shows HTML.
    Console().print(table)
