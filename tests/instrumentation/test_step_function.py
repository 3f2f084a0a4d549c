"""What is compiled, when, and that training does not notice."""

import types

import event_logs
import keras
import numpy as np
import pytest
from keras import layers, ops
from models import FEATURES, assert_same_arrays, data, functional, sequential

from keras_actpen import (
    PenalizedLayer,
    PenaltyMonitor,
    TargetController,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalty_terms,
    watch_activations,
)
from keras_actpen.instrumentation import step_function
from keras_actpen.instrumentation.step_recorders import StatisticsRecorder
from keras_actpen.instrumentation.term_totals import TermTotals
from keras_actpen.statistics.activation_statistics import ActivationStatistics

BACKEND = keras.backend.backend()
KEY = "penalty/dense_4/l2"


@keras.saving.register_keras_serializable(package="tests")
class Counting(layers.Layer):
    """Counts how often Python runs its call: traces, or steps if eager."""

    calls = 0

    def call(self, x):
        Counting.calls += 1
        return x


def model_of(jit_compile="auto", run_eagerly=False, steps=1, **penalty):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(8, activation="relu", name="dense_4"),
            layers.Dropout(0.25),
            Counting(),
            layers.Dense(2, name="head"),
        ],
        name="counted",
    )
    model = attach_penalty(model, "dense_4", **(penalty or {"l2": 0.01}))
    model.compile(
        keras.optimizers.Adam(0.01),
        "mse",
        jit_compile=jit_compile,
        run_eagerly=run_eagerly,
        steps_per_execution=steps,
    )
    return model


def quick(**arguments):
    """Without XLA on TensorFlow, where it takes seconds to compile."""
    return model_of(jit_compile=BACKEND == "jax", **arguments)


def fit(model, *callbacks, batch_size=4, epochs=2, samples=8, **more):
    x, y = data(samples)
    return model.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
        **more,
    ).history


def state(model):
    """Weights, optimizer and seeds."""
    variables = [*model.weights, *model.optimizer.variables]
    variables += [v for v in model.non_trainable_variables if "seed" in v.path]
    return [ops.convert_to_numpy(v) for v in variables]


def without_terms(history):
    return {k: v for k, v in history.items() if "penalty/" not in k}


MODES = {
    "auto": {},
    "graph": {"jit_compile": False},
    "eager": {"run_eagerly": True},
}
if BACKEND == "jax":  # there the same as eager
    del MODES["graph"]
if BACKEND != "torch":  # Keras has it on the others only
    MODES["steps_per_execution"] = {"steps": 2}


@pytest.mark.parametrize("mode", MODES)
def test_numbers_are_bit_identical_to_those_without_a_monitor(tmp_path, mode):
    x, y = data()
    # The last batch is ragged.
    arguments = {"validation_data": (x, y), "epochs": 3, "samples": 10}
    plain = model_of(**MODES[mode])
    keras.utils.set_random_seed(5)
    expected = fit(plain, **arguments)
    model = model_of(**MODES[mode])
    monitor = PenaltyMonitor(tmp_path, statistics_freq=2)
    keras.utils.set_random_seed(5)
    history = fit(model, monitor, **arguments)
    assert without_terms(history) == expected
    assert_same_arrays(state(model), state(plain))
    assert KEY in history


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01, name="own"),
    "momentum and averages": lambda: keras.optimizers.SGD(
        0.01, momentum=0.9, use_ema=True, name="own"
    ),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01, name="inner"), name="own"
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_is_that_without_a_monitor(tmp_path, name):
    found = []
    for callbacks in ([], [PenaltyMonitor(tmp_path)]):
        model = quick()
        model.compile(OPTIMIZERS[name](), "mse", jit_compile=BACKEND == "jax")
        keras.utils.set_random_seed(5)
        fit(model, *callbacks)
        found.append(model.optimizer.variables)
    expected, variables = found
    assert any("momentum" in v.path for v in variables)
    assert [v.path for v in variables] == [v.path for v in expected]
    assert_same_arrays(variables, expected)


