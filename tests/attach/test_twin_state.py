"""A penalized layer and its twins are the layer, whatever its class does."""

import copy
import pickle
import subprocess
import sys
import weakref
from typing import ClassVar

import keras
import numpy as np
import pytest
from gradients import unrecorded
from keras import layers, ops
from models import FEATURES, QUICK, assert_same_arrays, data
from paths import SUPPORT

from keras_actpen import (
    PenalizedLayer,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_terms,
)

BACKEND = keras.backend.backend()


def dense_model():
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(6, activation="relu", name="front")(inputs)
    x = layers.Dense(6, name="target")(x)
    outputs = layers.Dense(2, name="behind")(x)
    return keras.Model(inputs, outputs)


def pair(name, plain=None):
    """A layer, or the layer in front of another, and its twin."""
    plain = plain or dense_model()
    attached = attach_penalty(plain, "target", l2=0.1)
    return plain.get_layer(name), attached.get_layer(name), plain, attached


def outputs_of(model):
    with unrecorded():
        return ops.convert_to_numpy(model(data()[0], training=False))


both_ways = pytest.mark.parametrize("name", ["target", "behind"])
either_first = pytest.mark.parametrize("swap", [False, True])


@both_ways
@either_first
def test_lora(name, swap):
    layer, twin, plain, attached = pair(name)
    first, second = (twin, layer) if swap else (layer, twin)
    first.enable_lora(2)
    assert second.lora_enabled
    assert second.lora_kernel_a is first.lora_kernel_a
    first.lora_kernel_b.assign(np.ones(first.lora_kernel_b.shape))
    assert_same_arrays([outputs_of(attached)], [outputs_of(plain)])
    assert [v.path for v in layer.variables] == [
        v.path for v in twin.variables if "penalty" not in v.path
    ]
    assert f"{name}/lora_kernel_a" in [v.path for v in attached.weights]
    attached.compile("adam", "mse", **QUICK)
    attached.train_on_batch(*data())
    assert_same_arrays([outputs_of(attached)], [outputs_of(plain)])


@both_ways
@either_first
def test_quantization(name, swap):
    layer, twin, plain, attached = pair(name)
    before = outputs_of(plain)
    (twin if swap else layer).quantize("int8")
    assert layer.quantization_mode == twin.quantization_mode == "int8"
    after = outputs_of(attached)
    assert_same_arrays([outputs_of(plain)], [after])
    assert np.abs(after - before).max() > 0
    assert penalty_terms(attached, data()[0])["target/l2"] > 0


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
def test_quantizing_the_whole_model():
    _, _, plain, attached = pair("target")
    attached.quantize("int8")
    assert plain.get_layer("front").quantization_mode == "int8"
    assert plain.get_layer("target").quantization_mode == "int8"
    assert_same_arrays([outputs_of(plain)], [outputs_of(attached)])


@both_ways
@either_first
def test_dtype_policy(name, swap):
    layer, twin, plain, attached = pair(name)
    (twin if swap else layer).dtype_policy = "mixed_float16"
    assert layer.compute_dtype == twin.compute_dtype == "float16"
    assert_same_arrays([outputs_of(attached)], [outputs_of(plain)])


@both_ways
@either_first
def test_attributes(name, swap):
    layer, twin, _, _ = pair(name)
    first, second = (twin, layer) if swap else (layer, twin)
    first.note = "seen"
    first.activation = keras.activations.tanh
    assert (second.note, second.activation) == ("seen", keras.activations.tanh)
    del second.note
    assert not hasattr(first, "note")
    first.name = "renamed"
    assert second.name == "renamed"


def test_new_name_is_saved(tmp_path):
    _, twin, _, attached = pair("target")
    twin.name = "renamed"
    assert list(penalized_layers(attached)) == ["renamed"]
    attached.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert list(penalized_layers(loaded)) == ["renamed"]
    assert detach_penalty(attached).get_layer("renamed") is twin.wrapped_layer


