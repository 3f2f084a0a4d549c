r"""Whatever is done to one model, in any order: the contract holds after it.

    HYPOTHESIS_PROFILE=nightly python -m pytest \
        tests/contract/test_state_machine.py

runs 200 sequences instead of 20, other ones each time.
"""

import contextlib
import copy
import functools
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from keras import layers
from models import QUICK, assert_same_arrays, data, outputs_of

from keras_actpen import (
    PenaltyMonitor,
    PenaltyScheduler,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_terms,
    watch_activations,
)

SAMPLES, WIDTH = 6, 4
X, Y = data(SAMPLES, WIDTH)


def functional():
    """A layer that is called twice, and a nested model."""
    inside = keras.Input((WIDTH,))
    inner = layers.Dense(WIDTH, activation="relu", name="inner")(inside)
    block = keras.Model(inside, inner, name="block")
    twice = layers.Dense(WIDTH, activation="tanh", name="twice")
    inputs = keras.Input((WIDTH,), name="features")
    x = layers.Dense(WIDTH, activation="relu", name="first")(inputs)
    x = block(twice(twice(x)))
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="model")


def sequential():
    """The same layers, without the nested model."""
    twice = layers.Dense(WIDTH, activation="tanh", name="twice")
    return keras.Sequential(
        [
            keras.Input((WIDTH,)),
            layers.Dense(WIDTH, activation="relu", name="first"),
            twice,
            layers.Dense(WIDTH, activation="relu", name="inner"),
            layers.Dense(2, name="head"),
        ],
        name="model",
    )


class OwnCall(keras.Model):
    """The same layers, called by code."""

    def __init__(self):
        super().__init__(name="model")
        self.first = layers.Dense(WIDTH, activation="relu", name="first")
        self.twice = layers.Dense(WIDTH, activation="tanh", name="twice")
        self.inner = layers.Dense(WIDTH, activation="relu", name="inner")
        self.head = layers.Dense(2, name="head")

    def call(self, inputs):
        x = self.twice(self.twice(self.first(inputs)))
        return self.head(self.inner(x))


def subclassed():
    model = OwnCall()
    model(X)
    return model


# How each kind calls its layers, by path, and which of them are targets.
KINDS = {
    "functional": (functional, ["first", "twice", "twice", "block/inner"]),
    "sequential": (sequential, ["first", "twice", "inner"]),
    "subclassed": (subclassed, ["first", "twice", "twice", "inner"]),
}
MADE = {
    "l1": penalties.L1,
    "l2": penalties.L2,
    "mean_square": functools.partial(
        penalties.L2, reduction="mean", name="mean_square"
    ),
}
VALUES = {
    "l1": lambda h: np.sum(np.abs(h)) / SAMPLES,
    "l2": lambda h: np.sum(h * h) / SAMPLES,
    "mean_square": lambda h: np.mean(h * h),
}
ACTIVATIONS = {"twice": np.tanh, "head": lambda h: h}
coefficients = st.sampled_from([0.0, 0.01, 0.5, 3.0])


