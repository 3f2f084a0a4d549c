"""Keras's own tests of models, each model with penalties that add nothing.

They come with Keras. Each test module runs twice: as it is, and with every
built model that it makes handed through `attach_penalty(..., l2=0.0)`. Run
from the root of the repository, on the backend that `KERAS_BACKEND` names:

    python tests/support/keras_model_tests.py            # all, half an hour
    python tests/support/keras_model_tests.py models/functional_test.py

Arguments are test files below `keras/src`. Tests whose outcome differs are
printed; `MAY_DIFFER` lists those that may, and why. The end of the second
report says how many layers were penalized, and why others were not. Tests of
packages that are not installed fail in both runs alike.
"""

import ast
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import keras
from paths import ROOT, SUPPORT

from keras_actpen import attach_penalty

SOURCES = Path(keras.__file__).parent / "src"
FOLDERS = ("models", "saving", "callbacks", "export")
CONSTRUCTORS = {"Model", "Functional", "Sequential"}
COUNTS = "it counts the variables: each penalized layer has one more"
MAY_DIFFER = {
    "models_model_test.ModelTest::test_get_state_tree": COUNTS,
    "models_model_test.ModelTest::test_quantize_float8": COUNTS,
    "models_model_test.ModelTest::test_quantize_int8": COUNTS,
    "models_functional_test.FunctionalTest::test_functional_slicing": (
        "it joins tensors of the plain model and of the penalized one"
    ),
    "saving_serialization_lib_test.SerializationLibTest::"
    "test_shared_inner_layer": (
        "it asks whether the penalized layer is the one that is shared"
    ),
}

penalized: Counter[str] = Counter()
refused: Counter[str] = Counter()


def handed(model):
    """The model with a penalty on each layer that suits one."""
    if not isinstance(model, keras.Model) or not model.built:
        return model
    penalized["models"] += 1
    for name in [layer.name for layer in model.layers]:
        try:
            model = attach_penalty(model, model.get_layer(name), l2=0.0)
        except ValueError as error:
            refused[str(error).partition(" Received: ")[0]] += 1
        else:
            penalized["layers"] += 1
    return model


def pytest_terminal_summary(terminalreporter):
    """Say what was penalized: this module is a plugin of the runs below."""
    write = terminalreporter.write_line
    write(f"penalized: {dict(penalized)}")
    for reason, count in refused.items():
        write(f"refused {count} times: {reason}")


class _Handing(ast.NodeTransformer):
    """Writes `handed(...)` around each call of a constructor."""

    def visit_Call(self, node):
        self.generic_visit(node)
        name = getattr(node.func, "id", getattr(node.func, "attr", None))
        if name not in CONSTRUCTORS:
            return node
        return ast.Call(ast.Name("handed", ast.Load()), [node], [])


def outcomes(files, folder, transform):
    """Outcome of each test by its name."""
    for file in files:
        tree = transform(ast.parse((SOURCES / file).read_text()))
        text = ast.unparse(ast.fix_missing_locations(tree))
        target = folder / file.replace("/", "_")
        target.write_text(f"from keras_model_tests import handed\n{text}\n")
    report = folder / "report.xml"
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", str(folder), "-q"),
            *("-c", os.devnull, "--rootdir", str(folder)),
            *("-p", "no:cacheprovider", "-o", "python_files=*_test.py"),
            *("-p", "keras_conftest", "-p", "keras_model_tests"),
            *("--disable-warnings", "--tb=short"),
            "--continue-on-collection-errors",
            *("--import-mode=importlib", f"--junitxml={report}"),
        ],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SUPPORT}"},
        check=False,
    )
    return {
        f"{case.get('classname')}::{case.get('name')}": [
            child.tag for child in case if child.tag != "system-out"
        ]
        for case in ElementTree.parse(report).iter("testcase")
    }


def main(files):
    files = files or [
        str(path.relative_to(SOURCES))
        for folder in FOLDERS
        for path in sorted((SOURCES / folder).glob("*_test.py"))
    ]
    found = []
    for transform in (lambda tree: tree, _Handing().visit):
        with tempfile.TemporaryDirectory() as folder:
            found.append(outcomes(files, Path(folder), transform))
    plain, handed_through = found
    different = {
        name: (plain.get(name), handed_through.get(name))
        for name in {**plain, **handed_through}
        if plain.get(name) != handed_through.get(name)
    }
    print(f"{len(plain)} tests, {len(different)} with another outcome:")
    for name, (before, after) in different.items():
        why = MAY_DIFFER.get(name, "WRONG")
        print(f"{name}: {before} -> {after}, {why}")
    return int(not MAY_DIFFER.keys() >= different.keys())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
