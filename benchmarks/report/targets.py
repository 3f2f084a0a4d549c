"""The targets."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch

from benchmarks.arms import names
from benchmarks.timing.ratios import Ratio, overhead_ratio, ratio
from benchmarks.timing.rounds import Comparison

# Of the largest activation: room for what the allocator rounds up.
BUFFER_SHARE = 0.25


@dataclass(frozen=True)
class Target:
    """A limit that a ratio should keep.

    Attributes:
        key: What rows call it. Other arms or another formula want another
            key, for a row holds what was computed when it was measured.
        text: What is promised.
        pattern: Of the names of the measurements that it is about.
        arms: Names of the arms that it compares, and `formula` says how.
        limit: Its limit.
        formula: The ratio, from a measurement and these names.
        least: Whether the limit is the least, not the most it may be.
        backends: Those that it is about.
        device: Device that it is about.
    """

    key: str
    text: str
    pattern: str
    arms: tuple[str, ...]
    limit: float
    formula: Callable[..., Ratio] = Comparison.ratio
    least: bool = False
    backends: tuple[str, ...] = names.BACKENDS
    device: str = "cpu"

    def is_about(self, name: str, backend: str, device: str) -> bool:
        """Whether it limits what is measured so."""
        return (
            device == self.device
            and backend in self.backends
            and fnmatch(name, self.pattern)
        )

    def value(self, comparison: Comparison) -> Ratio:
        """The ratio that it limits, from a measurement that has its arms."""
        return self.formula(comparison, *self.arms)

    @property
    def limit_text(self) -> str:
        """The limit with its sign."""
        return f"{'>=' if self.least else '<='} {self.limit:g}"


def overhead(comparison: Comparison, peer: str, ours: str) -> Ratio:
    """How many times our overhead a peer's is."""
    arms = (peer, ours, comparison.baseline)
    return overhead_ratio(*(comparison.costs[arm] for arm in arms))


