"""How TensorBoard loads the plugin, and its static files."""

import argparse
import gzip
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from paths import ROOT

import keras_actpen_tensorboard
from keras_actpen_tensorboard import schema
from keras_actpen_tensorboard.plugin import ActivationsLoader

pytestmark = pytest.mark.one_backend

PACKAGE = Path(keras_actpen_tensorboard.__file__).parent
STATIC = PACKAGE / "static"
MODULES = sorted(
    path for path in STATIC.rglob("*.js") if path.name != "echarts.js"
)


def test_the_import_brings_neither_keras_nor_a_backend():
    program = (
        "import sys, keras_actpen_tensorboard.plugin; "
        "print([m for m in ('keras', 'keras_actpen', 'tensorflow', 'jax', "
        "'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_entry_point_is_the_loader():
    (entry,) = (
        one
        for one in metadata.entry_points(group="tensorboard_plugins")
        if one.name == "keras_actpen"
    )
    assert entry.load() is ActivationsLoader


@pytest.mark.parametrize(
    ("given", "kept"),
    [({}, 0), ({"keras_actpen": 7}, 7), ({"scalars": 5}, 0)],
)
def test_all_points_are_kept_unless_told_otherwise(given, kept):
    flags = argparse.Namespace(samples_per_plugin=dict(given))
    ActivationsLoader().fix_flags(flags)
    assert flags.samples_per_plugin == {**given, schema.PLUGIN: kept}


@pytest.mark.parametrize(
    "flags",
    [argparse.Namespace(), argparse.Namespace(samples_per_plugin=None)],
)
def test_flags_of_other_versions_do_no_harm(flags):
    before = vars(flags).copy()
    ActivationsLoader().fix_flags(flags)
    assert vars(flags) == before


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.js", "text/javascript"),
        ("pages/overview.js", "text/javascript"),
        ("echarts.js", "text/javascript"),
        ("style.css", "text/css"),
        ("echarts.LICENSE.txt", "text/plain"),
    ],
)
def test_static_files(client, path, kind):
    response = client.get(path)
    assert response.status_code == 200
    assert response.mimetype == kind
    data = response.get_data()
    if response.content_encoding == "gzip":
        data = gzip.decompress(data)
    assert data == (STATIC / path).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing.js",
        "../plugin.py",
        "pages/../../plugin.py",
        "..%2fplugin.py",
        "%2e%2e/plugin.py",
        "/etc/passwd",
        "pages",
        "data/nothing",
        "bundle/package.json",
    ],
)
def test_everything_else_is_not_found(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("argument", ["after", "points"])
def test_arguments_that_are_no_numbers(client, argument):
    answer = client.ask("curves", run="x", group="y", **{argument: "1e9"})
    assert answer == {
        "error": f"Expected a whole number for `{argument}`. Received: '1e9'"
    }


def test_licenses_lie_beside_the_bundle():
    assert "Apache License" in (STATIC / "echarts.LICENSE.txt").read_text()
    assert "Apache ECharts" in (STATIC / "echarts.NOTICE.txt").read_text()
    assert "Redistribution" in (STATIC / "zrender.LICENSE.txt").read_text()
    bundle = (STATIC / "echarts.js").read_text()
    # The content policy of TensorBoard is going to forbid both.
    assert not re.search(r"\beval\(|new Function\(", bundle)


def test_the_recipe_of_the_bundle_names_no_registry():
    text = (PACKAGE / "bundle" / "package-lock.json").read_text()
    assert "resolved" not in text
    assert "http" not in re.sub(r'"url": "[^"]*"', "", text)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_are_small_and_make_no_markup(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text
    )


def test_files_are_small():
    lines = {
        path.name: len(path.read_text().splitlines())
        for path in PACKAGE.glob("*.py")
    }
    assert {name for name, count in lines.items() if count > 300} == set()