@functools.cache
def plain_model(kind):
    model = KINDS[kind][0]()
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return model


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C in the first step."""

    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def told_unless(learns):
    """Expect the warning of a penalty that changes no weight."""
    if learns:
        return contextlib.nullcontext()
    return pytest.warns(UserWarning, match="changes no weight")


class OneModel(RuleBasedStateMachine):
    """What is done to a model, and what is known of it.

    Attributes:
        model: The model.
        terms: By path the name, the coefficient and the place of every term.
        others: Models that share the weights, each with its own terms.
        frozen: Paths of layers that are not trainable.
    """

    @initialize(kind=st.sampled_from(list(KINDS)), eagerly=st.booleans())
    def build(self, kind, eagerly):
        keras.utils.set_random_seed(3)
        self.directory = Path(tempfile.mkdtemp())
        self.kind, self.eagerly = kind, eagerly
        self.model = KINDS[kind][0]()
        self.terms, self.others, self.frozen = {}, [], set()
        self.paths = [*KINDS[kind][1], "head"]
        self.compile()

    def teardown(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def compile(self):
        how = {"run_eagerly": True} if self.eagerly else QUICK
        self.model.compile(keras.optimizers.SGD(0.05), "mse", **how)

    def replace(self, new, terms, shares=True):
        """Go on with another model."""
        if new is not self.model and shares:
            self.others = [*self.others, (self.model, self.terms)][-2:]
        elif not shares:
            self.others = []
        self.model, self.terms = new, terms

    def target(self, index):
        """One of the paths that can be penalized."""
        found = list(dict.fromkeys(self.paths))
        if self.kind == "functional":
            found.append("block")
        return found[index % len(found)]

    @rule(
        index=st.integers(0, 4),
        name=st.sampled_from(list(MADE)),
        coefficient=coefficients,
        later=st.none() | coefficients,
        before=st.booleans(),
    )
    def attach(self, index, name, coefficient, later, before):
        path = self.target(index)
        on = "preactivation" if before and path != "block" else "output"
        penalty = MADE[name](coefficient)
        known = self.terms.get(path, {})
        if name in known:
            with pytest.raises(ValueError, match="`name`"):
                attach_penalty(self.model, path, penalty, on=on)
            return
        with told_unless(coefficient == 0 or self.learns(path)):
            new = attach_penalty(self.model, path, penalty, on=on)
        terms = {**self.terms, path: {**known, name: (coefficient, on)}}
        self.replace(new, terms)
        if later is not None:
            self.set_to(path, name, later)

    def learns(self, path):
        """Whether anything is trainable that a penalty depends on."""
        if self.kind == "subclassed":
            return True
        at = self.paths.index(self.paths[-2] if path == "block" else path)
        return not self.frozen.issuperset(self.paths[: at + 1])

    @rule(index=st.integers(0, 4))
    def watch(self, index):
        path = self.target(index)
        new = watch_activations(self.model, path)
        self.replace(new, {path: {}, **self.terms})

    @precondition(lambda self: self.terms)
    @rule(index=st.integers(0, 9))
    def detach(self, index):
        choices = [None, *self.terms]
        path = choices[index % len(choices)]
        new = detach_penalty(self.model, path)
        left = {} if path is None else dict(self.terms)
        left.pop(path, None)
        self.replace(new, left)

    @precondition(lambda self: any(self.terms.values()))
    @rule(index=st.integers(0, 9), coefficient=coefficients)
    def set_coefficient(self, index, coefficient):
        choices = [(p, n) for p, names in self.terms.items() for n in names]
        self.set_to(*choices[index % len(choices)], coefficient)

    def set_to(self, path, name, coefficient):
        found = penalized_layers(self.model)[path].coefficients
        found[name] = coefficient
        self.expect(path, name, coefficient)

    def expect(self, path, name, coefficient):
        # Others hold dictionaries of their own.
        on = self.terms[path][name][1]
        names = {**self.terms[path], name: (coefficient, on)}
        self.terms = {**self.terms, path: names}

    @rule(index=st.integers(0, 2))
    def toggle_trainable(self, index):
        path = self.paths[index]
        layer = self.layer(path)
        layer.trainable = not layer.trainable
        self.frozen ^= {path}
        self.compile()

    def layer(self, path):
        owner = self.model
        for name in path.split("/"):
            owner = owner.get_layer(name)
        return owner

    @rule(monitor=st.sampled_from(["", "logs", "history"]))
    def fit(self, monitor):
        expected = self.values(self.terms)
        task = self.task()
        callbacks = []
        if monitor and self.terms:
            where = self.directory / "logs" if monitor == "logs" else None
            callbacks = [PenaltyMonitor(where, alerts=())]
        before = self.model.get_weights()
        history = self.model.fit(
            X, Y, batch_size=SAMPLES, callbacks=callbacks, verbose=0
        ).history
        assert history["loss"] == pytest.approx(
            [task + sum(expected.values())], rel=1e-5
        )
        found = {k: v for k, v in history.items() if k.startswith("penalty/")}
        if callbacks:
            expected = {f"penalty/{k}": [v] for k, v in expected.items()}
            assert list(found) == list(expected)
            assert found == {
                key: pytest.approx(value, rel=1e-5, abs=1e-7)
                for key, value in expected.items()
            }
        else:
            assert not found
        after = self.model.get_weights()
        for i, path in enumerate(dict.fromkeys(self.paths)):
            same = np.array_equal(before[2 * i], after[2 * i])
            assert same or path not in self.frozen
        assert not np.array_equal(before[-1], after[-1])

    @rule(
        monitored=st.booleans(), epochs=st.integers(1, 2), moved=st.booleans()
    )
    def interrupt(self, monitored, epochs, moved):
        callbacks = []
        if monitored and self.terms:
            callbacks.append(PenaltyMonitor(None, alerts=()))
        attached = {
            (path, name): term.penalty.coefficient
            for path, layer in penalized_layers(self.model).items()
            for name, term in layer.terms.items()
        }
        moved = moved and attached and all(attached.values())
        if moved:
            callbacks.append(PenaltyScheduler(lambda step: 1.0))
        with pytest.raises(KeyboardInterrupt):
            self.model.fit(
                X,
                Y,
                epochs=epochs,
                callbacks=[*callbacks, Interrupt()],
                verbose=0,
            )
        if moved:  # to what they were attached with
            for place, coefficient in attached.items():
                self.expect(*place, coefficient)

    @rule(callbacks=st.booleans())
    def evaluate(self, callbacks):
        monitors = []
        if callbacks and self.terms:
            monitors = [PenaltyMonitor(None, alerts=())]
        logs = self.model.evaluate(
            X, Y, callbacks=monitors, verbose=0, return_dict=True
        )
        expected = self.values(self.terms)
        loss = self.task() + sum(expected.values())
        assert logs.pop("loss") == pytest.approx(loss, rel=1e-5)
        if monitors:
            assert logs == {
                f"penalty/{key}": pytest.approx(value, rel=1e-5, abs=1e-7)
                for key, value in expected.items()
            }
        else:
            assert not logs

    @rule()
    def predict(self):
        found = self.model.predict(X, verbose=0)
        plain = self.plain()
        np.testing.assert_allclose(found, outputs_of(plain, X)[0], rtol=1e-5)

    @precondition(lambda self: self.kind != "subclassed")
    @rule()
    def save_and_load(self):
        file = self.directory / "model.keras"
        self.model.save(file)
        self.replace(keras.saving.load_model(file), self.terms, shares=False)

    @rule(from_plain=st.booleans())
    def weight_files(self, from_plain):
        file = self.directory / "model.weights.h5"
        plain = self.plain()
        one, other = (plain, self.model) if from_plain else (self.model, plain)
        if from_plain:
            plain.set_weights([w + 0.125 for w in plain.get_weights()])
        else:
            plain.set_weights([w + 9.0 for w in plain.get_weights()])
        one.save_weights(file)
        other.load_weights(file)
        assert_same_arrays(one.get_weights(), other.get_weights())

    @precondition(lambda self: self.kind != "subclassed")
    @rule()
    def deepcopy(self):
        self.replace(copy.deepcopy(self.model), self.terms, shares=False)

    def plain(self):
        """A model that never had a penalty, with the same weights."""
        plain = plain_model(self.kind)
        plain.set_weights(self.model.get_weights())
        return plain

    def calls(self):
        """By path what every call of a layer computes, in float64."""
        arrays = [w.astype("float64") for w in self.model.get_weights()]
        names = list(dict.fromkeys(self.paths))
        h, found = X.astype("float64"), {}
        for path in self.paths:
            i = 2 * names.index(path)
            before = h @ arrays[i] + arrays[i + 1]
            relu = functools.partial(np.maximum, 0)
            h = ACTIVATIONS.get(path, relu)(before)
            found.setdefault(path, []).append((before, h))
        found["block"] = found[self.paths[-2]]
        return found

    def task(self):
        outputs = self.calls()["head"][0][1]
        return float(np.mean((outputs - Y) ** 2))

    def values(self, terms):
        """The terms, in model order, by `path/name`."""
        found = self.calls()
        order = ["first", "twice", "block", "block/inner", "inner", "head"]
        return {
            f"{path}/{name}": coefficient
            * sum(
                VALUES[name](before if on == "preactivation" else h)
                for before, h in found[path]
            )
            for path in sorted(terms, key=order.index)
            for name, (coefficient, on) in terms[path].items()
        }

    @invariant()
    def contract(self):
        model = self.model
        for one, terms in [(model, self.terms), *self.others]:
            attached = penalized_layers(one)
            assert {
                path: dict(layer.coefficients)
                for path, layer in attached.items()
            } == {
                path: {name: c for name, (c, _) in names.items()}
                for path, names in terms.items()
            }
            expected = self.values(terms)
            if expected:
                found = penalty_terms(one, X)
                assert list(found) == list(expected)
                assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)
            # What is in the loss, and in no other model's.
            one(X)
            added = float(sum(map(keras.ops.convert_to_numpy, one.losses)))
            assert added == pytest.approx(
                sum(expected.values()), rel=1e-5, abs=1e-7
            )
        plain = self.plain()
        assert_same_arrays(outputs_of(model, X), outputs_of(plain, X))
        names = [layer.name for layer in model.layers]
        assert names == [layer.name for layer in plain.layers]
        for path in dict.fromkeys(self.paths):
            assert self.layer(path).trainable == (path not in self.frozen)


sequences = settings(
    max_examples=min(200, 2 * settings.default.max_examples // 5),
    stateful_step_count=10,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
TestOneModel = OneModel.TestCase
TestOneModel.settings = sequences
