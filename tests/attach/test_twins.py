"""A layer in two graphs: `.output`, new heads, and what is left behind."""

import copy
import gc
import weakref

import keras
import numpy as np
import pytest
from gradients import unrecorded
from keras import layers, ops
from models import FEATURES, QUICK, assert_same_arrays, data

from keras_actpen import (
    PenalizedLayer,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_terms,
    watch_activations,
)

BACKEND = keras.backend.backend()


def cnn():
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(3, 3, activation="relu", name="target")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(4, 3, activation="relu", name="last_conv")(x)
    x = layers.Dropout(0.5, name="drop")(x * 2.0)
    x = layers.Flatten(name="flat")(x)
    outputs = layers.Dense(2, name="score")(x)
    return keras.Model(inputs, outputs, name="cnn")


def images():
    """Tensors: Keras warns of an array where a model has a list of inputs."""
    values = np.random.default_rng(0).normal(size=(5, 8, 8, 1))
    return ops.convert_to_tensor(values, "float32")


def numpy_of(values):
    return [ops.convert_to_numpy(one) for one in keras.tree.flatten(values)]


def grad_cam(model, name, x):
    """Score, activations and the gradient of one by the other."""
    layer = model.get_layer(name)
    grad_model = keras.Model(model.inputs, [layer.output, model.outputs[0]])
    activations, score = grad_model(x, training=False)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            activations, score = grad_model(x, training=False)
            total = tf.reduce_sum(score[:, 0])
        gradient = tape.gradient(total, activations)
    elif BACKEND == "torch":
        import torch

        total = torch.sum(score[:, 0])
        (gradient,) = torch.autograd.grad(total, activations)
    else:
        import jax

        rest = keras.Model(layer.output, model.outputs[0])
        gradient = jax.grad(lambda h: rest(h, training=False)[:, 0].sum())(
            activations
        )
    with unrecorded():
        return numpy_of([activations, score, gradient])


def attached_and_detached():
    plain = cnn()
    attached = attach_penalty(plain, "target", l2=0.1)
    return plain, attached, detach_penalty(attached)


def test_grad_cam():
    plain, attached, detached = attached_and_detached()
    x = images()
    expected = grad_cam(plain, "last_conv", x)
    assert np.abs(expected[2]).max() > 0
    for model in (attached, detached, plain):
        assert_same_arrays(grad_cam(model, "last_conv", x), expected)
    # At the penalized layer itself too.
    assert_same_arrays(
        grad_cam(attached, "target", x), grad_cam(plain, "target", x)
    )


def test_grad_cam_with_weights_of_its_own():
    plain = cnn()
    attached = attach_penalty(plain, "target", l2=0.1, share_weights=False)
    assert not {*map(id, plain.weights)} & {*map(id, attached.weights)}
    x = images()
    assert_same_arrays(
        grad_cam(attached, "last_conv", x), grad_cam(plain, "last_conv", x)
    )


def all_activations(model, x):
    part = keras.Model(model.inputs, [one.output for one in model.layers])
    with unrecorded():
        return numpy_of(part(x, training=False))


def test_all_activations():
    plain, attached, detached = attached_and_detached()
    x = images()
    expected = all_activations(plain, x)
    assert_same_arrays(all_activations(attached, x), expected)
    assert_same_arrays(all_activations(detached, x), expected)


def test_all_activations_of_a_sequential_model():
    plain = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(3, name="target"),
            layers.ReLU(),
            layers.Dense(2),
        ]
    )
    attached = attach_penalty(plain, "target", l2=0.1)
    x = ops.convert_to_tensor(data()[0])
    expected = all_activations(plain, x)
    assert_same_arrays(all_activations(attached, x), expected)
    assert_same_arrays(all_activations(detach_penalty(attached), x), expected)


def nested_cnn():
    base = cnn()
    base = keras.Model(base.inputs, base.get_layer("flat").output, name="base")
    inputs = keras.Input((8, 8, 1))
    hidden = base(inputs)
    outputs = layers.Dense(2, name="head")(layers.ReLU(name="relu")(hidden))
    return keras.Model(inputs, outputs, name="nested")