def test_an_optimizer_that_the_step_does_not_use_stays_unbuilt(tmp_path):
    class OwnStep(keras.Model):
        def train_step(self, *args):
            if BACKEND == "jax":
                return {"loss": ops.zeros(())}, args[0]
            return {"loss": ops.zeros(())}

    inner = quick()
    model = OwnStep(inner.inputs, inner.outputs)
    model.compile("adam", "mse", jit_compile=BACKEND == "jax")
    fit(model, PenaltyMonitor(tmp_path))
    # The others build it before the first step themselves.
    assert model.optimizer.built == (BACKEND != "tensorflow")


def traces(function):
    before = Counting.calls
    function()
    return Counting.calls - before


@pytest.mark.skipif(BACKEND == "torch", reason="torch does not trace")
@pytest.mark.parametrize(
    "arguments",
    [{}, {"max_overhead": 0.5, "statistics": ("kurtosis", "unit_rms")}],
    ids=["default", "more"],
)
def test_one_extra_compilation_a_fit_and_none_in_a_second(tmp_path, arguments):
    x, y = data(8)
    more = {"validation_data": (x, y)}
    model = quick()
    plain = traces(lambda: fit(quick(), **more))
    test = traces(lambda: model.evaluate(x, y, batch_size=4, verbose=0))
    train = plain - test
    first = traces(
        lambda: fit(model, PenaltyMonitor(tmp_path, **arguments), **more)
    )
    # Terms and statistics in training; terms in validation. Without a monitor
    # TensorFlow traces one step twice, as that creates the optimizer.
    twice = train if BACKEND == "tensorflow" else 2 * train
    assert first <= twice + test
    # Another monitor, a validation and an evaluation.
    second = PenaltyMonitor(tmp_path, **arguments)
    assert traces(lambda: fit(model, second, **more)) == 0
    evaluate = {"batch_size": 4, "callbacks": [PenaltyMonitor(None)]}
    assert traces(lambda: model.evaluate(x, y, verbose=0, **evaluate)) == 0
    assert traces(lambda: model.evaluate(x, y, batch_size=4, verbose=0)) == 0


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"statistics_freq": 2}, [0, 2, 4]),
        ({"statistics_freq": 4}, [0, 4]),
        ({"statistics_freq": 50}, [0]),
        ({"statistics_freq": 0}, []),
        ({"log_dir": None}, []),
    ],
    ids=str,
)
def test_statistics_are_in_the_instrumented_steps_alone(
    tmp_path, monkeypatch, arguments, steps
):
    """Eager steps run the Python code that compiled ones are traced from."""
    seen = []
    step = -1

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            nonlocal step
            step = batch

    record = StatisticsRecorder.record

    def counted(self, *args):
        seen.append(step)
        record(self, *args)

    monkeypatch.setattr(StatisticsRecorder, "record", counted)
    monitor = PenaltyMonitor(**{"log_dir": tmp_path, **arguments})
    model = model_of(run_eagerly=True)
    fit(model, monitor, Steps(), samples=20, epochs=2)
    assert seen == steps * 2


def operations(step, arguments):
    """Names of the operations of a compiled step."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        graph = tf.function(step).get_concrete_function(*arguments).graph
        return [operation.type for operation in graph.get_operations()]
    import jax
    from jax.extend.core import jaxprs_in_params

    def of(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for inner in jaxprs_in_params(equation.params):
                yield from of(inner)

    return list(of(jax.make_jaxpr(step)(*arguments).jaxpr))


def step_arguments(model):
    batch = tuple(ops.convert_to_tensor(part[:4]) for part in data())
    if BACKEND == "tensorflow":
        return [batch]
    values = [
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    ]
    return [tuple(values), batch]


class Compiled(keras.callbacks.Callback):
    """Looks at the steps' operations while a monitor is there."""

    def on_epoch_end(self, epoch, logs=None):
        function = self.model.train_function
        arguments = step_arguments(self.model)
        plain = self.model.train_step
        self.plain = operations(plain, arguments)
        self.recorded = {
            what: operations(function._step(plain, what), arguments)
            for what in function._functions
        }


