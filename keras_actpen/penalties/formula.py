"""The formula of a penalty, as its docstring has it."""

import inspect
import re

from keras_actpen.penalties.base import Penalty

# The first one that a docstring shows.
_FORMULA = re.compile(r"`(coefficient \*[^`]+)`")


def formula_of(penalty: Penalty) -> str:
    """What a penalty adds to the loss, `""` where its class does not say.

    The formula of a class is that of its default reduction.

    Example:
        >>> from keras_actpen import penalties
        >>> formula_of(penalties.L2(0.1))
        'coefficient * sum h^2 / batch'
        >>> formula_of(penalties.L2(0.1, reduction="mean"))
        ''
    """
    kind = type(penalty)
    # Not `inspect.getdoc`, which finds that of the class it derives from.
    found = _FORMULA.search(kind.__doc__ or "")
    reduction = inspect.signature(kind).parameters.get("reduction")
    if found is None or (
        reduction is not None and penalty.reduction != reduction.default
    ):
        return ""
    return " ".join(found[1].split())
