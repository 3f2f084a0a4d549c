"""Which tensor of a layer is looked at."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

# For an editor to complete; `str` stands for the name of any other weight, or
# for the key of an output.
On: TypeAlias = (
    Literal["output", "preactivation", "input", "kernel", "bias"] | str
)
Output: TypeAlias = int | Literal["all"] | str

# What a call of the layer shows. Everything else is the name of a weight.
OF_CALLS = ("output", "preactivation", "input")


@dataclass(frozen=True)
class ActivationSpec:
    """Which tensors of a layer are looked at.

    Args:
        on: `"output"`, `"preactivation"`, `"input"` or the name of a weight.
        output: Index or key of the output, or of the input; or `"all"`.
    """

    on: On = "output"
    output: Output = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not isinstance(self.on, str) or not self.on:
            raise ValueError(
                "Invalid value received for argument `on`. Expected "
                "'output', 'preactivation', 'input' or the name of a weight, "
                f"such as 'kernel'. Received: on={self.on!r}"
            )
        if isinstance(self.output, bool) or not isinstance(
            self.output, int | str
        ):
            raise TypeError(
                "Invalid type received for argument `output`. Expected the "
                "index or the key of one output, or 'all'. Received: "
                f"output={self.output!r} (of type "
                f"{type(self.output).__name__})"
            )
        if self.is_weight and self.output != 0:
            raise ValueError(
                "Invalid value received for argument `output`. Expected the "
                f"default, because on={self.on!r} names a single weight. "
                f"Received: output={self.output!r}"
            )

    @property
    def is_weight(self) -> bool:
        """Whether it is a weight of the layer, the same in all calls."""
        return self.on not in OF_CALLS

    def __str__(self) -> str:
        """The place as it is shown to users: `output`, `output[1]`."""
        return self.on if self.output == 0 else f"{self.on}[{self.output}]"
