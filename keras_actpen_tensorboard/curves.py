"""Curves as a page wants them: by group, on common steps, thinned out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_actpen_tensorboard import old_logs, schema
from keras_actpen_tensorboard.documents import number


def group_and_name(tag: str) -> tuple[str, str]:
    """The group of a tag, by its present name, and the rest of the tag."""
    group, _, name = tag.partition("/")
    return schema.OVERVIEW if group == old_logs.OVERVIEW else group, name


def aligned(curves: Mapping[str, Mapping[int, float]]) -> dict[str, Any]:
    """Curves on common steps, None where one has no point."""
    steps = sorted({step for curve in curves.values() for step in curve})
    return {
        "steps": steps,
        "series": {
            name: [
                number(curve[step]) if step in curve else None for step in steps
            ]
            for name, curve in curves.items()
        },
    }


def evenly(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of the steps, evenly spaced, with both ends."""
    if len(steps) <= count:
        return list(steps)
    indices = np.linspace(0, len(steps) - 1, max(count, 2)).round()
    return [steps[int(index)] for index in indices]
