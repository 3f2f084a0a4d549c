"""What is penalized: scalar functions of a layer's activations.

To add a penalty: write its class into the module of its family, with its name
in `__all__` and its snake-case name in `Names` above it; give it a row in
`tests/support/penalty_cases.py` and a line in CHANGELOG.md. `base.py` says
which class to derive from.
"""

from keras_actpen.penalties import (
    bounds,
    decorrelation,
    functions,
    l0,
    logits,
    moments,
    norms,
    sequence,
    sparsity,
    units,
)
from keras_actpen.penalties.base import Penalty
from keras_actpen.penalties.bounds import *  # noqa: F403  See `__all__` there.
from keras_actpen.penalties.decorrelation import *  # noqa: F403
from keras_actpen.penalties.functions import *  # noqa: F403
from keras_actpen.penalties.identifiers import Identifier as Identifier
from keras_actpen.penalties.identifiers import Identifiers as Identifiers
from keras_actpen.penalties.identifiers import deserialize, get, serialize
from keras_actpen.penalties.l0 import *  # noqa: F403
from keras_actpen.penalties.logits import *  # noqa: F403
from keras_actpen.penalties.moments import *  # noqa: F403
from keras_actpen.penalties.norms import *  # noqa: F403
from keras_actpen.penalties.sequence import *  # noqa: F403
from keras_actpen.penalties.sparsity import *  # noqa: F403
from keras_actpen.penalties.units import *  # noqa: F403

__all__ = ["Penalty", "deserialize", "get", "serialize"]
__all__ += bounds.__all__
__all__ += decorrelation.__all__
__all__ += functions.__all__
__all__ += l0.__all__
__all__ += logits.__all__
__all__ += moments.__all__
__all__ += norms.__all__
__all__ += sequence.__all__
__all__ += sparsity.__all__
__all__ += units.__all__


def __dir__() -> list[str]:
    """Public names alone."""
    return sorted(__all__)
