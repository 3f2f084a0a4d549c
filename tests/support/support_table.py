"""Prints the table of docs/support.md, made of the results of the tests.

    python tests/support/support_table.py

runs the tests named below on each backend, KERAS_ACTPEN_SLOW included (about
20 minutes), and prints Markdown. A row is `yes` where all of its tests passed.
`test_document_facts.py` asks for the same rows, without running anything.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections import defaultdict
from xml.etree import ElementTree

TESTS = pathlib.Path(__file__).parents[1]
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}
CONTRACT = "contract/test_topologies.py"
TRAINING = (
    "contract/test_training_modes.py",
    "contract/test_distribution.py",
    "callbacks/test_monitor_life.py::test_two_devices_log_what_one_logs",
    "attach/test_transparency.py::test_users_class_keeps_attributes_and_methods",
    "attach/test_transparency.py::test_users_sequential_class",
    "attach/test_transparency.py::test_subclassed_model_is_changed_in_place",
    "attach/test_transparency.py::test_losses_and_metrics_by_name",
    "contract/test_random_models.py",
)

# A cell: `yes`, `refused`, `no` or `-`, and a note to be read below the table.
Cell = tuple[str, str]
YES = ("yes", "")
REFUSED = ("refused", "")


def pytest_with(*arguments, **environment):
    """Run pytest from the folder of the tests; return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=TESTS,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout


def results(*arguments, **environment):
    """By test id, without its file: whether it failed, why it was skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        printed = pytest_with(
            f"--junitxml={report}",
            *arguments,
            KERAS_ACTPEN_SLOW="1",
            **environment,
        )
        print(printed, file=sys.stderr)
        cases = list(ElementTree.parse(report).iter("testcase"))
    found = {}
    for case in cases:
        failed = [*case.iter("failure"), *case.iter("error")]
        skipped = [one.get("message") for one in case.iter("skipped")]
        found[case.get("name")] = (bool(failed), skipped)
    return found


def training_tests(backend):
    """What `results` would be of the tests that are rows, none being run: the
    same rows whatever the backend, skipped where a mark says so."""
    return results("--setup-plan", *TRAINING, KERAS_BACKEND=backend)


def cell(outcomes, passed) -> Cell:
    """What a row's tests say, by test id."""
    failed = [name for name, (failure, _) in outcomes.items() if failure]
    if failed:
        return ("no", ", ".join(name.partition("[")[0] for name in failed))
    for _, skipped in outcomes.values():
        if skipped:
            return ("-", skipped[0])
    return passed if outcomes else ("no", "not run")


def of_topology(found, name):
    """Results of the tests that are named after a topology."""
    return {
        test: outcome
        for test, outcome in found.items()
        if test.endswith(f"[{name}]")
        and not test.startswith("test_keras_itself_cannot")
    }


def passed(topology) -> Cell:
    """The cell of a topology that passes."""
    if topology.saved == "lost":
        return ("yes", "a `.keras` file does not keep the penalty, and warns")
    if topology.saved != "kept":
        return ("yes", "Keras itself cannot load its `.keras` file")
    return YES


def predicted(topology, backend) -> Cell:
    """The cell of a topology if all of its tests pass."""
    if backend in topology.keras_cannot:
        return (
            "-",
            f"Keras itself cannot: {topology.keras_cannot[backend][0]}",
        )
    return passed(topology)


def refused(row, backend) -> Cell:
    """The cell of a refusal whose test passes."""
    return REFUSED if backend in row.backends else YES


def table(title, rows: list[tuple[str, list[Cell]]]) -> str:
    """A Markdown table with its notes, numbered, below it."""
    notes: dict[str, int] = defaultdict(lambda: len(notes) + 1)
    lines = [
        f"| {title} | {' | '.join(BACKENDS.values())} |",
        "|---" * (1 + len(BACKENDS)) + "|",
    ]
    for label, cells in rows:
        texts = [
            f"{short} ({notes[note]})" if note else short
            for short, note in cells
        ]
        lines.append(f"| {label} | {' | '.join(texts)} |")
    numbered = [f"{number}. {note}" for note, number in notes.items()]
    return "\n".join([*lines, "", *numbered])


def contract_table(cell_of, refusal_of) -> str:
    """The table of `topologies.py`, from functions of a row and a backend."""
    from inner_topologies import REFUSALS, TOPOLOGIES

    rows = [
        (one.label, [function(one, backend) for backend in BACKENDS])
        for function, listed in (
            (cell_of, TOPOLOGIES),
            (refusal_of, REFUSALS),
        )
        for one in listed
    ]
    return table("Model or layer", rows)


def label(test):
    """`test_modes[no_jit]` as `modes: no jit`."""
    name, _, parameter = test.removeprefix("test_").partition("[")
    text = name + (": " + parameter.removesuffix("]") if parameter else "")
    return text.replace("_", " ")


def main():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    sys.path.insert(0, str(TESTS))
    found = {
        backend: results(CONTRACT, *TRAINING, KERAS_BACKEND=backend)
        for backend in BACKENDS
    }
    print(
        contract_table(
            lambda one, b: cell(of_topology(found[b], one.name), passed(one)),
            lambda one, b: cell(
                of_topology(found[b], one.name), refused(one, b)
            ),
        )
    )
    print()
    rows = [
        (
            label(test),
            [
                cell({t: o for t, o in found[b].items() if t == test}, YES)
                for b in BACKENDS
            ],
        )
        for test in training_tests(next(iter(BACKENDS)))
    ]
    print(table("Training", rows))


if __name__ == "__main__":
    main()
