"""The command `keras-actpen layers`: what a saved model has to penalize."""

import importlib
import os
import re
import sys
import textwrap
from collections.abc import Sequence

import keras
from rich.console import Console

from keras_actpen import internals
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.attach.attach import (
    attach_penalty,
    detach_penalty,
    penalized_layers,
)
from keras_actpen.attach.held_layers import is_graph_model
from keras_actpen.attach.layer_refs import LayerRef, all_refs, output_shape
from keras_actpen.attach.penalized_layers import is_attached
from keras_actpen.backend.tensors import storage
from keras_actpen.reports.tables import LayerTable


def run(path: str, modules: Sequence[str], depth: int = 0) -> int:
    """Print every path of a saved model that a penalty can be attached to.

    Args:
        path: A `.keras` or `.h5` file.
        modules: Modules to import first, which register the model's own
            classes.
        depth: How many levels of layers inside layers to list.

    Returns:
        The exit status: 2, after one line on stderr, if there is no model.
    """
    try:
        model = load(path, modules)
    except ValueError as error:
        print(f"keras-actpen layers: {error}", file=sys.stderr)
        return 2
    Console().print(layer_table(model, depth))
    return 0


def load(
    path: str, modules: Sequence[str], compile: bool = False
) -> keras.Model:
    """Load a saved model, in Keras's safe mode.

    Args:
        path: A `.keras` or `.h5` file.
        modules: Modules to import first.
        compile: Whether to compile it as it was, if it was.

    Raises:
        ValueError: With one line that says why there is no model.
    """
    # `python -m` looks there too, but an installed command does not.
    sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"cannot import {module!r}: {one_line(error)}"
            ) from error
    if not os.path.exists(path):
        raise ValueError(f"there is no file {path!r}")
    try:
        model = keras.saving.load_model(path, compile=compile)
    # A file that is not a model can raise any error.
    except Exception as error:
        raise ValueError(
            f"cannot load {path!r} as a Keras model: {_reason(error)}"
        ) from error
    if not model.built:
        raise ValueError(f"{path!r} holds a model that is not built")
    return model


def layer_table(model: keras.Model, depth: int = 0) -> LayerTable:
    """Every path of a model, with what can be penalized and what is.

    Args:
        model: A built model.
        depth: How many levels of layers inside layers to list.
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
        on: possible_paths(model, on, depth)
        for on in ("output", "preactivation")
    }
    for ref in listed_refs(model, depth):
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


def listed_refs(model: keras.Model, depth: int) -> list[LayerRef]:
    """Layers of a model, and those inside them down to a depth."""
    return [
        ref
        for ref in all_refs(model)
        if ref.inner is None or len(ref.inner.parents) <= depth
    ]


def possible_paths(model: keras.Model, on: str, depth: int = 0) -> set[str]:
    """Paths of a model that a penalty can be attached to at a place.

    Each path is tried out, on a model that shares its weights, because a list
    of classes could not cover custom layers. What a subclassed model computes
    is known only when it runs, so all of its layers that have an activation
    are listed.

    Args:
        model: A built model.
        on: `"output"` or `"preactivation"`.
        depth: How many levels of layers inside layers count.
    """
    paths = [
        ref.path
        for ref in listed_refs(model, depth)
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
    if not internals.has_calls(layer):
        return "no"  # inside another one, which lets nothing out
    kinds = {
        storage(tensor)
        for tensor in keras.tree.flatten(layer.output)
        if keras.backend.is_float_dtype(tensor.dtype)
    }
    if not kinds:
        return "no float output"
    return "no" if "dense" in kinds else "no dense output"


def _attached(ref: LayerRef) -> str:
    if not is_attached(ref):
        return ""
    terms = [
        f"{name} {ref.layer.actpen.coefficients[name]:g}"
        # The place is named only if it is not the usual one.
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
    return one_line(error)


def one_line(error: Exception) -> str:
    """The start of a message: Keras's may hold the model's whole config."""
    return textwrap.shorten(str(error), 240) or type(error).__name__
