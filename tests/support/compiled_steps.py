"""Runs functions that assign variables as compiled steps run them."""

import keras

BACKEND = keras.backend.backend()


def compiled(function, variables, jit=True):
    """`function(*arrays)` as a backend compiles it, assigning `variables`."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=jit)
    if BACKEND == "jax":
        import jax

        @jax.jit
        def pure(values, *arrays):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping) as scope:
                function(*arrays)
            return [scope.get_current_value(v) for v in variables]

        def step(*arrays):
            values = pure([v.value for v in variables], *arrays)
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

        return step
    return function
