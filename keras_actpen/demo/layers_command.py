"""The command `keras-actpen layers`: what a saved model has to penalize."""

import importlib
import os
import re
import sys
import textwrap
from collections.abc import Sequence

import keras
from rich.console import Console

from keras_actpen.attach.attach import (
    attach_penalty,
    detach_penalty,
    penalized_layers,
)
from keras_actpen.attach.capture import ActivationSpec
from keras_actpen.attach.layer_refs import (
    LayerRef,
    is_graph_model,
    layer_refs,
    output_shape,
)
from keras_actpen.attach.penalized_layer import PenalizedLayer
from keras_actpen.backend.tensors import storage
from keras_actpen.reports.tables import LayerTable


def run(path: str, modules: Sequence[str]) -> int:
    """Print every path of a saved model that a penalty can be attached to.

    Args:
        path: A `.keras` or `.h5` file.
        modules: Modules to import first, which register the model's own
            classes.

    Returns:
        The exit status: 2, after one line on stderr, if there is no model.
    """
    try:
        model = load(path, modules)
    except ValueError as error:
        print(f"keras-actpen layers: {error}", file=sys.stderr)
        return 2
    Console().print(layer_table(model))
    return 0


def load(path: str, modules: Sequence[str]) -> keras.Model:
    """Load a saved model, in Keras's safe mode.

    Raises:
        ValueError: With one line that says why there is no model.
    """
    # Where `python -m` looks too, but an installed command does not.
    sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"cannot import {module!r}: {_one_line(error)}"
            ) from error
    if not os.path.exists(path):
        raise ValueError(f"there is no file {path!r}")
    try:
        model = keras.saving.load_model(path, compile=False)
    # What is in a file that is no model can raise anything.
    except Exception as error:
        raise ValueError(
            f"cannot load {path!r} as a Keras model: {_reason(error)}"
        ) from error
    if not model.built:
        raise ValueError(f"{path!r} holds a model that is not built")
    return model


def layer_table(model: keras.Model) -> LayerTable:
    """Every path of a model, with what can be penalized and what is.

    Args:
        model: A built model.
    """
    table = LayerTable(
        f"Layers of model {model.name!r}",
        [
            ("Class", "left"),
            ("Output shape", "left"),
            ("Can be penalized", "left"),
            ("Attached", "left"),
        ],
    )
    specs = {
        on: possible_paths(model, on) for on in ("output", "preactivation")
    }
    for ref in layer_refs(model):
        table.add_row(
            ref.path,
            type(ref.layer).__name__,
            output_shape(ref.layer),
            ", ".join(on for on, paths in specs.items() if ref.path in paths)
            or _why_not(ref.layer),
            _attached(ref),
        )
    if not table.rows:
        table.add_row("none", "", "", "", "")
    return table


def possible_paths(model: keras.Model, on: str) -> set[str]:
    """Paths of a model that a penalty can be attached to at a place.

    It is tried out, on a model that shares its weights: no list of classes
    could tell of layers of the user's own. What a subclassed model computes
    is only known when it runs; of its layers those with an activation count.

    Args:
        model: A built model.
        on: `"output"` or `"preactivation"`.
    """
    paths = [
        ref.path
        for ref in layer_refs(model)
        if on == "output" or callable(getattr(ref.layer, "activation", None))
    ]
    if not is_graph_model(model):
        return set(paths)
    if penalized_layers(model):
        model = detach_penalty(model)
    return _accepted(model, paths, on)


def _accepted(model: keras.Model, paths: Sequence[str], on: str) -> set[str]:
    """Those of the paths that `attach_penalty` takes."""
    if not paths:
        return set()
    try:
        _ = attach_penalty(model, list(paths), l2=0.0, on=on)
    except ValueError:
        # Halves, because every attempt rebuilds the model.
        middle = len(paths) // 2
        if not middle:
            return set()
        return _accepted(model, paths[:middle], on) | _accepted(
            model, paths[middle:], on
        )
    return set(paths)


def _why_not(layer: keras.layers.Layer) -> str:
    """What keeps a layer of a graph from being penalized, in short."""
    kinds = {
        storage(tensor)
        for tensor in keras.tree.flatten(layer.output)
        if keras.backend.is_float_dtype(tensor.dtype)
    }
    if not kinds:
        return "no float output"
    return "no" if "dense" in kinds else "no dense output"


def _attached(ref: LayerRef) -> str:
    if not isinstance(ref.layer, PenalizedLayer):
        return ""
    terms = [
        f"{name} {ref.layer.actpen.coefficients[name]:g}"
        # Where it is is said only where it is not the usual place.
        + ("" if term.spec == ActivationSpec() else f" on {term.spec}")
        for name, term in ref.layer.actpen.terms.items()
    ]
    return ", ".join(terms) or "watched"


def _reason(error: Exception) -> str:
    """Why a file cannot be loaded, in one line."""
    unknown = re.search(r"Could not locate (\w+ '[^']+')", str(error))
    if unknown:
        return (
            f"it needs {unknown[1]}, which is not registered; name the module "
            "that registers it with --import"
        )
    return _one_line(error)


def _one_line(error: Exception) -> str:
    """The start of a message: Keras's may hold the model's whole config."""
    return textwrap.shorten(str(error), 240) or type(error).__name__