def test_inside_nested_models():
    plain = nested_cnn()
    x = images()
    expected = all_activations(plain.get_layer("base"), x)
    attached = attach_penalty(plain, "base/target", l2=0.1)
    for model in (attached, detach_penalty(attached)):
        base = model.get_layer("base")
        assert_same_arrays(all_activations(base, x), expected)
        assert_same_arrays(
            grad_cam(base, "last_conv", x),
            grad_cam(plain.get_layer("base"), "last_conv", x),
        )
        # Behind the nested model, whose own `output` is inside of it.
        assert_same_arrays(
            grad_cam(model, "relu", x), grad_cam(plain, "relu", x)
        )


def test_new_head_keeps_the_penalty():
    plain, attached, detached = attached_and_detached()
    x = images()
    wanted = penalty_terms(attached, x)
    assert wanted["target/l2"] > 0
    hidden = attached.layers[-2].output
    new = keras.Model(attached.inputs, layers.Dense(3)(hidden))
    assert list(penalized_layers(new)) == ["target"]
    assert penalty_terms(new, x) == pytest.approx(wanted)
    new.compile("sgd", "mse", **QUICK)
    zeros = np.zeros((5, 3), "float32")
    with_penalty = new.evaluate(x, zeros, verbose=0)
    task = np.mean(new.predict(x, verbose=0) ** 2)
    assert with_penalty == pytest.approx(task + wanted["target/l2"], rel=1e-5)
    for model in (detached, plain):
        new = keras.Model(
            model.inputs, layers.Dense(3)(model.layers[-2].output)
        )
        assert penalized_layers(new) == {}
        new(x)
        assert new.losses == []


def test_new_head_of_a_new_head_can_be_detached():
    _, attached, _ = attached_and_detached()
    new = keras.Model(
        attached.inputs, layers.Dense(3)(attached.layers[-2].output)
    )
    x = images()
    again = attach_penalty(new, "last_conv", l1=0.3)
    assert list(penalty_terms(again, x)) == ["target/l2", "last_conv/l1"]
    plain = detach_penalty(again)
    assert penalized_layers(plain) == {}
    assert_same_arrays(all_activations(plain, x), all_activations(new, x))


def test_detached_model_has_the_first_graph():
    plain, attached, detached = attached_and_detached()
    assert detached.layers == plain.layers
    assert detached.outputs[0] is plain.outputs[0]
    assert [type(one) for one in detached.operations] == [
        type(one) for one in plain.operations
    ]
    assert attached.outputs[0] is not plain.outputs[0]


def test_batch_normalization_moves_once():
    models = []
    for step in range(3):
        keras.utils.set_random_seed(3)
        models.append(cnn())
        if step:
            models[-1] = attach_penalty(models[-1], "target", l2=0.0)
        if step == 2:
            models[-1] = detach_penalty(models[-1])
    x = images()
    moved = []
    for model in models:
        model.compile("sgd", "mse", **QUICK)
        model.train_on_batch(x, np.zeros((5, 2), "float32"))
        moved.append(numpy_of(model.get_layer("norm").moving_mean.value))
    assert np.abs(moved[0][0]).max() > 0
    assert_same_arrays(moved[1], moved[0])
    assert_same_arrays(moved[2], moved[0])


def test_is_an_instance_of_the_layers_class():
    plain, attached, _ = attached_and_detached()
    target, behind = attached.get_layer("target"), attached.get_layer("norm")
    assert isinstance(target, layers.Conv2D)
    assert isinstance(target, PenalizedLayer)
    assert isinstance(behind, layers.BatchNormalization)
    assert not isinstance(behind, PenalizedLayer)
    assert behind is not plain.get_layer("norm")
    # What asks for the class in another way is told that of the user.
    assert behind.__class__ is layers.BatchNormalization
    assert [type(one).__name__ for one in attached.layers] == [
        type(one).__name__ for one in plain.layers
    ]
    found = [
        one.name for one in attached.layers if isinstance(one, layers.Conv2D)
    ]
    assert found == ["target", "last_conv"]


def test_freezing_by_class_reaches_a_penalized_layer():
    plain = cnn()
    attached = attach_penalty(plain, "norm", l2=0.1)
    for layer in attached.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    assert plain.get_layer("norm").trainable is False
    assert len(attached.trainable_weights) == len(plain.trainable_weights) == 6
    x = images()
    attached.compile("sgd", "mse", **QUICK)
    attached.train_on_batch(x, np.zeros((5, 2), "float32"))
    np.testing.assert_array_equal(
        *numpy_of([plain.get_layer("norm").moving_mean.value, np.zeros(3)])
    )