@pytest.mark.skipif(BACKEND == "torch", reason="torch does not compile")
def test_a_plain_step_holds_no_statistic(tmp_path):
    found = {}
    for frequency in (0, 2):
        compiled = Compiled()
        monitor = PenaltyMonitor(tmp_path, statistics_freq=frequency)
        fit(quick(), monitor, compiled, epochs=1)
        found[frequency] = compiled
    terms = found[2].recorded["terms"]
    statistics = found[2].recorded["statistics"]
    # One look at which units are not 0.
    only_terms = found[0].recorded["terms"]
    look = "MatMul" if BACKEND == "tensorflow" else "reduce_or"
    assert terms.count(look) == only_terms.count(look) + 1
    assert len(terms) - len(only_terms) < 60
    # A few sums for the terms, ten times as much for the statistics.
    plain = len(found[2].plain)
    assert plain < len(terms)
    assert len(statistics) - plain > 3 * (len(only_terms) - plain)
    counting = "DenseBincount" if BACKEND == "tensorflow" else "scatter-add"
    counts = [
        operations.count(counting)
        for operations in (found[2].plain, terms, statistics)
    ]
    assert counts[0] == counts[1] == counts[2] - 1


@pytest.mark.skipif(BACKEND == "torch", reason="torch does not compile")
def test_a_long_compilation_is_told_once(tmp_path, monkeypatch):
    spent = {"waited": 0.0, "computed": 0.0}
    clock = types.SimpleNamespace(
        perf_counter=lambda: sum(spent.values()),
        process_time=lambda: spent["computed"],
    )
    monkeypatch.setattr(step_function, "time", clock)
    seen = ActivationStatistics.seen

    def taking(how):
        def slow(*args):
            spent[how] += 12.0
            return seen(*args)

        monkeypatch.setattr(ActivationStatistics, "seen", slow)

    taking("waited")  # other processes had the cores
    fit(quick(), PenaltyMonitor(tmp_path / "waited", statistics_freq=2))
    taking("computed")
    monitor = PenaltyMonitor(tmp_path / "computed", statistics_freq=2)
    with pytest.warns(UserWarning, match="takes none 0 .*: 1") as told:
        fit(quick(), monitor)
    assert len(told) == 1
    assert told[0].filename == __file__
    eager = quick()
    eager.run_eagerly = True
    fit(eager, PenaltyMonitor(tmp_path / "eager", statistics_freq=2))


# Coefficients


class Schedule(keras.callbacks.Callback):
    """Sets the coefficient in `hook` and keeps the terms of every batch."""

    def __init__(self, hook, how):
        super().__init__()
        self.how, self.means, self.counts = how, [], []
        setattr(self, hook, self.change)

    def set_model(self, model):
        super().set_model(model)
        self.layer = penalized_layers(model)["dense_4"]
        self.held = model

    def change(self, index, logs=None):
        value = 0.01 * 2**index
        if self.how == "by_self_model":
            layer = penalized_layers(self.model)["dense_4"]
        elif self.how == "by_a_model_held":
            layer = penalized_layers(self.held)["dense_4"]
        else:
            layer = self.layer
        layer.coefficients["l2"] = value

    def on_train_batch_end(self, batch, logs=None):
        self.means.append(float(logs[KEY]))
        self.counts.append(Counting.calls)


def fixed(**arguments):
    """A model whose terms are equal in all steps."""
    model = quick(l2=0.5, **arguments)
    model.optimizer.learning_rate = 0.0
    x = np.ones((8, FEATURES), "float32")
    return model, x, np.ones((8, 2), "float32")


HOWS = ["by_self_model", "by_a_model_held", "by_a_layer_held"]


@pytest.mark.parametrize("how", HOWS)
def test_coefficients_set_for_a_batch_take_effect_at_once(tmp_path, how):
    model, x, y = fixed()
    schedule = Schedule("on_train_batch_begin", how)
    model.fit(
        x,
        y,
        batch_size=2,
        epochs=2,
        verbose=0,
        callbacks=[PenaltyMonitor(tmp_path, statistics_freq=2), schedule],
    )
    unit = schedule.means[0] / 0.01
    # Means of coefficients 1, 2, 4, 8 so far.
    expected = [0.01 * m * unit for m in (1, 1.5, 7 / 3, 3.75)]
    np.testing.assert_allclose(schedule.means, expected * 2, rtol=1e-5)
    assert unit > 0
    # Both functions are compiled once.
    if BACKEND != "torch":
        assert len(set(schedule.counts[1:])) == 1
    assert penalized_layers(model)["dense_4"].coefficients["l2"] == 0.08


