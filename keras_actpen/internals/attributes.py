"""Attributes of one instance in front of those of its class."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def attribute_in_front(instance: Any, name: str, value: Any) -> Iterator[None]:
    """Give one layer or model an attribute for a while.

    Args:
        instance: The layer or model.
        name: Name of an attribute that its class, or it alone, has.
        value: What stands there in this block.
    """
    # Not setattr, which would track a function as state of the layer.
    attributes = vars(instance)
    missing = object()
    previous = attributes.get(name, missing)
    attributes[name] = value
    try:
        yield
    finally:
        if previous is missing:
            del attributes[name]
        else:
            attributes[name] = previous
