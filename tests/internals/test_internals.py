"""One test for each function of internals: Keras still works that way."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from models import (
    FEATURES,
    QUICK,
    DoubledLoss,
    Subclassed,
    data,
    functional,
    nested,
    of_users_class,
    sequential,
    subclassed,
)

from keras_actpen import PenalizedLayer, attach_penalty, internals, penalties
from keras_actpen.internals.layers import unlocked


def test_wrapper_opens_no_name_scope():
    layer = layers.Dense(2, name="dense_4")
    wrapper = PenalizedLayer(layer, "l2")
    wrapper(np.zeros((1, FEATURES), "float32"))
    assert [v.path for v in wrapper.trainable_weights] == [
        "dense_4/kernel",
        "dense_4/bias",
    ]


def test_wrapper_converts_no_arguments():
    class Sums(layers.Layer):
        def __init__(self):
            super().__init__(autocast=False)
            self._convert_input_args = False
            self._allow_non_tensor_positional_args = True

        def call(self, inputs, names):
            # As they were given: an array of integers, a list of strings.
            assert isinstance(inputs, np.ndarray)
            assert names == ["a", "b"]
            return ops.cast(inputs, "float32") * 2.0

    out = PenalizedLayer(Sums(), "l2")(np.array([[1, 2]]), ["a", "b"])
    np.testing.assert_array_equal(ops.convert_to_numpy(out), [[2.0, 4.0]])


def test_wrapped_model_saves_as_a_model():
    wrapper = PenalizedLayer(sequential(), "l2")
    assert wrapper._obj_type() == "Functional" or (
        wrapper._obj_type() == sequential()._obj_type()
    )
    layer = PenalizedLayer(layers.Dense(2), "l2")
    assert layer._obj_type() == layers.Dense(2)._obj_type() == "Layer"


def losses_of_two_calls(layer):
    """Sum of the losses of two calls that no model's `__call__` surrounds."""
    layer(np.zeros((1, 2), "float32"))  # builds
    with keras.StatelessScope(collect_losses=True):
        for factor in (1.0, 2.0):
            layer(np.full((1, 2), factor, "float32"))
        return sum(float(ops.convert_to_numpy(one)) for one in layer.losses)


def test_losses_of_a_layer_called_twice_in_a_scope():
    wrapper = PenalizedLayer(layers.Identity(), penalties.L2(0.5))
    assert losses_of_two_calls(wrapper) == 0.5 * 2 + 0.5 * 8
    # Twice the same, each scope from its own start.
    assert losses_of_two_calls(wrapper) == 0.5 * 2 + 0.5 * 8
    # If this fails, Keras keeps the losses of such a layer itself:
    # a sentence in `ObservedTwin._get_own_losses` can go.
    plain = layers.Identity(activity_regularizer=keras.regularizers.L2(0.5))
    assert losses_of_two_calls(plain) == 0.5 * 8


def test_losses_outside_a_scope_are_those_of_the_last_call():
    wrapper = PenalizedLayer(layers.Identity(), penalties.L2(0.5))
    for factor in (1.0, 2.0):
        wrapper(np.full((1, 2), factor, "float32"))
    assert [float(ops.convert_to_numpy(one)) for one in wrapper.losses] == [4.0]


def test_mask_of():
    embedded = layers.Embedding(4, 2, mask_zero=True)(np.array([[1, 0]]))
    mask = ops.convert_to_numpy(internals.mask_of(embedded))
    np.testing.assert_array_equal(mask, [[True, False]])
    assert internals.mask_of(ops.ones((1, 2))) is None


def test_output_spec_leaves_errors_as_they_are():
    def failing(x, *, factor):
        raise LookupError(f"as it is, {factor}")

    x = keras.KerasTensor((None, 3))
    with pytest.raises(LookupError) as caught:
        internals.output_spec(failing, (x,), {"factor": 2})
    assert caught.value.args == ("as it is, 2",)
    spec = internals.output_spec(
        lambda x, *, factor: ops.repeat(x, factor, 1), (x,), {"factor": 2}
    )
    assert (spec.shape, spec.dtype) == ((None, 6), "float32")


def test_try_out_traces_once():
    shapes = []

    def once(pairs):
        ((x, mask),) = pairs
        shapes.append((len(x.shape), mask))
        if x.shape[-1] == 4:
            raise LookupError("as it is")

    internals.try_out(once, [(keras.KerasTensor((None, None, 3)), None)])
    assert shapes == [(3, None)]
    with pytest.raises(LookupError, match="as it is"):
        internals.try_out(once, [(keras.KerasTensor((None, 4)), None)])


