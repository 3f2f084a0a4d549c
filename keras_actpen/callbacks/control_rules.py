"""How a controller changes a coefficient when its measure is off."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras_actpen.penalties.validation import check_number


class Limits(NamedTuple):
    """What a coefficient may be.

    Attributes:
        low: Smallest value.
        high: Largest value.
        unit: The coefficient that the term was attached with.
    """

    low: float
    high: float
    unit: float

    def clip(self, coefficient: float) -> float:
        """The closest coefficient that is allowed."""
        return min(max(coefficient, self.low), self.high)


@dataclass(frozen=True)
class GECO:
    """Multiplies the coefficient, by more the larger the error.

        average <- decay * average + (1 - decay) * error
        coefficient <- coefficient * exp(rate * average)

    Finds a coefficient that is wrong by orders of magnitude, and never leaves
    0. Rezende and Viola 2018, "Taming VAEs" (Generalized ELBO with
    Constrained Optimization).

    Example:
    >>> from keras_actpen import GECO, TargetController
    >>> hold = TargetController("dense_4/l1", 0.8, rule=GECO(rate=0.5))

    Args:
        rate: Number > 0. With 1 an error of 0.1 changes the coefficient by a
            tenth.
        decay: Number from 0 to below 1, the memory of the moving average.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If it is not in range.
    """

    rate: float = 1.0
    decay: float = 0.5

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_number(
            "rate", self.rate, "a finite number > 0", lambda value: value > 0
        )
        check_number(
            "decay",
            self.decay,
            "a number from 0 to below 1",
            lambda value: 0 <= value < 1,
        )

    def move(
        self,
        coefficient: float,
        error: float,
        memory: float | None,
        limits: Limits,
    ) -> tuple[float, float]:
        """The next coefficient, and what to remember.

        Args:
            coefficient: The current coefficient.
            error: From -1 to 1; above 0 if the coefficient is too small.
            memory: What the last move remembered, None at the first.
            limits: What the coefficient may be.
        """
        if memory is None:
            memory = error
        average = self.decay * memory + (1 - self.decay) * error
        moved = coefficient * math.exp(self.rate * average)
        return limits.clip(moved), average


@dataclass(frozen=True)
class PI:
    """Adds up the errors, and follows the last one at once.

        integral <- integral + integral_gain * error
        coefficient <- low + unit * (gain * sigmoid(error) + integral)

    where `unit` is the coefficient that the term was attached with. The
    integral stands still while the coefficient is at a bound and the error
    pushes against it (anti-windup). It starts where the coefficient does not
    jump. Shao et al. 2020, "ControlVAE: Controllable Variational
    Autoencoder".

    Example:
    >>> from keras_actpen import PI, TargetController
    >>> hold = TargetController("dense_4/l1", 0.8, rule=PI(gain=1.0))

    Args:
        gain: Number >= 0, of the proportional part.
        integral_gain: Number > 0, of the integral.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If it is not in range.
    """

    gain: float = 0.5
    integral_gain: float = 0.2

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_number(
            "gain", self.gain, "a finite number >= 0", lambda value: value >= 0
        )
        check_number(
            "integral_gain",
            self.integral_gain,
            "a finite number > 0",
            lambda value: value > 0,
        )

    def move(
        self,
        coefficient: float,
        error: float,
        memory: float | None,
        limits: Limits,
    ) -> tuple[float, float]:
        """The next coefficient, and what to remember. See `GECO.move`."""
        proportional = self.gain / (1 + math.exp(-error))
        if memory is None:
            memory = (coefficient - limits.low) / limits.unit - proportional
        against = limits.high if error > 0 else limits.low
        if coefficient != against:
            memory += self.integral_gain * error
        moved = limits.low + limits.unit * (proportional + memory)
        return limits.clip(moved), memory


RULES = {"geco": GECO, "pi": PI}


def get_rule(rule: Any) -> GECO | PI:
    """A rule from its name or an instance of one.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(rule, tuple(RULES.values())):
        return rule
    if isinstance(rule, str) and rule in RULES:
        return RULES[rule]()
    raise ValueError(
        "Invalid value received for argument `rule`. Expected 'geco', 'pi', "
        "or one of them with other gains, for example "
        f"keras_actpen.GECO(rate=0.5). Received: rule={rule!r}"
    )