@pytest.mark.skipif(BACKEND != "torch", reason="torch only")
@both_ways
@either_first
def test_torch_hooks(name, swap):
    layer, twin, plain, attached = pair(name)
    first, second = (twin, layer) if swap else (layer, twin)
    seen = []
    handle = first.register_forward_hook(lambda *args: seen.append(args[0]))
    plain(data()[0])
    attached(data()[0])
    assert seen == [layer, twin]
    handle.remove()
    second.register_forward_hook(lambda module, args, output: output * 0.0)
    assert np.abs(outputs_of(attached) - outputs_of(plain)).max() == 0


# Classes of the user's own ---------------------------------------------------


def around(layer):
    """The layer is the target, or it is behind the target."""
    inputs = keras.Input((FEATURES,))
    x = layers.Dense(FEATURES, name="target")(inputs)
    behind = keras.Model(inputs, layer(x))
    copied = type(layer).from_config(layer.get_config())
    return {
        "behind": (behind, "target"),
        "penalized": (keras.Model(inputs, copied(inputs)), copied.name),
    }


def check_is_transparent(layer):
    """Outputs and losses are those of the plain model; terms come on top."""
    found = {}
    for where, (plain, target) in around(layer).items():
        attached = attach_penalty(plain, target, l2=0.1)
        x, _ = data()
        plain(x)
        expected = [float(ops.convert_to_numpy(one)) for one in plain.losses]
        assert_same_arrays([outputs_of(attached)], [outputs_of(plain)])
        attached(x)
        losses = [float(ops.convert_to_numpy(one)) for one in attached.losses]
        (term,) = penalty_terms(attached, x).values()
        assert sum(losses) == pytest.approx(sum(expected) + term, rel=1e-5)
        plain(x)
        assert len(plain.losses) == len(expected)
        attached.compile("sgd", "mse", **QUICK)
        zeros = np.zeros((len(x), FEATURES), "float32")
        loss = attached.evaluate(x, zeros, verbose=0)
        task = np.mean(outputs_of(attached) ** 2)
        assert loss == pytest.approx(task + sum(losses), rel=1e-5)
        found[where] = attached
    return found


@keras.saving.register_keras_serializable(package="tests")
class Python2Super(layers.Dense):
    def __init__(self, units=FEATURES, **kwargs):
        super(self.__class__, self).__init__(units, **kwargs)

    def build(self, input_shape):
        super(self.__class__, self).build(input_shape)

    def call(self, inputs, training=None):
        return super(self.__class__, self).call(inputs, training=training)

    def compute_output_shape(self, input_shape):
        return super(self.__class__, self).compute_output_shape(input_shape)

    def save_own_variables(self, store):
        super(self.__class__, self).save_own_variables(store)

    def load_own_variables(self, store):
        super(self.__class__, self).load_own_variables(store)

    def get_config(self):
        return super(self.__class__, self).get_config()


def test_super_of_the_objects_class(tmp_path):
    for model in check_is_transparent(Python2Super()).values():
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert_same_arrays([outputs_of(loaded)], [outputs_of(model)])


