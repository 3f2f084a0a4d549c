"""Penalties of logits, router probabilities and variational codes."""

from typing import Literal, TypeAlias

from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.penalties.base import BatchPenalty, Penalty, Reduction
from keras_actpen.penalties.reductions import BatchStatistics
from keras_actpen.penalties.targets import (
    Target,
    check_logits,
    describe,
    is_softmax,
    probe,
    refuse,
    refuse_shape,
)
from keras_actpen.penalties.validation import check_choice, check_coefficient

__all__ = ["VIB", "ConfidencePenalty", "LoadBalance", "ZLoss"]

Names: TypeAlias = Literal[
    "vib", "confidence_penalty", "load_balance", "z_loss"
]


# exp(40) is far from float32's limit even times a float16's largest.
LARGEST_LOG = 40.0


class ConfidencePenalty(Penalty):
    """Minus the entropy of softmax(h): against overconfident classifiers.

    `-coefficient * mean_p H_p`, `H_p = -sum_c q_pc log q_pc` with `q_p =
    softmax(h_p)` over the last axis, the mean over counted samples and
    positions. Negative, down to `-log(units)`. With a `threshold` the hinge
    `coefficient * mean_p relu(threshold - H_p)`, which leaves outputs of
    enough entropy alone. Suits the logits of a classifier, so
    `on="preactivation"` for a softmax layer. Usual coefficient 0.1. Right on
    the global batch under tf.distribute.

    Pereyra, Tucker, Chorowski, Kaiser, Hinton 2017, "Regularizing Neural
    Networks by Penalizing Confident Output Distributions".

    Example:
    >>> round(float(ConfidencePenalty(1.0)(ops.zeros((3, 4)))), 4)
    -1.3863

    Args:
        coefficient: Finite number >= 0.
        threshold: `None`, or the entropy in nats above which nothing is
            penalized.
        reduction: `"mean"` (default) or `"position"` (the same here),
            `"batch"` or `"sum"`.
        name: Name of the term, by default `"confidence_penalty"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the layer has a single unit or the
            values are not logits.
    """

    _target = Target(rank=2, units=2, logits=True)

    def __init__(
        self,
        coefficient: float = 0.1,
        *,
        threshold: float | None = None,
        reduction: Reduction = "mean",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)
        if threshold is not None:
            threshold = check_coefficient("threshold", threshold)
        self.threshold = threshold

    def unreduced(self, activations: Tensor) -> Tensor:
        """Minus the entropy of every position, or what it lacks."""
        logs = ops.log_softmax(activations, axis=-1)
        negative_entropy = ops.sum(ops.exp(logs) * logs, axis=-1)
        if self.threshold is None:
            return negative_entropy
        return ops.relu(self.threshold + negative_entropy)