@pytest.mark.parametrize("how", HOWS)
def test_coefficients_set_for_an_epoch_take_effect_at_once(tmp_path, how):
    model, x, y = fixed()
    schedule = Schedule("on_epoch_begin", how)
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[schedule, PenaltyMonitor(tmp_path)],
    ).history
    means = np.array(history[KEY])
    np.testing.assert_allclose(means, means[0] * np.array([1, 2, 4]), 1e-6)
    if BACKEND != "torch":
        assert len(set(schedule.counts[1:])) == 1


# Life of a model


def assert_untouched(model):
    """No monitor stands between Keras and the model."""
    assert not hasattr(model.train_function, "session")
    assert not hasattr(model.test_function, "session")
    assert "_get_metrics_result_or_logs" not in vars(model)
    layer = penalized_layers(model)["dense_4"]
    assert not any("term_totals" in v.path for v in layer.variables)


class Interrupt(keras.callbacks.Callback):
    """Raises after the second step."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise self.error


def interrupt_by_callback(model, callbacks, error):
    with pytest.raises(type(error)):
        fit(model, *callbacks, Interrupt(error))


def interrupt_by_data(model, callbacks, error):
    x, y = data()

    def batches():
        yield x[:4], y[:4]
        yield x[4:8], y[4:8]
        raise error

    with pytest.raises(Exception, match="stop here"):
        model.fit(batches(), shuffle=False, verbose=0, callbacks=callbacks)


@pytest.mark.parametrize(
    ("interrupt", "error"),
    [
        (interrupt_by_callback, ZeroDivisionError("stop here")),
        (interrupt_by_callback, KeyboardInterrupt("stop here")),
        (interrupt_by_data, ZeroDivisionError("stop here")),
    ],
    ids=["callback", "keyboard", "data"],
)
def test_an_interrupted_training_leaves_no_trace(tmp_path, interrupt, error):
    trained = []
    for watching in (False, True):
        model = quick()
        monitors = [PenaltyMonitor(tmp_path)] if watching else []
        keras.utils.set_random_seed(5)
        interrupt(model, monitors, error)
        x, y = data()
        # The model is usable, without a word about terms.
        logs = [
            model.evaluate(x, y, verbose=0, return_dict=True),
            model.train_on_batch(x, y, return_dict=True),
            fit(model),
        ]
        model.predict(x, verbose=0)
        monitors = [PenaltyMonitor(tmp_path)] if watching else []
        logs.append(without_terms(fit(model, *monitors)))
        logs.append(fit(model))
        trained.append((logs, state(model)))
        if watching:
            assert_untouched(model)
    assert trained[0][0] == trained[1][0]
    assert_same_arrays(trained[0][1], trained[1][1])


def test_an_interrupted_monitor_can_evaluate_and_train_again(tmp_path):
    model = quick()
    monitor = PenaltyMonitor(tmp_path)
    interrupt_by_callback(model, [monitor], ZeroDivisionError())
    x, y = data()
    logs = model.evaluate(
        x, y, verbose=0, callbacks=[monitor], return_dict=True
    )
    assert set(logs) == {"loss", KEY}
    assert_untouched(model)
    assert set(fit(model, monitor)) == {"loss", KEY}
    assert_untouched(model)
    assert set(fit(model)) == {"loss"}


def test_detaching_after_an_interrupted_training(tmp_path):
    model = quick()
    interrupt_by_callback(
        model, [PenaltyMonitor(tmp_path)], ZeroDivisionError()
    )
    plain = detach_penalty(model)
    assert set(fit(plain)) == {"loss"}
    again = attach_penalty(plain, "dense_4", l2=0.01)
    assert set(fit(again, PenaltyMonitor(None))) == {"loss", KEY}


def test_an_unmonitored_evaluation_inside_a_monitored_fit():
    class Evaluation(keras.callbacks.Callback):
        logs = None

        def on_epoch_end(self, epoch, logs=None):
            x, y = data(8)
            self.logs = self.model.evaluate(x, y, verbose=0, return_dict=True)

    before, after = Evaluation(), Evaluation()
    model = quick()
    history = fit(model, before, PenaltyMonitor(None), after)
    assert set(before.logs) == set(after.logs) == {"loss"}
    # One more statement of the same epoch does not change it.
    keras.utils.set_random_seed(5)
    assert set(history) == {"loss", KEY}


def test_a_monitored_evaluation_inside_a_monitored_fit():
    class Evaluation(keras.callbacks.Callback):
        logs = None

        def on_epoch_end(self, epoch, logs=None):
            x, y = data(4)
            self.logs = self.model.evaluate(
                x,
                y,
                verbose=0,
                return_dict=True,
                callbacks=[PenaltyMonitor(None)],
            )

    model = quick()
    x, y = data()
    evaluation = Evaluation()
    arguments = {"validation_data": (x, y), "epochs": 3}
    history = fit(model, evaluation, PenaltyMonitor(None), **arguments)
    assert set(evaluation.logs) == {"loss", KEY}
    other = quick()
    keras.utils.set_random_seed(3)
    expected = fit(other, PenaltyMonitor(None), **arguments)
    assert set(history) == set(expected)
    final = model.evaluate(
        x, y, verbose=0, return_dict=True, callbacks=[PenaltyMonitor(None)]
    )
    assert final[KEY] == pytest.approx(history[f"val_{KEY}"][-1], rel=1e-6)
    assert_untouched(model)


def test_compile_between_fits(tmp_path):
    model = quick()
    monitor = PenaltyMonitor(tmp_path)
    fit(model, monitor)
    model.compile("sgd", "mae", metrics=["mse"])
    history = fit(model, monitor)
    assert set(history) == {"loss", "mse", KEY}


def test_layers_attached_between_fits():
    model = quick()
    monitor = PenaltyMonitor(None)
    fit(model, monitor)
    model = attach_penalty(model, "head", l1=0.1)
    assert set(fit(model, monitor)) == {"loss", KEY, "penalty/head/l1"}


def test_a_step_in_parts_that_are_traced_by_themselves(tmp_path):
    """As those of GANs, whose discriminator is differentiated twice."""

    class Halves(keras.Model):
        def train_step(self, *args):
            if BACKEND == "jax":
                import jax

                (trainable, rest, *others), (x, _) = args

                def loss(trainable, rest):
                    _, rest, losses = self.stateless_call(
                        trainable, rest, x, return_losses=True
                    )
                    return sum(losses), rest

                for _ in range(2):
                    (value, rest), _ = jax.value_and_grad(loss, has_aux=True)(
                        trainable, rest
                    )
                return {"own": value}, (trainable, rest, *others)
            x, _ = args[0]

            def half():
                self(x)
                return sum(self.losses)

            if BACKEND == "tensorflow":
                import tensorflow as tf

                half = tf.function(half)
            half()
            return {"own": half()}

    plain = sequential()
    model = Halves(plain.inputs, plain.outputs)
    model = attach_penalty(model, "dense_4", l2=0.01)
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    history = fit(model, PenaltyMonitor(tmp_path), batch_size=8)
    assert history[KEY][0] == pytest.approx(2 * history["own"][0], rel=1e-5)
    assert history[KEY][0] > 0
    run = event_logs.read(tmp_path)["actpen/train"]
    assert {"activation.rms/dense_4", "activation.values/dense_4"} <= set(run)


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX's state is dropped")
def test_a_look_before_the_step():
    """Its state is dropped, and with it what it has added."""

    class Looks(keras.Model):
        def train_step(self, state, data):
            self.stateless_call(*state[:2], data[0])
            return super().train_step(state, data)

    plain = sequential()
    found = []
    for kind in (keras.Model, Looks):
        model = kind(plain.inputs, plain.outputs)
        model = attach_penalty(model, "dense_4", l2=0.01)
        model.compile(keras.optimizers.SGD(0.0), "mse")
        found.append(fit(model, PenaltyMonitor(None)))
    assert found[0][KEY] == pytest.approx(found[1][KEY], rel=1e-6)


def test_a_layer_that_is_called_in_some_steps_only():
    """The terms are what is in the loss, beside those of others or not.

    Nor is it a finding that the first step has not called the layer.
    """

    class Alternating(keras.Model):
        steps = 0

        def __init__(self):
            super().__init__()
            self.layers_in_turn = [
                layers.Dense(3, name=name, trainable=False)
                for name in ("even", "odd")
            ]
            self.head = layers.Dense(1)

        def build(self, input_shape):
            for layer in self.layers_in_turn:
                layer.build(input_shape)
            self.head.build((None, 3))

        def call(self, x, training=False):
            self.steps += bool(training)
            return self.head(self.layers_in_turn[self.steps % 2](x))

    for names in ("even", ["even", "odd"]):
        model = Alternating()
        x = data(8)[0]
        for model.steps in (0, 1):  # both are called once
            model(x)
        model = attach_penalty(model, names, l2=0.5)
        model.compile(
            keras.optimizers.SGD(0.0),
            "mse",
            metrics=["mse"],
            run_eagerly=True,
        )
        (loss,), (task,), *terms = model.fit(
            x,
            np.zeros((8, 1), "float32"),
            batch_size=2,
            verbose=0,
            callbacks=[PenaltyMonitor(None)],
        ).history.values()
        assert sum(term for (term,) in terms) == pytest.approx(
            loss - task, rel=1e-4
        )
        assert loss > task


def test_another_model_with_the_layer_is_evaluated_in_a_fit():
    model = quick()
    outputs = model.get_layer("dense_4").output
    other = keras.Model(model.inputs, outputs)
    other.compile("sgd", "mse")
    x, _ = data()
    zeros = np.zeros((len(x), *outputs.shape[1:]), "float32")

    class Evaluating(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            other.evaluate(
                x, zeros, verbose=0, callbacks=[PenaltyMonitor(None)]
            )

    before = len(model.variables)
    history = fit(
        model,
        PenaltyMonitor(None),
        Evaluating(),
        epochs=3,
        validation_data=data(),
    )
    assert len(history[f"val_{KEY}"]) == 3
    assert len(model.variables) == before
    assert not hasattr(model.train_function, "armed")


def test_another_number_of_units_in_every_batch(tmp_path):
    class Scores(keras.Model):
        def __init__(self):
            super().__init__()
            self.scores = layers.Activation("softmax", name="scores")
            self.head = layers.Dense(1)

        def call(self, x):
            scores = self.scores(ops.matmul(x, ops.transpose(x, (0, 2, 1))))
            return self.head(ops.matmul(scores, x))

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            length = (4, 6)[index]
            return np.ones((2, length, 3)), np.zeros((2, length, 1))

    model = Scores()
    model(np.zeros((2, 4, 3), "float32"))
    model = watch_activations(model, "scores")
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    model.fit(
        Batches(),
        shuffle=False,
        verbose=0,
        callbacks=[PenaltyMonitor(tmp_path, statistics_freq=1)],
    )
    run = event_logs.read(tmp_path)["actpen/train"]
    (minimum,) = run["activation.min/scores"].values
    assert minimum == pytest.approx(1 / 6)


def test_calls_with_other_units_have_no_dead_ones(tmp_path):
    """Also if nothing has been recorded when the second call is seen."""

    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = layers.Dense(16), layers.Dense(8)
            self.activation = layers.ReLU(name="relu")
            self.head = layers.Dense(1)

        def call(self, x):
            x = self.activation(self.narrow(x))
            return self.head(self.activation(self.wide(x)))

    model = Twice()
    x, _ = data(8)
    model(x)
    model = watch_activations(model, "relu")
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    model(x)
    monitor = PenaltyMonitor(tmp_path, statistics=("unit_rms",))
    model.fit(x, np.zeros((8, 1)), verbose=0, callbacks=[monitor])
    run = event_logs.read(tmp_path)["actpen/train"]
    assert "activation.max/relu" in run
    assert "activation.dead_fraction/relu" not in run


def test_a_step_of_the_users_own():
    class Own(keras.Model):
        def train_step(self, *args):
            if BACKEND == "jax":
                logs, state = super().train_step(*args)
                return {"mine": logs["loss"] * 2}, state
            return {"mine": super().train_step(*args)["loss"] * 2}

    plain = sequential()
    model = Own(plain.inputs, plain.outputs)
    model = attach_penalty(model, "dense_4", l2=0.01)
    model.compile("sgd", "mse", jit_compile=BACKEND == "jax")
    x, y = data()
    history = fit(model, PenaltyMonitor(None), validation_data=(x, y))
    terms = {KEY, f"val_{KEY}"}
    assert set(history) == {"mine", "val_loss"} | terms


def compiled_by_the_user(function):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


class OwnFunction(keras.Model):
    """Whose train function looks up the step whenever it is traced."""

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        step = compiled_by_the_user(lambda *args: self.one_step(*args))
        if BACKEND == "jax":
            self.train_function = lambda state, batches: step(
                state, next(batches)
            )
        elif BACKEND == "tensorflow":
            self.train_function = lambda batches: step(next(batches))
        else:
            self.train_function = lambda batches: step(batches[0])

    def one_step(self, *args):
        return self.train_step(*args)


def test_a_train_function_of_the_users_own(tmp_path):
    found = []
    plain = sequential()
    for kind in (keras.Model, OwnFunction):
        model = kind(plain.inputs, plain.outputs)
        model = attach_penalty(model, "dense_4", l2=0.01)
        optimizer = keras.optimizers.SGD(0.0)
        model.compile(optimizer, "mse", jit_compile=BACKEND == "jax")
        monitor = PenaltyMonitor(tmp_path / kind.__name__)
        history = fit(model, monitor, shuffle=False)
        log = event_logs.read(tmp_path / kind.__name__)["actpen/train"]
        found.append([*history[KEY], *log["activation.max/dense_4"].values])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert found[0][0] > 0


def test_a_train_function_without_the_step_is_warned_of():
    class WithoutStep(OwnFunction):
        def one_step(self, *args):
            return keras.Model.train_step(self, *args)

    plain = sequential()
    model = WithoutStep(plain.inputs, plain.outputs)
    model = attach_penalty(model, "dense_4", l2=0.01)
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="did not call `model.train_step`"):
        fit(model, PenaltyMonitor(None))


def test_sums_in_the_logs_of_a_step_are_those_of_that_step():
    key = ("dense_4", "l2")
    totals = TermTotals([key])
    totals.add({key: ops.convert_to_tensor(2.0)}, 4.0, 1.0)
    first = totals.current()
    totals.add({key: ops.convert_to_tensor(3.0)}, 4.0, 1.0)
    assert ops.convert_to_numpy(first).tolist() == [8.0, 4.0]
    assert ops.convert_to_numpy(totals.current()).tolist() == [20.0, 8.0]


@pytest.mark.skipif(BACKEND != "jax", reason="Keras has NNX on JAX")
@pytest.mark.parametrize(
    "callback",
    [PenaltyMonitor(None), TargetController("dense_4/l2", 0.5, "value")],
    ids=["monitor", "controller"],
)
def test_the_nnx_mode_is_refused(monkeypatch, callback):
    """There the class's own train_step runs, and nothing would be recorded."""
    monkeypatch.setattr(keras.config, "is_nnx_enabled", lambda: True)
    with pytest.raises(ValueError, match="NNX") as caught:
        fit(quick(), callback)
    assert str(caught.value) == (
        "Invalid value received for argument `callbacks`. Expected callbacks "
        "of keras_actpen only without Keras's NNX mode, which compiles the "
        "`train_step` of the model's class and bypasses theirs: start "
        "Python with KERAS_NNX_ENABLED=false. Received: a callback that "
        "records model 'counted', with KERAS_NNX_ENABLED=true"
    )


