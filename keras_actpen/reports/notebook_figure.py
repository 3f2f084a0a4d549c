"""A figure that a notebook shows without pyplot."""

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure that is a picture where a notebook shows it.

    `%matplotlib inline` is not needed, and changes nothing.

    Args:
        width: Width in inches.
        height: Height in inches.
    """

    def __init__(self, width: float, height: float):
        super().__init__((width, height), layout="constrained")

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
