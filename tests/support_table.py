"""Prints README's support table, made of the results of the tests.

    python tests/support_table.py

runs `test_topologies.py`, `test_training_modes.py` and `test_distribution.py`
on each backend, KERAS_ACTPEN_SLOW included (about 20 minutes), and prints
Markdown. A row is `yes` where all of its tests passed.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
from collections import defaultdict
from xml.etree import ElementTree

TESTS = pathlib.Path(__file__).parent
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}
FILES = ("topologies", "training_modes", "distribution")


def results(backend):
    """By file and test id the failed tests and the reasons of skipped ones."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q"),
                f"--junitxml={report}",
                *(f"{TESTS}/test_{name}.py" for name in FILES),
            ],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "KERAS_ACTPEN_SLOW": "1",
            },
            stdout=sys.stderr,
            check=False,
        )
        tree = ElementTree.parse(report)
    found = defaultdict(list)
    for case in tree.iter("testcase"):
        file = case.get("classname").rpartition("test_")[2]
        failed = [*case.iter("failure"), *case.iter("error")]
        skipped = [one.get("message") for one in case.iter("skipped")]
        found[file].append((case.get("name"), bool(failed), skipped))
    return found


def cell(outcomes, passed):
    """Text of a cell from the outcomes of a row's tests."""
    if not outcomes:
        return "not run"
    failed = [name for name, failure, _ in outcomes if failure]
    if failed:
        return "no: " + ", ".join(name.partition("[")[0] for name in failed)
    for _, _, skipped in outcomes:
        if skipped:
            return skipped[0]
    return passed


def of_row(outcomes, row):
    """Outcomes of the tests that are named after a row."""
    return [one for one in outcomes if one[0].endswith(f"[{row}]")]


def table(title, rows):
    """A Markdown table; texts that are long go below it, by number."""
    notes: list[str] = []
    lines = [
        f"| {title} | {' | '.join(BACKENDS.values())} |",
        "|---" * (1 + len(BACKENDS)) + "|",
    ]
    for label, cells in rows:
        short = []
        for text in cells:
            if len(text) > len("refused"):
                if text not in notes:
                    notes.append(text)
                kind = "no" if text.startswith("no") else text.split()[0]
                text = f"{kind.strip(',:')} ({notes.index(text) + 1})"
            short.append(text)
        lines.append(f"| {label} | {' | '.join(short)} |")
    numbered = [f"{i}. {note}" for i, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *numbered])


def main():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    sys.path.insert(0, str(TESTS))
    from topologies import REFUSALS, TOPOLOGIES

    found = {backend: results(backend) for backend in BACKENDS}
    rows = []
    for one in TOPOLOGIES:
        passed = "yes"
        if one.saved == "lost":
            passed = (
                "yes, but a `.keras` file does not keep the penalty (warns)"
            )
        elif one.saved != "kept":
            passed = "yes; Keras itself cannot load its `.keras` file"
        contract = {
            backend: [
                outcome
                for outcome in of_row(files["topologies"], one.name)
                if not outcome[0].startswith("test_keras_itself_cannot")
            ]
            for backend, files in found.items()
        }
        rows.append((one.label, [cell(contract[b], passed) for b in BACKENDS]))
    for one in REFUSALS:
        outcomes = [of_row(found[b]["topologies"], one.name) for b in BACKENDS]
        rows.append((one.label, [cell(each, "refused") for each in outcomes]))
    print(table("Model or layer", rows))
    print()
    names = {}
    for files in found.values():
        for file in FILES[1:]:
            for name, _, _ in files[file]:
                names.setdefault((file, name))
    rows = [
        (
            name.removeprefix("test_").replace("_", " "),
            [
                cell([one for one in found[b][file] if one[0] == name], "yes")
                for b in BACKENDS
            ],
        )
        for file, name in names
    ]
    print(table("Training", rows))


if __name__ == "__main__":
    main()
