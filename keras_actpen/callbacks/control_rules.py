"""How a controller changes a coefficient when its measure is off.

To add a rule: its class here, derived from `ControlRule`, and its name in
`RULES`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from keras_actpen.penalties.validation import check_number

# What a rule remembers from one move to the next.
Memory = Sequence[float]


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


class Miss(NamedTuple):
    """How far a measure is off its target; above 0 asks for more penalty.

    Attributes:
        share: The difference; for measures other than shares of zeros,
            divided by the target.
        log: The logarithm of a ratio: of the shares that are not zero, or of
            the measures themselves.
    """

    share: float
    log: float


class ControlRule:
    """What moves a coefficient; instances of subclasses are the gains."""

    def first(self, coefficient: float) -> float:
        """The coefficient to start with, given the attached one."""
        return coefficient

    def move(
        self, coefficient: float, miss: Miss, memory: Memory, limits: Limits
    ) -> tuple[float, Memory]:
        """The next coefficient, and what to remember.

        Args:
            coefficient: The current coefficient.
            miss: How far the measure is off.
            memory: What the last move remembered, `()` at the first.
            limits: What the coefficient may be.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LogPI(ControlRule):
    """PI control of the coefficient's logarithm, with a trend and a limit.

        change <- gain * (error + damping * (error - last error)) + trend
        coefficient <- coefficient * exp(change)

    where `error` is the logarithm of measure over target (for shares of zeros
    that of the shares that are not zero), and `change` is kept within `limit`
    of 0. It settles where the network responds late, because

    - while the measure is on its way to the target, `damping` takes back what
      the error alone would add;
    - `gain` halves when the error changes sign, down to a quarter, and
      recovers by a fifth a move while it does not;
    - it starts with 1/3000 of the attached coefficient and comes from below,
      because units that died of too strong a penalty rarely come back.

    The trend, a fiftieth of each error below 0.2 added up, follows networks
    that escape a penalty step by step, as they escape Hoyer's by larger
    activations.

    The first line is the velocity form of a PI controller (Åström and Hägglund
    1995, "PID Controllers: Theory, Design, and Tuning"), the halved gain that
    of Riedmiller and Braun 1993, "A Direct Adaptive Method for Faster
    Backpropagation Learning: The RPROP Algorithm". Their combination, the
    trend, the start and the numbers are this package's own, chosen on simulated
    plants and on sparse autoencoders of digits, and not published elsewhere.

    Example:
    >>> from keras_actpen import LogPI, TargetController
    >>> hold = TargetController("dense_4/l1", 0.8, rule=LogPI(limit=0.2))

    Args:
        gain: Number > 0. With 1 an activation count that is a tenth too
            large makes the coefficient a tenth larger.
        damping: Number >= 0, the weight of the error's change.
        limit: Number > 0, the most that a move changes the logarithm.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If it is not in range.
    """

    gain: float = 1.0
    damping: float = 1.0
    limit: float = 0.6

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_number("gain", self.gain, "a finite number > 0", _positive)
        check_number(
            "damping",
            self.damping,
            "a finite number >= 0",
            lambda value: value >= 0,
        )
        check_number("limit", self.limit, "a finite number > 0", _positive)

    def first(self, coefficient: float) -> float:
        """1/3000 of the attached coefficient."""
        return coefficient / 3000

    def move(
        self, coefficient: float, miss: Miss, memory: Memory, limits: Limits
    ) -> tuple[float, Memory]:
        """The next coefficient, and what to remember. See `ControlRule`."""
        error = miss.log
        before, gain, trend = memory or (error, self.gain, 0.0)
        if error * before < 0:
            gain = max(gain / 2, self.gain / 4)
        else:
            gain = min(1.2 * gain, self.gain)
        change = gain * (error + self.damping * (error - before)) + trend
        change = min(max(change, -self.limit), self.limit)
        # Far from the target the error says nothing about the trend.
        trend = trend + 0.02 * error if abs(error) < 0.2 else trend / 2
        trend = min(max(trend, -0.1), 0.1)
        moved = limits.clip(coefficient * math.exp(change))
        return moved, (error, gain, trend)


@dataclass(frozen=True)
class GECO(ControlRule):
    """Multiplies the coefficient, by more the larger the error.

        average <- decay * average + (1 - decay) * error
        coefficient <- coefficient * exp(rate * average)

    Corrects a coefficient that is off by orders of magnitude; a coefficient
    of 0 stays 0. Rezende and Viola 2018, "Taming VAEs" (Generalized ELBO with
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
        check_number("rate", self.rate, "a finite number > 0", _positive)
        check_number(
            "decay",
            self.decay,
            "a number from 0 to below 1",
            lambda value: 0 <= value < 1,
        )

    def move(
        self, coefficient: float, miss: Miss, memory: Memory, limits: Limits
    ) -> tuple[float, Memory]:
        """The next coefficient, and what to remember. See `ControlRule`."""
        error = _within_one(miss.share)
        (average,) = memory or (error,)
        average = self.decay * average + (1 - self.decay) * error
        moved = coefficient * math.exp(self.rate * average)
        return limits.clip(moved), (average,)


@dataclass(frozen=True)
class PI(ControlRule):
    """Adds up the errors, and follows the last one at once.

        integral <- integral + integral_gain * error
        coefficient <- low + unit * (gain * sigmoid(error) + integral)

    where `unit` is the coefficient that the term was attached with. The
    integral stands still while the coefficient is at a bound and the error
    pushes against it (anti-windup). It starts at a value at which the
    coefficient does not jump. Shao et al. 2020, "ControlVAE: Controllable
    Variational Autoencoder".

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
            _positive,
        )

    def move(
        self, coefficient: float, miss: Miss, memory: Memory, limits: Limits
    ) -> tuple[float, Memory]:
        """The next coefficient, and what to remember. See `ControlRule`."""
        error = _within_one(miss.share)
        proportional = self.gain / (1 + math.exp(-error))
        (integral,) = memory or (
            (coefficient - limits.low) / limits.unit - proportional,
        )
        against = limits.high if error > 0 else limits.low
        if coefficient != against:
            integral += self.integral_gain * error
        moved = limits.low + limits.unit * (proportional + integral)
        return limits.clip(moved), (integral,)


RuleName: TypeAlias = Literal["log_pi", "geco", "pi"]
RULES: dict[RuleName, type[ControlRule]] = {
    "log_pi": LogPI,
    "geco": GECO,
    "pi": PI,
}


def get_rule(rule: Any) -> ControlRule:
    """A rule from its name or an instance of one.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(rule, ControlRule):
        return rule
    if isinstance(rule, str) and rule in RULES:
        return RULES[rule]()
    raise ValueError(
        f"Invalid value received for argument `rule`. Expected one of "
        f"{list(RULES)}, or one of them with other gains, for example "
        f"keras_actpen.GECO(rate=0.5). Received: rule={rule!r}"
    )


def _positive(value: float) -> bool:
    return value > 0


def _within_one(error: float) -> float:
    return min(max(error, -1.0), 1.0)