class Recomputed(keras.Model):
    """Runs a layer a second time when gradients are computed, on TensorFlow."""

    def __init__(self):
        super().__init__()
        hidden = layers.Dense(3, activation="relu", name="hidden")
        self.hidden = PenalizedLayer(hidden)

    def build(self, shape):
        self.hidden(ops.zeros((1, *shape[1:])))

    def call(self, x):
        import tensorflow as tf

        return tf.recompute_grad(self.hidden)(x)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.recompute_grad")
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_recomputed_layer_counts_once(tmp_path, run_eagerly):
    model = Recomputed()
    model.compile("sgd", "mse", run_eagerly=run_eagerly, jit_compile=False)
    x, y = data(8, targets=3)
    model(x)
    monitor = PenaltyMonitor(tmp_path, statistics_freq=1, alerts=())
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[monitor])
    run = event_logs.read(tmp_path)["actpen/train"]
    (tag,) = (tag for tag in run if tag.startswith("activation.dead_window/"))
    assert run[tag].values == [len(x)]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="as above")
def test_a_layer_made_in_a_remat_scope_counts_once():
    with keras.RematScope(mode="full"):
        model = functional()
    model = attach_penalty(model, "dense_4", l2=0.5)
    model.compile("sgd", "mse", run_eagerly=True)
    expected = penalty_terms(model, data(8)[0], training=True)
    history = fit(model, PenaltyMonitor(None), batch_size=8, epochs=1)
    np.testing.assert_allclose(history[KEY], expected["dense_4/l2"], rtol=1e-5)