@pytest.mark.filterwarnings("ignore:The penalty on .* changes no weight")
@pytest.mark.parametrize("target", ["base/target", "relu", "base"])
def test_trainable_set_on_the_users_nested_model(target):
    plain = nested_cnn()
    base = plain.get_layer("base")
    base.trainable = False
    attached = attach_penalty(plain, target, l2=0.1)
    twice = attach_penalty(attached, target, l1=0.1)
    models = (plain, attached, twice, detach_penalty(attached))
    for flag in (True, False):
        base.trainable = flag
        for model in models:
            assert model.get_layer("base").trainable is flag
            expected = 8 if flag else 2
            assert len(model.trainable_weights) == expected
    # And the other way round.
    twice.get_layer("base").trainable = True
    assert base.trainable is True
    assert base.get_layer("norm").trainable is True


def node_counts(model):
    operations = list(model.operations)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            operations += layer.operations
    return [
        (len(one._inbound_nodes), len(one._outbound_nodes))
        for one in operations
    ]


def with_masks():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True, name="words")(inputs)
    x = layers.Dense(4, name="target")(x)
    x = layers.Masking(name="masking")(x)
    outputs = layers.Dense(2, name="head")(layers.LSTM(3, name="lstm")(x))
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("make", [cnn, nested_cnn, with_masks])
def test_nothing_grows_on_the_model_passed_in(make):
    plain = make()
    before = node_counts(plain)
    gone = []
    for _ in range(50):
        attached = attach_penalty(plain, "target", l2=0.1)
        detached = detach_penalty(attached)
        gone += [weakref.ref(attached), weakref.ref(attached.layers[-1])]
        gone += [weakref.ref(detached)]
    assert node_counts(plain) == before
    del attached, detached
    gc.collect()
    assert [one() for one in gone if one() is not None] == []


def test_classes_of_the_users_are_collected(tmp_path):
    """Neither the classes of twins nor Keras's registry of names keep them."""

    class Hidden(layers.Dense):
        pass

    class Base(keras.Model):
        pass

    inputs = keras.Input((FEATURES,), name="features")
    hidden = Hidden(4, name="target")(inputs)
    base = Base(inputs, Hidden(3, name="behind")(hidden), name="base")
    attached = attach_penalty(
        keras.Model(inputs, base(inputs)), "base/target", l2=0.1
    )
    attached.save(tmp_path / "model.keras")
    (layer,) = penalized_layers(attached).values()
    made = [Hidden, Base, type(layer), type(attached.get_layer("base"))]
    assert keras.saving.get_registered_name(type(layer)) == (
        "keras_actpen>PenalizedLayer"
    )
    gone = [weakref.ref(one) for one in made]
    del Hidden, Base, inputs, hidden, base, attached, layer, made
    gc.collect()  # the classes of twins
    gc.collect()  # those of the user, which had these as subclasses
    assert [one() for one in gone] == [None] * 4


def test_layers_are_found_by_the_users_objects():
    plain = nested_cnn()
    base = plain.get_layer("base")
    attached = attach_penalty(plain, "base/target", l2=0.1)
    for entry in (base, lambda layer: layer is base):
        again = attach_penalty(attached, entry, l1=0.1)
        assert list(penalized_layers(again)) == ["base", "base/target"]
    for entry in (base.get_layer("norm"), attached.get_layer("relu")):
        again = attach_penalty(attached, entry, l1=0.1)
        assert len(penalized_layers(again)) == 2


def test_a_failing_attachment_leaves_nothing():
    plain = cnn()
    before = node_counts(plain)
    with pytest.raises(ValueError, match="scalar"):
        attach_penalty(plain, "target", lambda h: h)
    assert node_counts(plain) == before


def test_shared_layer_has_the_output_of_the_same_call():
    """Keras goes by depth: the second call may come first in a graph."""
    inputs = keras.Input((FEATURES,))
    target = layers.Dense(FEATURES, name="target")(inputs)
    shared = layers.Dense(FEATURES, name="shared")
    calls = [shared(target * float(i)) for i in range(3)]
    late = layers.Dense(2, name="a")(layers.Dense(3, name="b")(calls[2]))
    plain = keras.Model(inputs, [calls[1], calls[0], late])
    attached = attach_penalty(plain, "target", l2=0.1)
    twin = attached.get_layer("shared")
    assert twin is not shared
    x = ops.convert_to_tensor(data()[0])
    expected = [node.outputs[0] for node in shared._inbound_nodes]
    found = [node.outputs[0] for node in twin._inbound_nodes]
    for one, other in zip(found, expected, strict=True):
        assert_same_arrays(
            numpy_of(keras.Model(attached.inputs, one)(x)),
            numpy_of(keras.Model(plain.inputs, other)(x)),
        )
    for index, tensor in enumerate(found):
        assert tensor._keras_history == (twin, index, 0)
    loaded = keras.Model.from_config(attached.get_config())
    loaded.set_weights(attached.get_weights())
    assert_same_arrays(numpy_of(loaded(x)), numpy_of(plain(x)))