def test_is_writing_keras_file(tmp_path):
    seen = []

    @keras.saving.register_keras_serializable(package="tests")
    class Asked(layers.Layer):
        def get_config(self):
            seen.append(internals.is_writing_keras_file())
            return super().get_config()

    model = keras.Sequential([keras.Input((2,)), Asked()])
    model.to_json()
    assert set(seen) == {False}
    seen.clear()
    model.save(tmp_path / "model.keras")
    assert set(seen) == {True}
    assert not internals.is_writing_keras_file()


def test_unlocked():
    owner, child = layers.Dense(2), layers.Dense(3, name="child")
    owner.build((None, 2))
    child.build((None, 2))
    with pytest.raises(ValueError, match="already built"):
        owner.child = child
    with unlocked(owner):
        owner.child = child
    assert len(owner.variables) == 4
    assert owner._tracker.locked


def test_unlocked_leaves_an_unbuilt_layer_open():
    layer = layers.Dense(2)
    with unlocked(layer):
        pass
    assert not layer._tracker.locked


class Initialized(Exception):
    pass


class NeverTwice(DoubledLoss):
    made = 0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        type(self).made += 1
        if self.made > 1:
            raise Initialized


def side_by_side():
    """A model and calls of one layer, the first nearer to the outputs."""
    shared = layers.Dense(FEATURES, name="shared")
    inputs = keras.Input((FEATURES,))
    calls = [shared(inputs * float(i)) for i in range(3)]
    late = layers.Dense(2)(layers.Dense(3)(calls[2]))
    return keras.Model(inputs, [calls[1], calls[0], late]), shared


def test_original_graph():
    """What a plain layer was called on before is found again."""
    inputs = keras.Input((FEATURES,))
    replaced = layers.Dense(FEATURES, name="replaced")
    behind = layers.Dense(2, name="behind")
    plain = keras.Model(inputs, behind(replaced(inputs) * 2.0))
    attached = attach_penalty(plain, "replaced", l2=0.1)
    moved = {id(one) for one in attached.operations[1:]}
    found = internals.original_graph(attached, moved, internals.root_of)
    assert found[0] == plain.outputs
    assert [*found[1].values()] == plain.operations[1:]
    # Other arguments, another call.
    other = keras.Model(inputs, behind(replaced(inputs) * 3.0))
    assert internals.original_graph(other, moved, internals.root_of) is not None
    for operation in plain.operations[1:]:
        operation._inbound_nodes.pop()
    found = internals.original_graph(attached, moved, internals.root_of)
    assert found is None


def rebuilt(model, replaced, replacement):
    """Graph with `replacement` for `replaced`, twins for all behind."""
    moved = internals.moved_operations([(model, None)], {id(replaced)})

    def spec(operation):
        if operation is replaced:
            return replacement
        return internals.plain_twin(operation)

    outputs, placed = internals.rebuilt_graph(
        model, moved, {id(replaced)}, spec
    )
    return outputs, [*placed.values()]


def test_moved_operations():
    model = nested()
    inner = model.get_layer("encoder")
    graphs = [(model, None), (inner, inner)]
    moved = internals.moved_operations(graphs, {id(inner.get_layer("code"))})
    assert moved == {
        id(one)
        for one in (inner.get_layer("code"), inner, model.get_layer("decoder"))
    }
    moved = internals.moved_operations(graphs, {id(model.layers[-1])})
    assert moved == {id(model.get_layer("decoder"))}


def test_rebuilt_graph():
    """Nothing in front of what is replaced is added, what is behind is."""
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(3, name="front")(inputs)
    middle = layers.Dense(3, name="middle")(hidden)
    outputs = [layers.Dense(2, name="behind")(middle), hidden]
    model = keras.Model(inputs, outputs)
    replacement = layers.Dense(3)
    new, placed = rebuilt(model, model.get_layer("middle"), replacement)
    assert placed[0] is replacement
    assert internals.root_of(placed[1]) is model.get_layer("behind")
    assert len(placed) == 2
    assert new[1] is hidden
    assert new[0] is not outputs[0]
    assert (new[0].shape, new[0].dtype) == ((None, 2), "float32")
    found = keras.Model(inputs, new)
    x, _ = data()
    expected = model.get_layer("behind")(replacement(model(x)[1]))
    np.testing.assert_array_equal(
        *map(ops.convert_to_numpy, (found(x)[0], expected))
    )
    # What is in front has no note of it.
    assert len(model.get_layer("front")._outbound_nodes) == 1


def test_rebuilt_graph_keeps_the_order_of_a_layers_calls():
    """Keras goes by depth, where the later call may come first."""
    model, shared = side_by_side()
    by_depth = model._nodes_by_depth
    in_keras_order = [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation is shared
    ]
    assert in_keras_order != shared._inbound_nodes
    replaced = next(
        one for one in model.operations if not isinstance(one, layers.Layer)
    )
    new, placed = rebuilt(model, replaced, internals.plain_twin(replaced))
    (twin,) = [one for one in placed if internals.root_of(one) is shared]
    specs = [one._keras_history for one in new[:2]]
    assert specs == [(twin, 1, 0), (twin, 0, 0)]
    assert [node.outputs[0] for node in twin._inbound_nodes[:2]] == new[1::-1]


