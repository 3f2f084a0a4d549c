"""Keras's own tests of models, each model with penalties that add nothing.

They come with Keras. Each test module runs twice: as it is, and with every
model that it builds handed through `attach_penalty(..., l2=0.0)`. Run from the
root of the repository, on the backend that `KERAS_BACKEND` names:

    python tests/support/keras_model_tests.py            # all, half an hour
    python tests/support/keras_model_tests.py models/functional_test.py

Arguments are test files below `keras/src`. Tests whose outcome differs are
printed; those that count variables may differ, by the coefficients of each
penalized layer, and are listed in `COUNTING_VARIABLES`.
"""

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import keras
from paths import ROOT, SUPPORT

from keras_actpen import attach_penalty

SOURCES = Path(keras.__file__).parent / "src"
FOLDERS = ("models", "saving", "callbacks", "export")
CONSTRUCTORS = {"Model", "Functional", "Sequential"}
# They compare the number of `model.variables` with a constant.
COUNTING_VARIABLES: frozenset[str] = frozenset()


def handed(model):
    """The model with a penalty on each layer that suits one."""
    if not isinstance(model, keras.Model) or not model.built:
        return model
    for name in [layer.name for layer in model.layers]:
        try:
            model = attach_penalty(model, model.get_layer(name), l2=0.0)
        except ValueError:  # an input, or no float output
            continue
    return model


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
    plain, penalized = found
    different = {
        name: (plain.get(name), penalized.get(name))
        for name in {**plain, **penalized}
        if plain.get(name) != penalized.get(name)
    }
    print(f"{len(plain)} tests, {len(different)} with another outcome:")
    for name, (before, after) in different.items():
        print(f"{name}: {before} -> {after}")
    return int(any(one not in COUNTING_VARIABLES for one in different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
