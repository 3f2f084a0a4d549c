"""What backends and arms are called, in code and in tables."""

# The second is TensorFlow with XLA.
BACKENDS = ("tensorflow", "tensorflow-xla", "jax", "torch")

BARE = "bare"
BUILT_IN = "activity_regularizer"
CUSTOM_LOSS = "multi-output custom loss"
ADD_LOSS = "pass-through add_loss"
ATTACHED = "attach_penalty"

MONITOR = "PenaltyMonitor"
EVERY_STEP = "PenaltyMonitor, every step"
TERMS_ONLY = "PenaltyMonitor, terms only"
FOLLOWING = "PenaltyMonitor, terms and on_dead_units"
ONCE = "PenaltyMonitor, once an epoch"
EXTRA_PASS = "extra forward pass, once an epoch"
LEAN_EXTRA_PASS = "extra forward pass, nothing written"
SUMMARY_IN_CALL = "tf.summary.histogram in call"
HOST_PULLS = "host pulls every batch"
TENSORBOARD = "TensorBoard(histogram_freq=1)"

CLONE = "clone_model + set_weights"
IMPORT_KERAS = "import keras"
IMPORT = "import keras_actpen"
TF_SCALAR = "tf.summary.scalar"
SCALAR = "our scalar"
TF_HISTOGRAM = "tf.summary.histogram"
HISTOGRAM = "our histogram"


def l1(arm: str) -> str:
    """The same arm with an L1 penalty."""
    return f"{arm} (L1)"


def l1_and_l2(arm: str) -> str:
    """The same arm with an L1 and an L2 penalty on each layer."""
    return f"{arm} (L1 and L2)"


def on_layers(number: int) -> str:
    """`attach_penalty` on some layers of many."""
    return f"{ATTACHED} on {number}"


def watching(number: int) -> str:
    """`watch_activations` and `PenaltyMonitor` on some layers of many."""
    return f"watching {number}"
