"""What Keras's trainers do differently on TensorFlow, JAX and torch."""

import keras


def hands_state_through() -> bool:
    """Whether a step takes and returns the values of the model's variables.

    So it is on JAX. Its trainer keeps the values apart while an epoch runs,
    and this holds for every batch hook of a callback there:

    - Variables are read after `sync_variables(model)` alone.
    - What a hook assigns without it is lost; coefficients, which are assigned
      often, are handed to the coming step instead.
    - The model is kept in an attribute: `self.model` of a callback syncs at
      every step.
    - What is kept for a later step is copied to NumPy, because steps reuse
      the memory of what they are given.
    """
    return keras.backend.backend() == "jax"


def sync_variables(model: keras.Model) -> None:
    """Give variables, in a batch hook, the values of the running epoch."""
    if hands_state_through():
        model.jax_state_sync()


def ends_steps_in_threads() -> bool:
    """Whether Keras may call a callback's `on_train_batch_end` in a thread.

    It has called all of them when an epoch ends.
    """
    return keras.backend.backend() != "tensorflow"


def state_is_sharded() -> bool:
    """Whether compiled steps are made for a number of variables."""
    return (
        hands_state_through() and keras.distribution.distribution() is not None
    )


def compiles_steps(model: keras.Model) -> bool:
    """Whether the first step of a compiled model takes time to compile."""
    if keras.backend.backend() == "torch":
        return bool(model.jit_compile)
    return not model.run_eagerly


def looks_up_step(model: keras.Model, name: str) -> bool:
    """Whether a model's functions look up the step whenever they run.

    Keras's do so on torch; those of the user's own may do so anywhere.

    Args:
        model: The model.
        name: `"train_function"` or `"test_function"`.
    """
    if keras.backend.backend() == "torch":
        return True
    make = getattr(model, f"make_{name}")
    of_keras = getattr(keras.Model, f"make_{name}")
    return getattr(make, "__func__", None) is not of_keras


def returns_scalars() -> bool:
    """Whether a step should return several scalars instead of one vector.

    On TensorFlow the scalars of a compiled step are read in a few
    microseconds. Of anything else in the logs Keras asks TensorFlow whether
    it is a tensor, which takes ten.
    """
    return keras.backend.backend() == "tensorflow"
