"""The targets."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import names
from benchmarks.harness import Comparison, Ratio, overhead_ratio, ratio

# Of the largest activation: room for what the allocator rounds up.
BUFFER_SHARE = 0.25


@dataclass(frozen=True)
class Target:
    """A limit that a ratio should keep.

    Attributes:
        text: What is promised.
        pattern: Of the names of the measurements that it is about.
        value: The ratio, from one of them.
        limit: Its limit.
        least: Whether the limit is the least, not the most it may be.
        backend: Pattern of the backends that it is about.
        device: Device that it is about.
    """

    text: str
    pattern: str
    value: Callable[[Comparison], Ratio]
    limit: float
    least: bool = False
    backend: str = "*"
    device: str = "cpu"


def _ratio(arm: str, to: str | None = None) -> Callable[[Comparison], Ratio]:
    return lambda comparison: comparison.ratio(arm, to)


def _overhead(peer: str, ours: str) -> Callable[[Comparison], Ratio]:
    return lambda comparison: overhead_ratio(
        comparison.costs[peer],
        comparison.costs[ours],
        comparison.costs[comparison.baseline],
    )


def _extra_buffers(comparison: Comparison) -> Ratio:
    """Peak memory beyond that of the built-in, in largest activations."""
    size = comparison.facts["activation_bytes"]
    ours, theirs = (
        comparison.costs[names.ATTACHED],
        comparison.costs[names.BUILT_IN],
    )
    extra = sorted((a - b) / size for a, b in zip(ours, theirs, strict=True))
    middle = extra[len(extra) // 2]
    return Ratio(middle, extra[0], extra[-1], extra[0], extra[-1])


def _to_expected(sixteen: str, all_64: str) -> Callable[[Comparison], Ratio]:
    """Cost of 64 layers to what it is if each costs what one of 16 does."""

    def value(comparison: Comparison) -> Ratio:
        bare = comparison.costs[comparison.baseline]
        expected = [
            without + 4 * (cost - without)
            for cost, without in zip(
                comparison.costs[sixteen], bare, strict=True
            )
        ]
        return ratio(comparison.costs[all_64], expected)

    return value


_L1, _BUILT_IN_L1 = names.l1(names.ATTACHED), names.l1(names.BUILT_IN)
_TWO, _BUILT_IN_TWO = (
    names.l1_and_l2(names.ATTACHED),
    names.l1_and_l2(names.BUILT_IN),
)

TARGETS: tuple[Target, ...] = (
    Target(
        "L2: never slower than activity_regularizer",
        "steps/*",
        _ratio(names.ATTACHED, names.BUILT_IN),
        1.0,
    ),
    Target(
        "L1: never slower than activity_regularizer",
        "steps/*",
        _ratio(_L1, _BUILT_IN_L1),
        1.0,
    ),
    Target(
        "L1 and L2 on one layer: never slower than activity_regularizer",
        "steps/*",
        _ratio(_TWO, _BUILT_IN_TWO),
        1.0,
    ),
    Target(
        "L2 on the MNIST CNN under TensorFlow: at most 1.10 of the bare step",
        "steps/mnist_cnn-*",
        _ratio(names.ATTACHED),
        1.10,
        backend="tensorflow",
    ),
    Target(
        "L1 on the MNIST CNN under TensorFlow: at most 1.10 of the bare step",
        "steps/mnist_cnn-*",
        _ratio(_L1),
        1.10,
        backend="tensorflow",
    ),
    Target(
        "PenaltyMonitor with defaults: at most 1.01 of training without",
        "monitor/*",
        _ratio(names.MONITOR),
        1.01,
    ),
    Target(
        "Watching 64 layers: at most 1.02",
        "watched_layers/*",
        _ratio(names.watching(64)),
        1.02,
    ),
    Target(
        "At least 50 times less overhead than tf.summary.histogram in call",
        "peers/*",
        _overhead(names.SUMMARY_IN_CALL, names.MONITOR),
        50.0,
        least=True,
        backend="tensorflow",
    ),
    Target(
        "At least 20 times less overhead than an extra forward pass with "
        "histograms in TensorBoard",
        "cadence/*",
        _overhead(names.EXTRA_PASS, names.ONCE),
        20.0,
        least=True,
    ),
    Target(
        "At least 20 times less overhead than an extra forward pass with "
        "np.histogram, of which nothing is written",
        "cadence/*",
        _overhead(names.LEAN_EXTRA_PASS, names.ONCE),
        20.0,
        least=True,
    ),
    Target(
        "predict: 1.00 of the bare model's",
        "predict/*",
        _ratio(names.ATTACHED),
        1.0,
    ),
    Target(
        "evaluate: as with activity_regularizer",
        "evaluate/*",
        _ratio(names.ATTACHED),
        1.0,
    ),
    Target(
        "Attaching: under a tenth of clone_model + set_weights",
        "attach_time/*",
        _ratio(names.ATTACHED),
        0.1,
    ),
    Target(
        "Attaching: no second copy of the weights",
        "new_weights/*",
        _ratio(names.ATTACHED),
        0.001,
    ),
    Target(
        "Peak memory of a step: no activation more than "
        "activity_regularizer (in activations of conv_2)",
        "memory/*",
        _extra_buffers,
        BUFFER_SHARE,
    ),
    Target(
        "Growth: 64 penalised layers cost what 16 let expect",
        "penalized_layers/*",
        _to_expected(names.on_layers(16), names.on_layers(64)),
        1.0,
    ),
    Target(
        "Growth: 64 watched layers cost what 16 let expect",
        "watched_layers/*",
        _to_expected(names.watching(16), names.watching(64)),
        1.0,
    ),
    Target(
        "First step with one target: at most 1.3 of the bare model's",
        "first_step/*",
        _ratio(names.on_layers(1)),
        1.3,
    ),
    Target(
        "GPU: penalty at most 1.02 of the bare step",
        "steps/*",
        _ratio(names.ATTACHED),
        1.02,
        device="gpu",
    ),
    Target(
        "GPU: monitor at most 1.005 of training without",
        "monitor/*",
        _ratio(names.MONITOR),
        1.005,
        device="gpu",
    ),
)
