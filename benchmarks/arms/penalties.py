"""The ways to penalize activations, each as a model that trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from benchmarks.arms import names
from benchmarks.arms.models import Workload
from benchmarks.timing.rounds import Arm, timed
from keras_actpen import attach_penalty

# Small, so that the penalty does not change what is timed: units that it
# drives to 0, or below the smallest normal number, take another time.
COEFFICIENT = 1e-4
LEARNING_RATE = 1e-6


@dataclass(frozen=True)
class Trainee:
    """A compiled model with the targets that its outputs want.

    Attributes:
        model: The model.
        targets: Makes them from the labels.
    """

    model: keras.Model
    targets: Callable[[np.ndarray], object] = lambda labels: labels

    def step(self, data: tuple[np.ndarray, np.ndarray]) -> float:
        """Take a training step and return the loss."""
        x, labels = data
        return keras.tree.flatten(
            self.model.train_on_batch(x, self.targets(labels))
        )[0]


def synchronize(model: keras.Model) -> None:
    """Wait for the device: the last step's result is copied to the host."""
    ops.convert_to_numpy(model.optimizer.iterations.value)


def step_arm(name: str, trainee: Trainee, workload: Workload) -> Arm:
    """An arm that times a training step."""
    x, labels = workload.data(1)
    targets = trainee.targets(labels)

    def step() -> None:
        trainee.model.train_on_batch(x, targets)
        synchronize(trainee.model)

    return Arm(name, timed(step))


def bare(workload: Workload, jit_compile: bool | str) -> Trainee:
    """No penalty."""
    model = workload.model()
    return Trainee(compiled(model, task_loss(), jit_compile))


def built_in(
    workload: Workload,
    jit_compile: bool | str,
    regularizer: keras.regularizers.Regularizer,
) -> Trainee:
    """What Keras does for `activity_regularizer`."""
    model = workload.model()
    for name in workload.targets:
        model.get_layer(name).activity_regularizer = regularizer
    return Trainee(compiled(model, task_loss(), jit_compile))


def custom_loss(workload: Workload, jit_compile: bool | str) -> Trainee:
    """Hidden activations as outputs, each with a loss of its own."""

    def penalty(unused, hidden):
        axes = tuple(range(1, len(hidden.shape)))
        return COEFFICIENT * ops.sum(ops.square(hidden), axis=axes)

    model = workload.model()
    hidden = [model.get_layer(name).output for name in workload.targets]
    model = keras.Model(model.inputs, [model.outputs[0], *hidden])
    losses = [task_loss(), *[penalty] * len(hidden)]

    def targets(labels):
        return [labels, *[np.zeros((len(labels), 1), "float32")] * len(hidden)]

    return Trainee(compiled(model, losses, jit_compile), targets)


class AddLoss(keras.layers.Layer):
    """Passes its input through and adds its mean square sum to the loss."""

    def call(self, inputs):
        batch = ops.cast(ops.shape(inputs)[0], inputs.dtype)
        self.add_loss(COEFFICIENT * ops.sum(ops.square(inputs)) / batch)
        return inputs


def add_loss(workload: Workload, jit_compile: bool | str) -> Trainee:
    """A pass-through layer behind each target."""

    model = with_layer_behind(workload.model(), workload.targets, AddLoss)
    return Trainee(compiled(model, task_loss(), jit_compile))


def with_layer_behind(
    model: keras.Model,
    targets: Sequence[str],
    make: Callable[[], keras.layers.Layer],
) -> keras.Model:
    """The same model with a pass-through layer behind each target."""

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        return make()(outputs) if layer.name in targets else outputs

    plain = keras.Model(model.inputs, model.outputs)
    return keras.models.clone_model(
        plain,
        input_tensors=plain.inputs,
        clone_function=lambda layer: layer,
        call_function=call,
    )


def attached(
    workload: Workload,
    jit_compile: bool | str,
    targets: Sequence[str] = (),
    **penalties: float,
) -> Trainee:
    """`attach_penalty`, on all targets unless some are named."""
    model = attach_penalty(
        workload.model(), list(targets or workload.targets), **penalties
    )
    return Trainee(compiled(model, task_loss(), jit_compile))


def l2_trainees(
    workload: Workload, jit_compile: bool | str
) -> dict[str, Trainee]:
    """All ways to add the same L2 penalty, which must agree."""
    l2 = keras.regularizers.L2(COEFFICIENT)
    return {
        names.BUILT_IN: built_in(workload, jit_compile, l2),
        names.CUSTOM_LOSS: custom_loss(workload, jit_compile),
        names.ADD_LOSS: add_loss(workload, jit_compile),
        names.ATTACHED: attached(workload, jit_compile, l2=COEFFICIENT),
    }


def attached_trainees(
    workload: Workload, jit_compile: bool | str
) -> dict[str, Trainee]:
    """Our own ways alone."""
    return {
        names.ATTACHED: attached(workload, jit_compile, l2=COEFFICIENT),
        names.l1(names.ATTACHED): attached(
            workload, jit_compile, l1=COEFFICIENT
        ),
    }


def l1_trainees(
    workload: Workload, jit_compile: bool | str
) -> dict[str, Trainee]:
    """The same L1 penalty by Keras and by us."""
    l1 = keras.regularizers.L1(COEFFICIENT)
    return {
        names.l1(names.BUILT_IN): built_in(workload, jit_compile, l1),
        names.l1(names.ATTACHED): attached(
            workload, jit_compile, l1=COEFFICIENT
        ),
    }


def many_terms(
    workload: Workload, jit_compile: bool | str
) -> dict[str, Trainee]:
    """Two terms a layer by Keras and by us."""
    both = keras.regularizers.L1L2(COEFFICIENT, COEFFICIENT)
    return {
        names.l1_and_l2(names.BUILT_IN): built_in(workload, jit_compile, both),
        names.l1_and_l2(names.ATTACHED): attached(
            workload, jit_compile, l1=COEFFICIENT, l2=COEFFICIENT
        ),
    }


def task_loss() -> keras.losses.Loss:
    """The loss without any penalty."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(
    model: keras.Model, loss: object, jit_compile: bool | str
) -> keras.Model:
    """The model, ready to train."""
    model.compile(
        keras.optimizers.Adam(LEARNING_RATE),
        loss,
        jit_compile=jit_compile,
    )
    return model
