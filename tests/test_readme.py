"""README's code blocks run, and its commands are those of the package."""

import pathlib
import re

import keras
import numpy as np
import pytest

from keras_actpen import demo

README = pathlib.Path(__file__).parents[1] / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.S)


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """What the blocks take for granted: a saved model and some digits."""
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(4, 3, strides=3, name="conv_1"),
            keras.layers.Conv2D(4, 3, strides=3, name="conv_2"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu", name="dense_4"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    (x, y), (x_val, y_val) = demo.load_sample()
    model.train_on_batch(x[:8], y[:8])
    model.save("mnist_cnn.keras")
    return {"x": x[:64], "y": y[:64], "x_val": x_val[:32], "y_val": y_val[:32]}


def test_python_blocks_run_in_order(digits, tmp_path):
    namespace = dict(digits)
    for block in blocks("python"):
        exec(compile(block, str(README), "exec"), namespace)
    assert (tmp_path / "logs" / "actpen" / "train").is_dir()
    assert (tmp_path / "logs" / "actpen" / "validation").is_dir()
    terms = namespace["penalty_terms"](namespace["model"], digits["x"][:32])
    assert set(terms) == {"dense_4/l1", "dense_4/l2"}
    assert all(np.isfinite(list(terms.values())))


def test_first_two_commands_run_the_demo_and_the_tests():
    run, test = blocks("sh")[:2]
    assert run.rstrip().endswith("keras-actpen demo")
    assert test.rstrip().endswith("python -m pytest")


def test_pictures_exist():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README.read_text())
    assert len(pictures) == 2
    for picture in pictures:
        assert (README.parent / picture).stat().st_size > 0