def extra_buffers(comparison: Comparison, ours: str, theirs: str) -> Ratio:
    """Peak memory beyond that of another arm, in largest activations."""
    size = comparison.facts["activation_bytes"]
    pairs = zip(comparison.costs[ours], comparison.costs[theirs], strict=True)
    extra = sorted((our - their) / size for our, their in pairs)
    return Ratio(extra[len(extra) // 2], extra[0], extra[-1])


def to_expected(comparison: Comparison, all_64: str, sixteen: str) -> Ratio:
    """Cost of 64 layers to what it is if each costs what one of 16 does."""
    bare = comparison.costs[comparison.baseline]
    expected = [
        without + 4 * (cost - without)
        for cost, without in zip(comparison.costs[sixteen], bare, strict=True)
    ]
    return ratio(comparison.costs[all_64], expected)


def first_run(comparison: Comparison, arm: str) -> Ratio:
    """What the first run takes, to that of the baseline; there is but one."""
    seconds = comparison.first_seconds
    found = seconds[arm] / seconds[comparison.baseline]
    return Ratio(found, found, found)


_L1 = (names.l1(names.ATTACHED), names.l1(names.BUILT_IN))
_TWO = (names.l1_and_l2(names.ATTACHED), names.l1_and_l2(names.BUILT_IN))

TARGETS: tuple[Target, ...] = (
    Target(
        "l2",
        "L2: never slower than activity_regularizer",
        "steps/*",
        (names.ATTACHED, names.BUILT_IN),
        1.0,
    ),
    Target(
        "l1",
        "L1: never slower than activity_regularizer",
        "steps/*",
        _L1,
        1.0,
    ),
    Target(
        "l1_and_l2",
        "L1 and L2 on one layer: never slower than activity_regularizer",
        "steps/*",
        _TWO,
        1.0,
    ),
    Target(
        "l2_torch_cnn",
        "L2 on the MNIST CNN on torch: at most 0.92 of activity_regularizer",
        "steps/mnist_cnn-*",
        (names.ATTACHED, names.BUILT_IN),
        0.92,
        backends=("torch",),
    ),
    Target(
        "l2_cnn",
        "L2 on the MNIST CNN on TensorFlow: at most 1.10 of the bare step",
        "steps/mnist_cnn-*",
        (names.ATTACHED,),
        1.10,
        backends=("tensorflow",),
    ),
    Target(
        "l1_cnn",
        "L1 on the MNIST CNN on TensorFlow: at most 1.10 of the bare step",
        "steps/mnist_cnn-*",
        (names.l1(names.ATTACHED),),
        1.10,
        backends=("tensorflow",),
    ),
    Target(
        "predict",
        "predict: 1.00 of the bare model's",
        "predict/*",
        (names.ATTACHED,),
        1.0,
    ),
    Target(
        "evaluate",
        "evaluate: as with activity_regularizer",
        "evaluate/*",
        (names.ATTACHED,),
        1.0,
    ),
    Target(
        "instrumented",
        "Instrumented steps of the CNN, three layers: at most 1.25 of plain",
        "peers/*",
        (names.EVERY_STEP,),
        1.25,
        backends=("tensorflow",),
    ),
    Target(
        "instrumented_elsewhere",
        "Instrumented steps of the CNN, three layers: at most 1.15 of plain",
        "peers/*",
        (names.EVERY_STEP,),
        1.15,
        backends=("jax", "torch"),
    ),
    Target(
        "monitor",
        "PenaltyMonitor with defaults: at most 1.01 of training without",
        "monitor/*",
        (names.MONITOR,),
        1.01,
    ),
    Target(
        "monitor_of_long_epochs",
        "The same with 500 steps an epoch: at most 1.003",
        "monitor_of_long_epochs/*",
        (names.MONITOR,),
        1.003,
    ),
    Target(
        "followed_cnn",
        "Following the units of three layers of the CNN: at most 1.003",
        "followed_units/mnist_cnn-*",
        (names.FOLLOWING,),
        1.003,
    ),
    Target(
        "followed_wide",
        "Following 16,384 units: at most 1.01",
        "followed_units/wide_mlp",
        (names.FOLLOWING,),
        1.01,
    ),
    Target(
        "watched_64",
        "Watching 64 layers: at most 1.02",
        "watched_layers/*",
        (names.watching(64),),
        1.02,
    ),
    Target(
        "watched_growth",
        "Growth: 64 watched layers cost what 16 let expect",
        "watched_layers/*",
        (names.watching(64), names.watching(16)),
        1.0,
        to_expected,
    ),
    Target(
        "penalized_growth",
        "Growth: 64 penalized layers cost what 16 let expect",
        "penalized_layers/*",
        (names.on_layers(64), names.on_layers(16)),
        1.0,
        to_expected,
    ),
    Target(
        "summary_in_call",
        "At least 50 times less overhead than tf.summary.histogram in call",
        "peers/*",
        (names.SUMMARY_IN_CALL, names.MONITOR),
        50.0,
        overhead,
        least=True,
        backends=("tensorflow",),
    ),
    Target(
        "extra_pass",
        "At least 20 times less overhead than an extra forward pass with "
        "histograms in TensorBoard",
        "cadence/*",
        (names.EXTRA_PASS, names.ONCE),
        20.0,
        overhead,
        least=True,
    ),
    Target(
        "lean_extra_pass",
        "At least 20 times less overhead than an extra forward pass with "
        "np.histogram, of which nothing is written",
        "cadence/*",
        (names.LEAN_EXTRA_PASS, names.ONCE),
        20.0,
        overhead,
        least=True,
    ),
    Target(
        "first_epoch",
        "First epoch with 64 watched layers: at most twice the bare model's",
        "watched_layers/*",
        (names.watching(64),),
        2.0,
        first_run,
    ),
    Target(
        "first_step",
        "First step with one target: at most 1.05 of the bare model's",
        "first_step/*",
        (names.on_layers(1),),
        1.05,
    ),
    Target(
        "attach_time",
        "Attaching: under a tenth of clone_model + set_weights",
        "attach_time/*",
        (names.ATTACHED,),
        0.1,
    ),
    Target(
        "attach_time_one",
        "Attaching to one layer of ResNet50: at most 0.02 of the same",
        "attach_time/resnet50-*",
        (names.on_layers(1),),
        0.02,
    ),
    Target(
        "new_weights",
        "Attaching: no second copy of the weights",
        "new_weights/*",
        (names.ATTACHED,),
        0.001,
    ),
    Target(
        "memory",
        "Peak memory of a step: no activation more than "
        "activity_regularizer (in activations of conv_2)",
        "memory/*",
        (names.ATTACHED, names.BUILT_IN),
        BUFFER_SHARE,
        extra_buffers,
    ),
    Target(
        "gpu_l2",
        "GPU: penalty at most 1.02 of the bare step",
        "steps/*",
        (names.ATTACHED,),
        1.02,
        device="gpu",
    ),
    Target(
        "gpu_monitor",
        "GPU: monitor at most 1.005 of training without",
        "monitor/*",
        (names.MONITOR,),
        1.005,
        device="gpu",
    ),
)
