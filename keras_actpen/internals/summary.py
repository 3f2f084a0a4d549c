"""What `model.summary()` shows of a layer."""


class NotedCount(int):
    """A number of parameters that is formatted with a note below it.

    Keras (3.15) writes name, class, shape and `f"{layer.count_params():,}"`
    into the row of a layer. The other three mean something in files.

    Args:
        count: The number.
        note: The note.
    """

    note: str

    def __new__(cls, count: int, note: str) -> "NotedCount":
        """Make the number."""
        new = super().__new__(cls, count)
        new.note = note
        return new

    def __format__(self, spec: str) -> str:
        """The number as any other, and the note."""
        return f"{int(self):{spec}}\n{self.note}"
