"""Penalties of logits, router probabilities and variational codes."""

from typing import Any

from keras import ops

from keras_actpen.backend.tensors import Activation, Tensor
from keras_actpen.internals.registration import serializable
from keras_actpen.penalties.base import (
    FixedPenalty,
    PositionPenalty,
    at_least_float32,
    check_choice,
    check_coefficient,
)
from keras_actpen.penalties.reductions import BatchStatistics
from keras_actpen.penalties.targets import (
    check_logits,
    check_rank,
    check_units,
    describe,
    is_softmax,
    probe,
    refuse,
)

# exp(40) is far from float32's limit even times a float16's largest.
LARGEST_LOG = 40.0


@serializable
class ConfidencePenalty(PositionPenalty):
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
    >>> import numpy as np
    >>> penalty = ConfidencePenalty(1.0)
    >>> round(float(penalty(np.zeros((3, 4), "float32"))), 4)
    -1.3863

    Args:
        coefficient: Finite number >= 0.
        threshold: `None`, or the entropy in nats above which nothing is
            penalised.
        reduction: `"mean"` (default, over positions), `"batch"` or `"sum"`.
        name: Name of the term, by default `"confidence_penalty"`.
    """

    def __init__(
        self,
        coefficient: float = 0.1,
        *,
        threshold: float | None = None,
        reduction: str = "mean",
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

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse what is not the logits of at least two classes."""
        super().check_target(output, activation, on)
        check_logits(self, output, activation, on)
        check_units(self, output, 2)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {"threshold": self.threshold, **super().get_config()}


@serializable
class ZLoss(PositionPenalty):
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
    >>> import numpy as np
    >>> penalty = ZLoss(1.0)
    >>> round(float(penalty(np.zeros((3, 4), "float32"))), 4)
    1.9218

    Args:
        coefficient: Finite number >= 0.
        reduction: `"mean"` (default, over positions), `"batch"` or `"sum"`.
        name: Name of the term, by default `"z_loss"`.
    """

    def __init__(
        self,
        coefficient: float = 1e-4,
        *,
        reduction: str = "mean",
        name: str | None = None,
    ):
        super().__init__(coefficient, reduction=reduction, name=name)

    def unreduced(self, activations: Tensor) -> Tensor:
        """Squared log-partition of every position."""
        return ops.square(ops.logsumexp(activations, axis=-1))

    def check_target(
        self, output: Tensor, activation: Activation | None, on: str
    ) -> None:
        """Refuse what is not logits."""
        super().check_target(output, activation, on)
        check_logits(self, output, activation, on)


@serializable
class LoadBalance(FixedPenalty):
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
    >>> import numpy as np
    >>> penalty = LoadBalance(1.0)
    >>> float(penalty(np.array([[1.0, 0.0], [0.75, 0.25]], "float32")))
    1.75

    Args:
        coefficient: Finite number >= 0.
        activation: `None` if the layer's own activation tells that its
            values are probabilities; `"softmax"` to say so of a layer without
            an `activation`; `"linear"` for logits, of which the softmax is
            penalised.
        name: Name of the term, by default `"load_balance"`.
    """

    def __init__(
        self,
        coefficient: float = 0.01,
        *,
        activation: str | None = None,
        name: str | None = None,
    ):
        super().__init__(coefficient, name=name)
        self.activation: str | None = check_choice(
            "activation", activation, (None, "softmax", "linear")
        )

    def value(self, activations: Tensor, mask: Tensor | None = None) -> Tensor:
        """Units times the sum of shares times mean probabilities."""
        batch = BatchStatistics(at_least_float32(activations), mask)
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
        check_rank(self, output, 2)
        check_units(self, output, 2)
        if self.activation == "linear":
            check_logits(self, output, activation, on)
            return
        values = probe(activation, on)
        unknown = values is None and self.activation is not None
        if not unknown and not is_softmax(values):
            refuse(
                self,
                "probabilities, a layer with a softmax activation (say "
                "LoadBalance(activation='linear') for logits, "
                "activation='softmax' where you know better)",
                describe(activation, on),
            )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that re-create this penalty."""
        return {"activation": self.activation, **super().get_config()}


@serializable
class VIB(PositionPenalty):
    """Divergence of a Gaussian code from the standard normal.

    `coefficient * sum 1/2 (m^2 + s^2 - 1 - log s^2) / batch`, over samples,
    positions and the k dimensions of the code. The layer's last axis holds
    2 k numbers: k means m, then k logarithms log s^2 (beyond 40 the
    exponential goes on as a straight line, so that it cannot overflow).
    Suits the linear layer that puts out both, as in variational autoencoders
    and bottlenecks. Usual coefficients are 1e-4 to 1e-1. Right on the global
    batch under tf.distribute.

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes"; Alemi,
    Fischer, Dillon, Murphy 2017, "Deep Variational Information Bottleneck".

    Example:
    >>> import numpy as np
    >>> penalty = VIB(1.0)
    >>> float(penalty(np.array([[2.0, 0.0, 0.0, 0.0]], "float32")))
    2.0

    Args:
        coefficient: Finite number >= 0.
        reduction: `"batch"` (default), `"mean"` (over positions) or `"sum"`.
        name: Name of the term, by default `"vib"`.
    """

    def __init__(
        self,
        coefficient: float = 1e-3,
        *,
        reduction: str = "batch",
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
        """Refuse odd numbers of units and bounded outputs."""
        super().check_target(output, activation, on)
        check_logits(self, output, activation, on)
        units = output.shape[-1]
        if units is not None and units % 2:
            refuse(
                self,
                "a layer with an even number of units, means and log-variances",
                f"an output of shape {tuple(output.shape)}",
            )