def test_rebuilt_graph_has_masks_of_its_own():
    """One that is computed from the inputs knows where they come from."""
    inputs = keras.Input((5, FEATURES))
    replaced = layers.Dense(3, name="replaced")
    outputs = layers.Masking()(replaced(inputs))
    model = keras.Model(inputs, outputs)
    replacement = layers.Dense(3, name="replaced")
    new, _ = rebuilt(model, replaced, replacement)
    assert internals.mask_of(new[0]) is not None
    extended = keras.Model(inputs, layers.LSTM(2)(new[0]))
    assert replacement in extended.layers
    assert replaced not in extended.layers


def test_functional_like_does_not_run_the_users_init():
    model = functional()
    NeverTwice.made = 0
    model = NeverTwice(model.input, model.output, name="mine")
    new = internals.functional_like(
        model, NeverTwice, model.input, model.output
    )
    assert type(new) is NeverTwice
    assert (new.name, NeverTwice.made) == ("mine", 1)
    assert [v.path for v in new.weights] == [v.path for v in model.weights]
    x, _ = data()
    np.testing.assert_array_equal(
        new.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_sequential_like_does_not_run_the_users_init():
    class Once(keras.Sequential):
        def __init__(self):
            super().__init__([keras.Input((2,)), layers.Dense(3)])

    model = Once()
    new = internals.sequential_like(
        model, Once, lambda layer: layer, model.inputs[0], model.outputs[0]
    )
    assert type(new) is Once
    assert new.name == model.name
    assert new.layers == model.layers
    assert new.built
    assert len(model.layers[0]._inbound_nodes) == 1


def test_rebuilt_model_is_as_trainable_as_the_users():
    model = functional()
    cls = internals.rebuilt_model_class(model)
    new = internals.functional_like(model, cls, model.input, model.output)
    internals.carry_over(model, new, lambda layer: layer)
    assert internals.original_of(new) is model
    assert isinstance(new, type(model))
    assert new.__class__ is type(model)
    assert internals.rebuilt_model_class(new) is cls
    model.trainable = False
    assert new.trainable is False
    new.trainable = True
    assert model.trainable is True


def test_carry_over():
    model = of_users_class()
    head = model.get_layer("head")
    other = layers.Dense(2, name="other")
    model.held = {"a": [head], "b": (head, 3)}
    model.supports_jit = False
    vars(model)["_trainable"] = False
    new = internals.functional_like(
        model, type(model), model.input, model.output
    )
    internals.carry_over(
        model, new, lambda layer: other if layer is head else layer
    )
    assert new.held["a"][0] is other
    assert tuple(new.held["b"]) == (other, 3)
    assert model.held["a"][0] is head
    assert new.factor == 2.0
    assert (new.supports_jit, new.trainable) == (False, False)
    assert head.trainable


def test_share_compile_state():
    model = functional()
    x, y = data()
    model.compile(
        keras.optimizers.Adam(0.01),
        lambda true, pred: ops.mean(ops.abs(true - pred), axis=-1),
        metrics=["mse"],
        **QUICK,
    )
    model.train_on_batch(x, y)
    attached = attach_penalty(model, "dense_4", l2=0.0)
    for name in (
        "optimizer",
        "loss",
        "_compile_loss",
        "_compile_metrics",
        "jit_compile",
        "run_eagerly",
        "steps_per_execution",
    ):
        assert getattr(attached, name) is getattr(model, name), name
    # The containers of shared metrics would count them twice.
    attached.reset_metrics()  # Keras 3.14 does not
    found = attached.train_on_batch(x, y, return_dict=True)
    assert list(found) == ["loss", "mse"]
    counts = [float(metric.count) for metric in attached.metrics[1].metrics]
    assert counts == [len(x)]


def test_replace_sublayer_keeps_the_order():
    model = subclassed()
    old = model.blocks[0]
    new = layers.Dense(6, name="replacement")
    new.build((None, 8))
    names = [layer.name for layer in model.layers]
    internals.replace_sublayer(model, old, new)
    assert isinstance(model, Subclassed)
    assert model.blocks[0] is new
    assert [layer.name for layer in model.layers] == [
        "replacement" if name == "first_block" else name for name in names
    ]
    assert {id(v) for v in new.variables} < {id(v) for v in model.variables}
    assert not {id(v) for v in old.variables} & {id(v) for v in model.variables}
    assert model._tracker.locked
    if keras.backend.backend() == "torch":
        parameters = {id(p) for p in model.parameters()}
        assert {id(v.value) for v in new.variables} < parameters
        assert not {id(v.value) for v in old.variables} & parameters
