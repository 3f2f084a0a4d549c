"""The house rules of imports, kept by a walk over the syntax trees."""

import ast
import importlib.util
import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path

import keras
import pytest

import keras_actpen

pytestmark = pytest.mark.one_backend

PACKAGE = Path(__file__).parent.parent / "keras_actpen"
FILES = sorted(PACKAGE.rglob("*.py"))
BACKENDS = {"tensorflow", "jax", "jaxlib", "torch"}

# A file may import from its own room and from those above it in this list.
# Rooms in one line know nothing of each other.
ROOMS = [
    ["backend"],
    ["internals"],
    ["penalties"],
    ["attach"],
    ["statistics"],
    ["instrumentation", "tensorboard"],
    ["callbacks", "reports"],
    ["demo"],
]
LEVEL_OF = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
LEVEL_OF |= {"__init__": len(ROOMS) - 1.5, "__main__": len(ROOMS)}


def room_of(path):
    """Room of a file, its own name where it lies beside the rooms."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Full names of all that a file imports, at any place in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            yield from (f"{node.module}.{a.name}" for a in node.names)


def own_imports(path):
    """Rooms that a file imports from."""
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "keras_actpen":
            yield parts[1] if parts[1] in LEVEL_OF else "__init__"


def label(path):
    return str(path.relative_to(PACKAGE))


each_file = pytest.mark.parametrize("path", FILES, ids=label)


@each_file
def test_imports_run_downward(path):
    own = room_of(path)
    assert not {
        room
        for room in own_imports(path)
        if room != own and LEVEL_OF[room] >= LEVEL_OF[own]
    }


@pytest.mark.parametrize("room", sorted({*LEVEL_OF} - {"__init__", "__main__"}))
def test_no_circle_in_a_room(room):
    prefix = f"keras_actpen.{room}."
    needs = {
        path.stem: {
            name.split(".")[2]
            for name in imports(path)
            if name.startswith(prefix)
        }
        - {path.stem}
        for path in (PACKAGE / room).rglob("*.py")
        if path.stem != "__init__"
    }
    assert any(needs.values())
    while needs:
        free = [name for name, needed in needs.items() if not needed & {*needs}]
        assert free, f"a circle among {sorted(needs)}"
        for name in free:
            del needs[name]


def test_the_house():
    """Nothing but rooms at the top, and no file that is too long to read."""
    at_the_top = {
        path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"
    }
    files = {"__init__.py", "__main__.py", "py.typed"}
    rooms = {room for rooms in ROOMS for room in rooms}
    assert at_the_top == files | rooms
    lines = {label(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name for name, count in lines.items() if count > 300} == set()


@each_file
def test_backends_only_in_backend(path):
    if room_of(path) != "backend":
        assert not BACKENDS & {name.split(".")[0] for name in imports(path)}
        assert "keras.backend.backend()" not in path.read_text()


def own_names(path):
    """Private names that this package itself defines, anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(
            node.ctx, ast.Store
        ):
            names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return names


def private(name):
    return name.startswith("_") and not name.startswith("__")


def on_self(node):
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def keras_names():
    """Names that a Keras class gives to its subclasses."""
    ones = (keras.Model(), keras.layers.Layer(), keras.callbacks.Callback())
    return set().union(*map(dir, ones))


@each_file
@pytest.mark.every_backend
def test_no_private_keras_outside_internals(path):
    if room_of(path) == "internals":
        return
    assert not [name for name in imports(path) if "keras.src" in name]
    tree = ast.parse(path.read_text())
    own = own_names(path)
    on_others = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and private(node.attr)
        and not on_self(node)
    }
    assert on_others <= own
    # In a subclass of a Keras class `self._x` may be Keras's own.
    inherited = {
        node.attr
        for definition in ast.walk(tree)
        if isinstance(definition, ast.ClassDef)
        and any(
            "keras" in ast.unparse(base) or "internals" in ast.unparse(base)
            for base in definition.bases
        )
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute) and on_self(node)
    } & keras_names()
    assert not {name for name in inherited if private(name)}


@pytest.mark.every_backend
def test_private_attributes_of_keras_by_string():
    """`getattr(layer, "_tracker")` and `vars(layer)["_x"]` count too."""
    names = {name for name in keras_names() if private(name)}
    found = [
        (path.name, node.value)
        for path in FILES
        if room_of(path) != "internals"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    # torch's own registry of sub-modules.
    assert {name for _, name in found} <= {"_modules"}


def run(script, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.every_backend
def test_import_loads_neither_tensorboard_nor_another_backend():
    done = run(
        "import sys, keras\n"
        "before = {name.split('.')[0] for name in sys.modules}\n"
        "import keras_actpen\n"
        "after = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(after - before))\n"
        # Keras itself imports matplotlib where it is installed.
        "print({'tensorboard'} & after | {'matplotlib'} & (after - before))\n"
    )
    assert done.returncode == 0, done.stderr
    new, optional = done.stdout.strip().splitlines()
    assert optional == "set()"
    assert "keras_actpen" in ast.literal_eval(new)
    loaded = BACKENDS - {keras.backend.backend(), "jaxlib"}
    assert not loaded & set(ast.literal_eval(new))


HIDE = """
import importlib.util
import sys

find_spec = importlib.util.find_spec


class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hide())
importlib.util.find_spec = lambda n: None if n in hidden else find_spec(n)
"""


@pytest.mark.parametrize("others", ["installed", "missing"])
@pytest.mark.every_backend
def test_a_backend_that_is_not_installed(others):
    backend = keras.backend.backend()
    found = [
        name
        for name in ("tensorflow", "jax", "torch")
        if name != backend and importlib.util.find_spec(name)
    ]
    hidden = [backend]
    if others == "missing":
        hidden += found
        advice = f"Install it: pip install 'keras-actpen[{backend}]'"
    elif found:
        advice = (
            "Set the environment variable KERAS_BACKEND to one that is, "
            f"before Python starts: KERAS_BACKEND={found[0]}"
        )
    else:
        pytest.skip("no other backend is installed")
    done = run(f"hidden = {hidden}\n{HIDE}\nimport keras_actpen")
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: Keras's backend {backend!r} is not installed. "
        + advice
    )


def test_signatures_fit_a_screen():
    """Types are shown by their names, which stand for what they are."""
    for name in keras_actpen.__all__:
        public = getattr(keras_actpen, name)
        if callable(public):
            assert len(str(inspect.signature(public))) < 10 * 80, name
    attach = keras_actpen.attach_penalty
    assert len(str(inspect.signature(attach))) < 5 * 80
    assert {*typing.get_type_hints(attach)} == {
        *inspect.signature(attach).parameters,
        "return",
    }


def test_public_names():
    assert all(hasattr(keras_actpen, name) for name in keras_actpen.__all__)
    assert dir(keras_actpen) == sorted(keras_actpen.__all__)
    assert {*keras_actpen.__all__} >= {
        "GECO",
        "PI",
        "PenalizedLayer",
        "PenaltyMonitor",
        "attach_penalty",
        "detach_penalty",
        "penalized_layers",
        "penalties",
        "penalty_summary",
        "penalty_terms",
        "watch_activations",
    }
