"""Keras's own layer tests, each layer a second time inside PenalizedLayer.

They come with Keras. Run from the root of the repository, on the backend that
`KERAS_BACKEND` names:

    python tests/support/keras_layer_tests.py            # all, some minutes
    python tests/support/keras_layer_tests.py core/dense_test.py -x

Arguments are test files below `keras/src/layers`, then options of pytest. Tests
that do not go through Keras's `run_layer_test` are left out.

A layer whose outputs no penalty suits has no second run. The end of the report
says which these are and why.
"""

import inspect
import os
import sys
from collections import Counter
from pathlib import Path

import keras
import keras_conftest
import pytest
from keras.src.testing.test_case import TestCase

from keras_actpen import PenalizedLayer, penalties

LAYERS = Path(keras.__file__).parent / "src" / "layers"
# Beginnings of what PenalizedLayer says of outputs that it refuses.
REFUSED = {
    "Expected a layer with a float output": "the output is no float tensor",
    "Expected a layer with a dense output": "the output is no dense tensor",
}


class SecondRun:
    """A plugin of pytest that runs the checks of a layer twice."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.refused: dict[str, str] = {}

    def pytest_collection_modifyitems(self, config, items):
        kept, others = [], []
        for item in items:
            source = inspect.getsource(inspect.unwrap(item.function))
            (kept if "run_layer_test" in source else others).append(item)
        items[:] = kept
        config.hook.pytest_deselected(items=others)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        once = TestCase.run_layer_test

        def twice(case, layer_cls, init_kwargs, **expected):
            once(case, layer_cls, init_kwargs, **expected)
            self.counts["first runs"] += 1

            def penalized(**kwargs):
                return PenalizedLayer(layer_cls(**kwargs), penalties.L2(0.0))

            # It cannot be subclassed.
            expected["assert_built_after_instantiation"] = False
            for name, added in (
                ("expected_num_losses", 1),
                ("expected_num_non_trainable_variables", 1),
            ):
                if expected.get(name) is not None:
                    expected[name] += added
            try:
                once(case, penalized, init_kwargs, **expected)
            except ValueError as error:
                for beginning, reason in REFUSED.items():
                    if beginning in str(error):
                        self.refused[item.nodeid] = reason
                        return
                raise
            self.counts["second runs"] += 1

        TestCase.run_layer_test = twice
        try:
            return (yield)
        finally:
            TestCase.run_layer_test = once

    def pytest_terminal_summary(self, terminalreporter):
        write = terminalreporter.write_line
        write(f"inside PenalizedLayer: {dict(self.counts)}")
        for node, reason in self.refused.items():
            write(f"refused, {reason}: {node}")


def main(arguments):
    files = [str(LAYERS / one) for one in arguments if one.endswith(".py")]
    options = [one for one in arguments if not one.endswith(".py")]
    return pytest.main(
        [
            *(files or [str(LAYERS)]),
            *options,
            "-q",
            # Not the options and the warnings of this repository.
            "-c",
            os.devnull,
            "--rootdir",
            str(LAYERS),
            "-p",
            "no:cacheprovider",
            "--disable-warnings",
            # Some want packages that Keras itself does not require.
            "--continue-on-collection-errors",
            "--import-mode=importlib",
            "-o",
            "python_files=*_test.py",
            "-m",
            "not large and not multi_device",
        ],
        plugins=[keras_conftest, SecondRun()],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