def test_both_graphs_in_one_model():
    """Each has the losses of its own calls, none twice."""
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(3, name="target")(inputs)
    x = layers.Dense(
        3, activity_regularizer=keras.regularizers.L2(1.0), name="behind"
    )(x)
    plain = keras.Model(inputs, x, name="plain")
    attached = attach_penalty(plain, "target", l2=1.0)
    attached.name = "attached"
    both = keras.Model(inputs, [plain(inputs), attached(inputs)])
    both.compile("sgd", ["mse", "mse"], **QUICK)
    x = ops.convert_to_tensor(data()[0])
    h = numpy_of(keras.Model(inputs, plain.layers[1].output)(x))[0]
    y = numpy_of(plain(x))[0]
    found = both.evaluate(x, [y, y], verbose=0, return_dict=True)["loss"]
    expected = (np.sum(h**2) + 2 * np.sum(y**2)) / len(x)
    assert found == pytest.approx(expected, rel=1e-5)


def test_operations_that_are_no_layers_are_twins_too():
    plain, attached, detached = attached_and_detached()
    (operation,) = [
        one for one in plain.operations if not isinstance(one, layers.Layer)
    ]
    (twin,) = [
        one for one in attached.operations if not isinstance(one, layers.Layer)
    ]
    assert twin is not operation
    assert twin.name == operation.name
    assert isinstance(twin, type(operation))
    assert operation in detached.operations
    x = images()
    model = keras.Model(attached.inputs, twin.output)
    assert_same_arrays(
        numpy_of(model(x)),
        numpy_of(keras.Model(plain.inputs, operation.output)(x)),
    )


def with_weights_of(model, clone):
    clone.set_weights(model.get_weights())
    return clone


def test_coefficients_after_detaching_are_those_given():
    attached = attach_penalty(cnn(), "target", l2=0.5)
    penalized_layers(attached)["target"].coefficients["l2"] = 0.25
    again = attach_penalty(detach_penalty(attached), "target", l2=0.125)
    assert dict(penalized_layers(again)["target"].coefficients) == {"l2": 0.125}
    assert dict(penalized_layers(attached)["target"].coefficients) == {
        "l2": 0.25
    }


def test_coefficients_are_each_models_own():
    plain = cnn()
    first = attach_penalty(plain, "target", l2=0.5)
    penalized_layers(first)["target"].coefficients["l2"] = 0.25
    for second in (
        attach_penalty(first, "score", l2=0.1),
        attach_penalty(first, "target", l1=0.1),
        attach_penalty(first, "score", l2=0.1, share_weights=False),
        attach_penalty(first, "target", l1=0.1, share_weights=False),
        watch_activations(first, "norm"),
        detach_penalty(attach_penalty(first, "score", l2=0.1), "score"),
        copy.deepcopy(first),
        with_weights_of(first, keras.models.clone_model(first)),
    ):
        coefficients = penalized_layers(second)["target"].coefficients
        assert coefficients["l2"] == 0.25
        coefficients["l2"] = 7.0
        assert penalized_layers(first)["target"].coefficients["l2"] == 0.25
        assert penalty_terms(first, images())["target/l2"] == pytest.approx(
            penalty_terms(second, images())["target/l2"] * 0.25 / 7.0
        )


def test_attaching_does_not_trace_what_is_behind():
    """Their shapes are known."""
    traced = []

    class Counted(layers.Layer):
        def call(self, x):
            traced.append(x)
            return x + 1.0

        def compute_output_spec(self, x):
            traced.append(x)
            return keras.KerasTensor(x.shape, x.dtype)

    inputs = keras.Input((FEATURES,))
    x = layers.Dense(3, name="target")(inputs)
    plain = keras.Model(inputs, Counted()(Counted()(x)))
    traced.clear()
    attached = attach_penalty(plain, "target", penalties.L2(0.1))
    _ = detach_penalty(attach_penalty(attached, "target", l1=0.1))
    assert traced == []
