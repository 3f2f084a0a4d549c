"""Logs of keras_actpen 0.1.0, which had two text pages instead of JSON."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from keras_actpen_tensorboard.documents import NotReadableError

ATTACHED = "actpen/attached"
FINDINGS = "actpen/findings"
# Group of what is in `schema.OVERVIEW` today.
OVERVIEW = "actpen"

_KINDS = ("activation", "preactivation")
_ROW = re.compile(r"^\| (.*) \|$")
_DEFINITION = re.compile(r"^- \*\*(.+?)\*\*: (.+)$")
# Messages of 0.1.0 by kind of finding, the first that is found.
_MESSAGES = {
    "nonfinite": r"NaN or infinite|^the penalty .* is (nan|-?inf)",
    "exploding": r"root mean square",
    "dead": r"units.* (are dead|have no input)",
    "saturated": r"are saturated",
    "negligible": r"raise its coefficient",
    "dominating": r"of the loss",
}


def model(text: str, tags: Iterable[str]) -> dict[str, Any]:
    """The model document of a log of 0.1.0.

    Args:
        text: The page that says what is attached.
        tags: All curves of the run, which tell what was measured.

    Raises:
        NotReadableError: If the page has no table.
    """
    lines = text.splitlines()
    layers: dict[str, dict[str, Any]] = {}
    for line in lines:
        row = _ROW.match(line)
        cells = _cells(row[1]) if row else []
        if len(cells) != 7 or cells[0] == "layer":
            continue
        path, kind, shape, place, name, penalty, coefficient = cells
        layer = layers.setdefault(
            path,
            {
                "path": path,
                "class": kind,
                "output_shape": shape,
                "places": [],
                "terms": [],
            },
        )
        if coefficient:
            layer["terms"].append(
                {
                    "name": name,
                    "on": place,
                    "penalty": penalty,
                    "formula": "",
                    "coefficient": float(coefficient),
                }
            )
    if not layers:
        raise NotReadableError("The log is damaged: nothing is attached.")
    _add_places(layers, tags)
    definitions = (_DEFINITION.match(line) for line in lines)
    return {
        "format": 0,
        "version": lines[0].removeprefix("keras_actpen "),
        "model": "",
        "definitions": {d[1]: html.unescape(d[2]) for d in definitions if d},
        "layers": list(layers.values()),
    }


def findings(text: str, paths: Sequence[str]) -> list[dict[str, Any]]:
    """The findings of one epoch.

    Args:
        text: The page of the epoch.
        paths: Paths of the layers.
    """
    found = []
    for line in text.splitlines():
        sentence = html.unescape(line.removeprefix("- "))
        # The longest: a path may itself hold ": ".
        path = max(
            (p for p in paths if sentence.startswith(f"{p}: ")),
            key=len,
            default="",
        )
        for message in sentence[len(path) + 2 if path else 0 :].split("; "):
            found.append(
                {
                    "kind": _kind(message),
                    "path": path,
                    "term": None,
                    "value": None,
                    "threshold": None,
                    "message": message,
                }
            )
    return found


def _cells(row: str) -> list[str]:
    return [html.unescape(cell) for cell in row.split(" | ")]


def _add_places(layers: dict[str, dict[str, Any]], tags: Iterable[str]) -> None:
    """Add what was measured of each layer."""
    output = re.compile(r"\[(\d+)\]$")
    for tag in sorted(tags):
        group, _, path = tag.partition("/")
        kind, _, statistic = group.partition(".")
        if kind not in _KINDS or statistic != "mean":
            continue
        number = output.search(path)
        layer = layers.get(path) or layers.get(output.sub("", path))
        if layer is not None:
            layer["places"].append(
                {
                    "on": "output" if kind == "activation" else kind,
                    "output": number[1] if number else "0",
                    "kind": kind,
                    "path": path,
                }
            )


def _kind(message: str) -> str:
    for kind, pattern in _MESSAGES.items():
        if re.search(pattern, message):
            return kind
    return "other"
