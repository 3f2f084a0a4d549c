"""Type checkers know the whole package, and a program that uses it."""

import importlib.util
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from language_server import language_server

import keras_actpen
from keras_actpen import penalties
from keras_actpen.callbacks.control_rules import RULES
from keras_actpen.callbacks.measures import EFFECTS
from keras_actpen.statistics.optional import STATES
from keras_actpen.statistics.thresholds import THRESHOLDS

pytestmark = [
    pytest.mark.one_backend,
    pytest.mark.skipif(
        importlib.util.find_spec("basedpyright") is None,
        reason="needs basedpyright",
    ),
]


def basedpyright(directory, *arguments):
    """What basedpyright finds, started in a directory without the package."""
    command = [sys.executable, "-m", "basedpyright", "--outputjson"]
    # With --verifytypes it asks the first Python in PATH for the packages.
    here = Path(sys.executable).parent
    path = os.pathsep.join([str(here), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*command, "--pythonpath", sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def verified(package, directory):
    """All names that a package exports, and what is unknown of them."""
    # Without --ignoreexternal all that is Keras's own counts as unknown.
    report = basedpyright(
        directory, "--verifytypes", package, "--ignoreexternal"
    )
    assert report["generalDiagnostics"] == []
    return report["typeCompleteness"]["symbols"]


def is_of_keras(symbol, message):
    """Whether a type is unknown only because a class of Keras is.

    Keras (3.15) has no py.typed: its classes, and so the bases and the
    metaclasses of the classes that derive from them, count as unknown.
    """
    if message not in (
        "Type of base class unknown",
        "Type of metaclass unknown",
    ):
        return False
    bases = (keras.layers.Layer, keras.callbacks.Callback)
    return issubclass(pkgutil.resolve_name(symbol["name"]), bases)


CONSEQUENCES = (
    r'Type of base class "(?P<name>[\w.]+)" is partially unknown',
    r'Type of parameter "\w+" is partially unknown\s+'
    r'Parameter type is "(?P<name>\w+)"',
    r'Return type is partially unknown\s+Return type is "(?P<name>\w+)"',
)


def is_consequence(message, classes):
    """Whether a type is unknown only because a listed class is."""
    matches = [re.fullmatch(pattern, message) for pattern in CONSEQUENCES]
    names = classes | {name.rpartition(".")[2] for name in classes}
    return any(match and match["name"] in names for match in matches)


def complaints(symbols):
    """File, line and reason of all types that are not known."""
    unknown = [
        symbol
        for symbol in symbols
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]
    ]
    # Each is listed with its own reason, or that of one of its members.
    classes = {one["name"] for one in unknown if one["category"] == "class"}
    return [
        f"{Path(found.get('file', '')).name}:"
        f"{found['range']['start']['line'] + 1}: "
        f"{symbol['name']}: {found['message']}"
        for symbol in unknown
        for found in symbol["diagnostics"]
        if not is_of_keras(symbol, found["message"])
        and not is_consequence(found["message"], classes)
    ]


@pytest.fixture(scope="module")
def symbols(tmp_path_factory):
    return verified("keras_actpen", tmp_path_factory.mktemp("verified"))


def test_every_type_is_known(symbols):
    assert complaints(symbols) == []


def test_no_class_is_hidden(symbols):
    """Behind a decorator without types a class would count as known."""
    public = {
        f"{module.__name__}.{name}"
        for module in (keras_actpen, penalties)
        for name in module.__all__
        if isinstance(getattr(module, name), type)
    }
    seen = {one["name"] for one in symbols if one["category"] == "class"}
    assert {"keras_actpen.PenalizedLayer", "keras_actpen.penalties.L2"} < public
    assert public - seen == set()


UNTYPED = '''\
"""A package with gaps."""

import re

import keras


class Lamp(keras.layers.Layer):
    """A layer."""

    def shine(self, brightness) -> None:
        """Shine."""
        self.brightness = abs(len(brightness))


class Lamps(Lamp):
    """Layers."""

    def switch(self, patterns: list[re.Pattern]) -> None:
        """Switch some on."""
'''


def test_gaps_are_found(tmp_path, monkeypatch):
    package = tmp_path / "package_with_gaps"
    package.mkdir()
    (package / "__init__.py").write_text(UNTYPED)
    (package / "py.typed").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    found = complaints(verified(package.name, tmp_path))
    assert [line.split(": ")[:2] for line in found] == [
        ["__init__.py:11", "package_with_gaps.Lamp.shine"],
        ["__init__.py:13", "package_with_gaps.Lamp.brightness"],
        ["__init__.py:19", "package_with_gaps.Lamps.switch"],
    ]


# Keras has neither stubs nor py.typed, which strict mode calls an error.
CONFIG = {"typeCheckingMode": "strict", "reportMissingTypeStubs": "none"}

CONSUMER = """\
import re
from typing import Any, assert_type

import keras
import numpy as np
from matplotlib.figure import Figure

from keras_actpen import (
    PI,
    Finding,
    PenalizedLayer,
    PenaltyMonitor,
    PenaltyScheduler,
    TargetController,
    attach_penalty,
    detach_penalty,
    penalized_layers,
    penalties,
    penalty_gradient_share,
    penalty_report,
    penalty_summary,
    penalty_terms,
    plot_activations,
    suggest_coefficient,
    watch_activations,
)
from keras_actpen.callbacks.control_rules import ControlRule

Array = np.ndarray[Any, Any]


class Asymmetry(penalties.Penalty):
    def unreduced(self, activations: Any) -> Any:
        return activations**3


def is_dense(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Dense)


def fourth_power(h: Any) -> Any:
    return (h**4).sum()


def use(
    plain: keras.Model, layer: keras.layers.Layer, x: Array, y: Array
) -> None:
    attach_penalty(plain, "dense_4", l2=0.01)
    attach_penalty(plain, re.compile(r".*_[24]"), l1=1e-5)
    attach_penalty(plain, keras.layers.Conv2D, l1=1e-5)
    attach_penalty(plain, is_dense, l1=1e-5)
    attach_penalty(plain, -1, "l2", on="preactivation")
    attach_penalty(plain, ["conv_1", layer], l1=1e-5)
    attach_penalty(plain, {"conv_1": "l1", "dense_4": ["l1", "l2"]})
    model = attach_penalty(
        plain, "dense_4", penalties.L2(0.01, reduction="mean")
    )
    attach_penalty(model, "dense_4", keras.regularizers.L1(1e-4), output=0)
    attach_penalty(model, "dense_4", penalties.Hoyer)
    attach_penalty(model, "dense_4", penalties.L1(unit_weights=[1.0, 0.5]))
    attach_penalty(model, "dense_4", penalties.L0(threshold=lambda: x))
    attach_penalty(model, "dense_4", fourth_power, name="fourth_power")
    attach_penalty(model, "dense_4", Asymmetry(1e-3), share_weights=False)
    layers = penalized_layers(model)
    assert_type(layers, dict[str, PenalizedLayer])
    layers["dense_4"].coefficients["asymmetry"] = 1e-4
    assert_type(layers["dense_4"].coefficients["asymmetry"], float)
    detach_penalty(detach_penalty(model, "dense_4"))
    watch_activations(plain, "*")
    assert_type(penalty_summary(model), None)
    assert_type(penalty_terms(model, x[:32]), dict[str, float])
    assert_type(penalty_gradient_share(model, x, y), dict[str, float])
    assert_type(
        suggest_coefficient(plain, "dense_4", "l1", x[:32], y[:32], share=0.1),
        float,
    )
    report = penalty_report(model, x, y, batch_size=32)
    assert_type(report.findings, tuple[Finding, ...])
    assert_type(report.layers[0].terms[0].loss_share, float)
    assert_type(plot_activations(report), Figure)
    assert_type(plot_activations("logs", layers="conv_*"), Figure)


def configure() -> None:
    assert_type(penalties.L2(0.01), penalties.L2)
    assert_type(penalties.L2(0.01).coefficient, float)
    assert_type(penalties.KLSparsity(rate=0.1).activation, str | None)
    assert_type(penalties.get("l2"), penalties.Penalty)
    assert_type(penalties.get(None), None)
    assert_type(penalties.serialize(penalties.L2()), dict[str, Any])


def stop(finding: Finding, model: keras.Model) -> None:
    assert_type(finding.kind, str)
    model.stop_training = finding.value > finding.threshold


def callbacks() -> list[keras.callbacks.Callback]:
    monitor = PenaltyMonitor(
        "logs",
        update_freq="batch",
        histogram_freq=0,
        statistics_freq=10,
        max_overhead=0.01,
        statistics=("quantiles",),
        alerts={"dead": 0.1, "negligible": None},
        on_finding=stop,
    )
    assert_type(monitor.log_dir, str | None)
    hold = TargetController("dense_4/l1", 0.8, measure="zero_fraction")
    assert_type(hold.rule, ControlRule)
    slow = TargetController(
        "l1", 1.0, "mean", rule=PI(gain=1.0), bounds=(1e-6, 1.0)
    )
    schedules = keras.optimizers.schedules
    return [
        monitor,
        hold,
        slow,
        PenaltyScheduler(schedules.PolynomialDecay(0.0, 1000, 1.0)),
        PenaltyScheduler(lambda t: min(1.0, t / 500), "dense_*", unit="epoch"),
    ]
"""

MISTAKEN = """\
import keras

from keras_actpen import (
    GECO,
    PenaltyMonitor,
    TargetController,
    attach_penalty,
    penalties,
)

model = keras.Model()
attach_penalty(model, 0.5)
attach_penalty(model, "dense_4", l2="0.01")
attach_penalty(model, "dense_4", penalties.L2(reduction=None))
attach_penalty(model, "dense_4", penalties.L2(reduction="average"))
attach_penalty(model, "dense_4", penalties.L1(unit_weights=0.5))
PenaltyMonitor(log_dir=3)
PenaltyMonitor(on_finding=lambda finding: None)
TargetController("dense_4/l1", 0.8, rule=GECO)
TargetController("dense_4/l1", 0.8, rule="geko")
TargetController("dense_4/l1", 0.8, measure="zeros")
PenaltyMonitor(alerts={"died": 0.1})
PenaltyMonitor(statistics=("quantile",))
"""


@pytest.fixture(scope="module")
def diagnostics(tmp_path_factory):
    directory = tmp_path_factory.mktemp("consumers")
    (directory / "pyrightconfig.json").write_text(json.dumps(CONFIG))
    (directory / "consumer.py").write_text(CONSUMER)
    (directory / "mistaken.py").write_text(MISTAKEN)
    found = {"consumer.py": [], "mistaken.py": []}
    for one in basedpyright(directory)["generalDiagnostics"]:
        line = one["range"]["start"]["line"]
        found[Path(one["file"]).name].append(
            (line, one["rule"], one["message"])
        )
    return found


def test_a_program_that_uses_it_is_correct_in_strict_mode(diagnostics):
    assert diagnostics["consumer.py"] == []


def test_mistakes_are_errors(diagnostics):
    lines = MISTAKEN.splitlines()
    mistakes = range(lines.index("model = keras.Model()") + 1, len(lines))
    found = [(line, rule) for line, rule, _ in diagnostics["mistaken.py"]]
    assert found == [(line, "reportArgumentType") for line in mistakes]


PROGRAM = """\
import keras

from keras_actpen import (
    PenalizedLayer,
    PenaltyMonitor,
    PenaltyScheduler,
    TargetController,
    attach_penalty,
    penalties,
    penalty_report,
    suggest_coefficient,
)
model = keras.Model()
attach_penalty(model, "dense_4", "")
attach_penalty(model, "dense_4", on="")
attach_penalty(model, "dense_4", output="")
suggest_coefficient(model, "dense_4", "l1", 0, on="")
PenalizedLayer(keras.layers.ReLU(), on="")
PenaltyMonitor(alerts="")
PenaltyMonitor(alerts={"": 0.1})
PenaltyMonitor(statistics=[""])
PenaltyMonitor(update_freq="")
PenaltyScheduler(abs, unit="")
TargetController("l1", 0.8, effect="")
TargetController("l1", 0.8, measure="")
TargetController("l1", 0.8, rule="")
penalty_report(model, 0, verbose="")
penalties.get("")
penalties.L1(reduction="")
penalties.KLSparsity(activation="")
penalties.LoadBalance(activation="")
penalties.TotalVariation(data_format="")
"""
ON = {"output", "preactivation", "input", "kernel", "bias"}
PENALTIES = {"ar", "decov", "tar"} | {
    penalties.base.snake_case(name)
    for name in penalties.__all__
    if name[0].isupper() and name not in ("Penalty", "FunctionPenalty")
}
COMPLETED = [
    PENALTIES,
    ON,
    {"all"},
    ON,
    ON,
    {"sparse"},
    {*THRESHOLDS, "sparse"},
    {*STATES},
    {"epoch", "batch"},
    {"step", "epoch"},
    {"raises", "lowers"},
    {*EFFECTS},
    {*RULES},
    {"auto"},
    PENALTIES,
    {"batch", "mean", "position", "sum"},
    {"sigmoid", "tanh"},
    {"softmax", "linear"},
    {"channels_last", "channels_first"},
]


def test_editors_complete_names(tmp_path):
    with language_server(tmp_path, PROGRAM) as server:
        completed = [
            server.completed(number, line.index('""') + 1)
            for number, line in enumerate(PROGRAM.splitlines())
            if '""' in line
        ]
    expected = [sorted(f'"{name}"' for name in names) for names in COMPLETED]
    assert completed == expected
