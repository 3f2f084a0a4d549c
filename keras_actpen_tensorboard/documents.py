"""The JSON documents of the log, checked: a page can rely on every field."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_actpen_tensorboard import schema

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


class NotReadableError(ValueError):
    """What a log holds cannot be shown; its message is for the page."""


def model(text: bytes) -> dict[str, Any]:
    """The model document.

    Args:
        text: The JSON that was written.

    Raises:
        NotReadableError: If it is none, or of another schema.
    """
    document = _document(text, "what is attached")
    return {
        "format": schema.SCHEMA,
        "version": _text(document, "version"),
        "model": _text(document, "model"),
        "definitions": {
            str(name): str(definition)
            for name, definition in _mapping(document, "statistics").items()
        },
        "layers": [_layer(layer) for layer in _rows(document, "layers")],
    }


def findings(text: bytes) -> list[dict[str, Any]]:
    """The findings of one epoch.

    Raises:
        NotReadableError: If the text is none, or of another schema.
    """
    document = _document(text, "findings")
    return [
        {
            "kind": _text(finding, "kind"),
            "path": _text(finding, "path"),
            "term": finding.get("term") and _text(finding, "term"),
            "value": _number(finding, "value"),
            "threshold": _number(finding, "threshold"),
            "message": _text(finding, "message"),
        }
        for finding in _rows(document, "findings")
    ]


def number(value: float) -> float | str:
    """A number as JSON has it: what is not finite by its name."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else _NOT_FINITE[1 + (value < 0)]


def _document(text: bytes, what: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise NotReadableError(
            f"The log is damaged: {what} is not valid JSON ({error})."
        ) from error
    if not isinstance(document, Mapping):
        raise NotReadableError(
            f"The log is damaged: {what} is not a JSON object."
        )
    if document.get("schema") != schema.SCHEMA:
        raise NotReadableError(
            f"This log has format {document.get('schema')!r}, and this tab "
            f"reads format {schema.SCHEMA}. The log was written by "
            f"keras_actpen {document.get('version', 'of another version')}; "
            "install that version beside TensorBoard: "
            "pip install --upgrade keras-actpen"
        )
    return document


def _layer(layer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "path": _text(layer, "path"),
        "class": _text(layer, "class"),
        "output_shape": _text(layer, "output_shape"),
        "places": [
            {
                "on": _text(place, "on"),
                "output": _text(place, "output"),
                "kind": _text(place, "kind"),
                "path": _text(place, "path"),
            }
            for place in _rows(layer, "places")
        ],
        "terms": [
            {
                "name": _text(term, "name"),
                "on": _text(term, "on"),
                "penalty": _text(term, "penalty"),
                "formula": _text(term, "formula"),
                "coefficient": _number(term, "coefficient"),
            }
            for term in _rows(layer, "terms")
        ],
    }


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _number(row: Mapping[str, Any], key: str) -> float | str | None:
    value = row.get(key)
    if value is None or value in _NOT_FINITE:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NotReadableError(
            f"The log is damaged: `{key}` is {value!r}, not a number."
        )
    # json.loads reads the words NaN and Infinity, which JSON has not.
    return number(value)


def _mapping(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = row.get(key, {})
    if not isinstance(value, Mapping):
        raise NotReadableError(f"The log is damaged: `{key}` is not an object.")
    return value


def _rows(row: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(
        isinstance(one, Mapping) for one in value
    ):
        raise NotReadableError(
            f"The log is damaged: `{key}` is not a list of objects."
        )
    return value