class ZLoss(Penalty):
    """Squared log-partition of the logits: keeps softmax from drifting.

    `coefficient * mean_p (log sum_c exp h_pc)^2`, the mean over counted
    samples and positions, `c` over the last axis. Suits the logits of a
    classifier or a router, so `on="preactivation"` for a softmax layer. Usual
    coefficients: 1e-4 for outputs, 1e-3 for routers. Right on the global
    batch under tf.distribute.

    Chowdhery et al. 2022, "PaLM: Scaling Language Modeling with Pathways";
    Zoph et al. 2022, "ST-MoE: Designing Stable and Transferable Sparse Expert
    Models".

    Example:
    >>> round(float(ZLoss(1.0)(ops.zeros((3, 4)))), 4)
    1.9218

    Args:
        coefficient: Finite number >= 0.
        reduction: `"mean"` (default) or `"position"` (the same here),
            `"batch"` or `"sum"`.
        name: Name of the term, by default `"z_loss"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the values are known not to be
            logits.
    """

    _target = Target(rank=2, logits=True)

    def __init__(
        self,
        coefficient: float = 1e-4,
        *,
        reduction: Reduction = "mean",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def unreduced(self, activations: Tensor) -> Tensor:
        """Squared log-partition of every position."""
        return ops.square(ops.logsumexp(activations, axis=-1))


class LoadBalance(BatchPenalty):
    """Spreads a router's choices evenly over its experts.

    `coefficient * units * sum_e f_e P_e`, where `f_e` is the share of counted
    samples and positions whose most probable expert is `e` (no gradient; a
    tie counts in equal parts) and `P_e` the mean probability of `e`. 1 when
    both are uniform, `units` when one expert takes all. Suits the
    probabilities of a mixture-of-experts router. Usual coefficient 0.01. A
    batch statistic: right on the global batch under tf.distribute; on torch
    each process has its own.

    Fedus, Zoph, Shazeer 2021, "Switch Transformers: Scaling to Trillion
    Parameter Models with Simple and Efficient Sparsity".

    Example:
    >>> float(LoadBalance(1.0)([[1.0, 0.0], [0.75, 0.25]]))
    1.75

    Args:
        coefficient: Finite number >= 0.
        activation: `None` for a layer whose own activation gives
            probabilities; `"softmax"` for probabilities of a layer without an
            `activation`; `"linear"` for logits, of which the softmax is
            penalized.
        name: Name of the term, by default `"load_balance"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the output is not known to be
            probabilities.
    """

    _target = Target(rank=2, units=2)

    def __init__(
        self,
        coefficient: float = 0.01,
        *,
        activation: Literal["softmax", "linear"] | None = None,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.activation: str | None = check_choice(
            "activation", activation, (None, "softmax", "linear")
        )

    def statistic(self, batch: BatchStatistics) -> Tensor:
        """Units times the sum of shares times mean probabilities."""
        probabilities = batch.values
        if self.activation == "linear":
            probabilities = ops.softmax(probabilities, axis=-1)
        largest = ops.max(probabilities, axis=-1, keepdims=True)
        chosen = ops.cast(
            ops.equal(probabilities, largest), probabilities.dtype
        )
        chosen = chosen / ops.sum(chosen, axis=-1, keepdims=True)
        share = batch.mean(ops.stop_gradient(chosen))
        products = ops.stop_gradient(share) * batch.mean(probabilities)
        return ops.sum(products) * probabilities.shape[-1]

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse what is not known to be a router's probabilities."""
        super().check_target(output, activation, on)
        if self.activation == "linear":
            check_logits(self, activation, on)
            return
        values = probe(activation, on)
        unknown = values is None and self.activation is not None
        if not unknown and not is_softmax(values):
            refuse(
                self,
                "probabilities, a layer with a softmax activation",
                describe(activation, on),
                "Write LoadBalance(activation='linear') for logits, "
                "LoadBalance(activation='softmax') for the probabilities of a "
                "layer without an `activation`",
            )


class VIB(Penalty):
    """Divergence of a Gaussian code from the standard normal.

    `coefficient * sum 1/2 (m^2 + s^2 - 1 - log s^2) / batch`, over samples,
    positions and the k dimensions of the code. The layer's last axis holds
    2 k numbers: k means m, then k logarithms log s^2 (beyond 40 the
    exponential goes on as a straight line, so that it cannot overflow).
    Suits the linear layer that outputs both, as in variational autoencoders
    and bottlenecks. Usual coefficients are 1e-4 to 1e-1. Right on the global
    batch under tf.distribute.

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes"; Alemi,
    Fischer, Dillon, Murphy 2017, "Deep Variational Information Bottleneck".

    Example:
    >>> float(VIB(1.0)([[2.0, 0.0, 0.0, 0.0]]))
    2.0

    Args:
        coefficient: Finite number >= 0.
        reduction: `"batch"` (default), `"mean"` or `"position"` (the same
            here), or `"sum"`.
        name: Name of the term, by default `"vib"`.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        ValueError: When it is attached, if the number of units is odd or an
            activation other than linear comes before.
    """

    _target = Target(rank=2, logits=True)

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        reduction: Reduction = "batch",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def unreduced(self, activations: Tensor) -> Tensor:
        """Divergence of every position."""
        means, logs = ops.split(activations, 2, axis=-1)
        beyond = ops.relu(logs - LARGEST_LOG)
        variances = ops.exp(logs - beyond) * (1.0 + beyond)
        terms = ops.square(means) + variances - 1.0 - logs
        return 0.5 * ops.sum(terms, axis=-1)

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse odd numbers of units."""
        super().check_target(output, activation, on)
        if (output.shape[-1] or 0) % 2:
            refuse_shape(
                self,
                "a layer with an even number of units, means and log-variances",
                output,
            )
