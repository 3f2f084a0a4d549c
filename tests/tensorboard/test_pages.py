"""Images and text pages: what they hold however long a training is."""

import numpy as np
import pytest
from models import sequential

from keras_actpen import attach_penalty, penalized_layers
from keras_actpen.attach.activation_spec import ActivationSpec
from keras_actpen.statistics.findings import Finding
from keras_actpen.statistics.snapshot import StatisticsSnapshot
from keras_actpen.tensorboard import images, text_pages
from keras_actpen.tensorboard.epoch_data import Recorded
from keras_actpen.tensorboard.images import EpochColumns, Images
from keras_actpen.tensorboard.numerals import shortest, without_noise

pytestmark = pytest.mark.one_backend

OUTPUT = ActivationSpec()


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 700, 5000])
def test_a_bounded_number_of_epochs_is_kept(count):
    columns = EpochColumns()
    for epoch in range(10, 10 + count):
        columns.add(epoch, -epoch)
    epochs, values = columns.shown()
    assert values == [-epoch for epoch in epochs]
    assert len(epochs) <= images.MOST_EPOCHS
    assert len(epochs) > min(count, images.MOST_EPOCHS / 2) - 1
    assert (epochs[0], epochs[-1]) == (10, 9 + count)
    # Evenly spaced, but for the last.
    assert len(set(np.diff(epochs[:-1]))) <= 1


def test_what_is_kept_for_images_is_bounded():
    kept = Images({}, with_units=True)
    rng = np.random.default_rng(0)
    for epoch in range(1000):
        fired = rng.integers(0, 2, 4096)
        seen = StatisticsSnapshot(count=4096, fired=fired)
        kept.add(epoch, Recorded({}, {("dense", OUTPUT): seen}))
    (history,) = kept._of_units.values()
    size = sum(column.nbytes for column in history.shown()[1])
    # 4096 units of 1000 epochs would be 33 MB.
    assert size <= images.MOST_EPOCHS * 240 * 8


def test_images_are_drawn_after_1_2_4_8_epochs_and_at_the_end():
    kept = Images({}, with_units=True)
    due = []
    for epoch in range(20):
        seen = StatisticsSnapshot(count=4, fired=np.array([0, 2]))
        kept.add(epoch, Recorded({}, {("dense", OUTPUT): seen}))
        if kept.are_due:
            due.append(epoch + 1)
            tags = [value.tag for value in kept.draw()]
            assert tags == [
                "actpen/dead_fraction_by_layer",
                "activation.firing_rate/dense",
            ]
    assert due == [1, 2, 4, 8, 16]
    assert len(list(kept.draw())) == 2
    assert list(kept.draw()) == []  # shows nothing new


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("L2(coefficient=0.00030000000000000003)", "L2(coefficient=0.0003)"),
        ("x=0.1, y=1e-05, n=12", "x=0.1, y=1e-05, n=12"),
        ("(3.0000000000000004e-05, 2.5)", "(3e-05, 2.5)"),
        ("dense_4, 1/3=0.3333333333333333", "dense_4, 1/3=0.333333333333"),
    ],
)
def test_digits_that_only_floating_point_makes_are_gone(text, shown):
    assert without_noise(text) == shown


def test_the_shortest_number_is_the_same_float32():
    for value in (np.float32(0.3), 0.0003, 1e-30, np.float32(1 / 3)):
        assert np.float32(shortest(value)) == np.float32(value)
    assert shortest(np.float32(0.3)) == 0.3


def test_the_text_page_has_no_noise():
    model = attach_penalty(sequential(), "dense_4", l2=0.1 * 0.003)
    (value,) = text_pages.attached(penalized_layers(model), "1")
    page = value.tensor.string_val[0].decode()
    assert "coefficient=0.0003, " in page
    assert ", now 0.0003 |" in page
    assert "0000003" not in page


def finding(kind, path="d", message="m"):
    return Finding(kind, path, 0.5, 0.5, message)


def test_all_findings_are_in_one_table():
    page = text_pages.FindingsPage()
    assert list(page.page()) == []
    assert page.add(0, [finding("dead", message="60 % dead")])
    assert list(page.page())
    assert not page.add(1, [finding("dead", message="70 % dead")])
    assert not page.add(2, [])
    new = [finding("nonfinite"), finding("nonfinite", message="n")]
    assert page.add(3, new)
    (value,) = page.page()
    assert value.tensor.string_val[0].decode().splitlines() == [
        "| epochs | finding |",
        "|---|---|",
        "| 0 to 1 | d: 70 &#37; dead |",
        "| 3 | d: m |",
        "| 3 | d: n |",
    ]
    assert list(page.page()) == []  # it is as it was
