"""All experiments by name."""

from benchmarks.effects.autoencoder import AUTOENCODER
from benchmarks.effects.control import CONTROL
from benchmarks.effects.covariance import COVARIANCE
from benchmarks.effects.experiments import Experiment
from benchmarks.effects.logits import CONFIDENCE, Z_LOSS
from benchmarks.effects.quantization import QUANTIZATION
from benchmarks.effects.sequence import SEQUENCE
from benchmarks.effects.settling import SETTLING
from benchmarks.effects.sparsity import SPARSITY

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        SPARSITY,
        AUTOENCODER,
        COVARIANCE,
        CONFIDENCE,
        Z_LOSS,
        SEQUENCE,
        QUANTIZATION,
        CONTROL,
        *SETTLING,
    )
}