@keras.saving.register_keras_serializable(package="tests")
class Colliding(layers.Layer):
    """Has what a penalized layer has, by the same names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.terms = [layers.Dense(FEATURES), layers.Dense(FEATURES)]
        self.places = {"a": layers.Dense(FEATURES)}
        self.coefficients = layers.Dense(FEATURES)
        self.wrapped = [1]

    def build(self, input_shape):
        for layer in (*self.terms, self.places["a"], self.coefficients):
            layer.build(input_shape)

    def call(self, inputs):
        assert type(self) is Colliding
        assert self.losses_of("own") == "own"
        x = inputs
        for layer in self.terms:
            x = layer(x)
        return self.coefficients(self.places["a"](x))

    def losses_of(self, value):
        return value


def test_attributes_of_the_same_names(tmp_path):
    found = check_is_transparent(Colliding())
    model = found["penalized"]
    layer = model.layers[-1]
    assert isinstance(layer, PenalizedLayer)
    assert layer.terms is layer.wrapped_layer.terms
    assert list(layer.actpen.coefficients.items()) == [("l2", 0.1)]
    plain = detach_penalty(model)
    for writes, reads in ((model, plain), (plain, model)):
        writes.save_weights(tmp_path / "own.weights.h5")
        expected = outputs_of(writes)
        reads.set_weights([w * 0.0 for w in reads.get_weights()])
        reads.load_weights(tmp_path / "own.weights.h5")
        assert_same_arrays([outputs_of(reads)], [expected])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_arrays([outputs_of(loaded)], [outputs_of(model)])


@keras.saving.register_keras_serializable(package="tests")
class WithSlots(layers.Layer):
    __slots__ = ("factor",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        object.__setattr__(self, "factor", 3.0)

    def call(self, inputs):
        return inputs * self.factor


def test_slots():
    for model in check_is_transparent(WithSlots()).values():
        layer = model.layers[-1]
        assert layer.factor == 3.0
        layer.factor = 2.0
        layer = detach_penalty(model).layers[-1]
        assert type(layer) is WithSlots
        assert layer.factor == 2.0


class Registering(type(layers.Layer)):
    made: ClassVar[dict[str, type]] = {}

    def __new__(mcs, name, bases, namespace, **kwargs):
        assert name not in mcs.made, "one class a name"
        mcs.made[name] = cls = super().__new__(mcs, name, bases, namespace)
        return cls


@keras.saving.register_keras_serializable(package="tests")
class OfMetaclass(layers.Layer, metaclass=Registering):
    subclasses: ClassVar[list[type]] = []

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        OfMetaclass.subclasses.append(cls)

    def call(self, inputs):
        return inputs * 2.0


def test_metaclass_and_init_subclass():
    check_is_transparent(OfMetaclass())
    assert Registering.made == {"OfMetaclass": OfMetaclass}
    assert OfMetaclass.subclasses == []


@keras.saving.register_keras_serializable(package="tests")
class BoundInInit(layers.Layer):
    """Keeps a method, which is bound to the first object for good."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.function = self._scaled

    def _scaled(self, inputs):
        self.add_loss(ops.sum(inputs**2))
        return inputs * 2.0

    def call(self, inputs):
        return self.function(inputs)


def test_method_kept_by_the_layer():
    check_is_transparent(BoundInInit())


# Copies and files ------------------------------------------------------------


@both_ways
def test_copies_of_a_layer(name):
    layer, twin, _, _ = pair(name)
    copied = copy.deepcopy(twin)
    pickled = pickle.loads(pickle.dumps(twin))
    x = np.ones((2, 6), "float32")
    for one in (copied, pickled):
        assert isinstance(one, PenalizedLayer) is (name == "target")
        assert isinstance(one, layers.Dense)
        assert one.kernel is not twin.kernel
        assert_same_arrays(
            [ops.convert_to_numpy(one(x))], [ops.convert_to_numpy(layer(x))]
        )
    assert weakref.ref(twin)() is twin


def test_copies_of_a_model():
    _, _, _, attached = pair("target")
    penalized_layers(attached)["target"].coefficients["l2"] = 0.7
    for one in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        assert_same_arrays([outputs_of(one)], [outputs_of(attached)])
        assert penalty_terms(one, data()[0]) == pytest.approx(
            penalty_terms(attached, data()[0])
        )


def test_pickle_of_a_model_brings_the_import(tmp_path):
    _, twin, _, attached = pair("target")
    for name, one in (("model", attached), ("layer", twin)):
        (tmp_path / name).write_bytes(pickle.dumps(one))
    code = (
        "import pickle, sys\n"
        "for name in ('model', 'layer'):\n"
        "    with open(f'{sys.argv[1]}/{name}', 'rb') as file:\n"
        "        print(pickle.load(file).name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [attached.name, "target"], done.stderr


def test_detached_model_needs_no_keras_actpen(tmp_path):
    _, _, _, attached = pair("target")
    detached = detach_penalty(attached)
    detached.save(tmp_path / "detached.keras")
    loaded = detach_penalty(copy.deepcopy(attached))  # has no first graph
    loaded.save(tmp_path / "loaded.keras")
    np.save(tmp_path / "expected.npy", outputs_of(detached))
    np.save(tmp_path / "x.npy", data()[0])
    code = (
        "import sys, keras, numpy as np\n"
        "folder = sys.argv[1]\n"
        "for name in ('detached', 'loaded'):\n"
        "    model = keras.models.load_model(f'{folder}/{name}.keras')\n"
        "    found = model.predict(np.load(f'{folder}/x.npy'), verbose=0)\n"
        "    expected = np.load(f'{folder}/expected.npy')\n"
        "    np.testing.assert_allclose(found, expected, rtol=1e-5)\n"
        "assert 'keras_actpen' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SUPPORT.is_dir()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow only")
def test_checkpoint_has_the_coefficients(tmp_path):
    import tensorflow as tf

    _, _, _, attached = pair("target")
    coefficients = penalized_layers(attached)["target"].coefficients
    coefficients["l2"] = 0.7
    expected = outputs_of(attached)
    path = tf.train.Checkpoint(model=attached).write(str(tmp_path / "point"))
    names = [name for name, _ in tf.train.list_variables(path)]
    assert sum("penalty_coefficients" in name for name in names) == 1
    coefficients.variable.assign([0.0])
    attached.set_weights([w * 0.0 for w in attached.get_weights()])
    tf.train.Checkpoint(model=attached).read(path).assert_consumed()
    assert_same_arrays([outputs_of(attached)], [expected])
    np.testing.assert_allclose(coefficients.variable.numpy(), [0.7])


@pytest.mark.skipif(BACKEND != "torch", reason="torch only")
@both_ways
def test_torch_data_parallel(name):
    """`replicate` copies a module's attributes by hand, for every device."""
    import torch

    layer, twin, _, attached = pair(name)
    replica = twin._replicate_for_data_parallel()
    assert type(replica) is type(twin)
    assert replica is not twin
    assert replica.name == layer.name
    x = torch.ones((2, 6))
    assert_same_arrays(
        [ops.convert_to_numpy(replica(x))], [ops.convert_to_numpy(layer(x))]
    )
    parallel = torch.nn.DataParallel(attached)
    values = torch.tensor(data()[0])
    assert_same_arrays(
        [ops.convert_to_numpy(parallel(values))], [outputs_of(attached)]
    )


@pytest.mark.skipif(BACKEND != "torch", reason="torch only")
@pytest.mark.parametrize("asked_first", ["layer", "penalized"])
def test_torch_parameters_are_the_layers(asked_first):
    """A layer without weights collects them when it is asked for them."""
    layer = layers.Reshape((FEATURES, 1))
    penalized = PenalizedLayer(layer, "l2")
    penalized(data()[0])
    both = [layer, penalized]
    for one in both if asked_first == "layer" else reversed(both):
        assert list(one.named_parameters()) == []
        assert one.state_dict() == {}


@pytest.mark.skipif(BACKEND != "torch", reason="torch only")
# Of torch's compiler, which does itself what it warns of.
@pytest.mark.filterwarnings("default")
def test_torch_compile():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="relu", name="target")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    weights = model.get_weights()
    losses = []
    for jit in (False, True):
        model.set_weights(weights)
        attached = attach_penalty(model, "target", l2=0.1)
        attached.compile("sgd", "mse", jit_compile=jit)
        history = attached.fit(*data(), epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-5)
