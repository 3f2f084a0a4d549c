import doctest
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_actpen.tensorboard import drawing, heatmaps, unit_maps
from keras_actpen.tensorboard.heatmaps import heat_map
from keras_actpen.tensorboard.unit_maps import unit_map

pytestmark = pytest.mark.one_backend

GREY = (208, 208, 208)
WHITE = (255, 255, 255)
DARKEST = (68, 1, 84)
BRIGHTEST = (253, 231, 37)


def plot_box(rows, columns):
    """Slices of the part that the cells fill: a map of nothing is grey."""
    nothing = np.full((len(rows), len(columns)), np.nan)
    grey = (heat_map("", rows, columns, nothing) == GREY).all(axis=-1)
    # The edges of letters are grey too, but never for long.
    y = np.flatnonzero(grey.sum(axis=1) > 200)
    x = np.flatnonzero(grey[y[0] : y[-1] + 1].sum(axis=0) > 20)
    return slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)


def cell_colours(rows, columns, values, **limits):
    """One pixel of each cell, a quarter into it: no text is there."""
    pixels = heat_map("title", rows, columns, values, **limits)
    plot = pixels[plot_box(rows, columns)]
    height, width, _ = plot.shape
    y = (np.arange(len(rows)) + 0.25) * height / len(rows)
    x = (np.arange(len(columns)) + 0.08) * width / len(columns)
    return plot[y.astype(int)][:, x.astype(int) + 1]


def ink(pixels):
    """Where the image is not empty, as `(height, width)` booleans."""
    return (pixels != WHITE).any(axis=-1)


def words(pixels, gap):
    """Start and stop of the texts in a line, more than `gap` apart."""
    x = np.flatnonzero(ink(pixels).any(axis=0))
    breaks = np.flatnonzero(np.diff(x) > gap)
    return [(part[0], part[-1] + 1) for part in np.split(x, breaks + 1)]


@pytest.mark.parametrize("rows", [1, 2, 7, 60])
@pytest.mark.parametrize("columns", [1, 2, 30, 200, 3000])
def test_is_an_image_of_one_width(rows, columns):
    values = np.arange(rows * columns).reshape(rows, columns)
    names = [f"backbone/stage_1/block_{row}/conv2d_1" for row in range(rows)]
    pixels = heat_map("penalty", names, range(columns), values)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (pixels.shape[0], 700, 3)
    # TensorBoard halves it and shows 1024 pixels without a scroll bar.
    assert 26 * rows + 88 <= pixels.shape[0] <= 2 * 1024
    # It can be drawn on.
    pixels[:] = 0


@pytest.mark.parametrize("row", ["a", "conv2d_17", "a/very/long/path" * 9])
@pytest.mark.parametrize("columns", [1, 200])
def test_nothing_touches_the_border(row, columns):
    values = np.linspace(-1e-30, -1e-31, columns)[None]
    frame = ink(heat_map("title" * 50, [row], range(columns), values))
    frame[5:-5, 5:-5] = False
    assert not frame.any()


def test_first_and_last_cell_are_the_ends_of_the_scale():
    rows, columns = [f"dense_{row}" for row in range(60)], range(200)
    values = np.linspace(-3, 5, 60 * 200).reshape(60, 200)
    plot = heat_map("", rows, columns, values)[plot_box(rows, columns)]
    assert tuple(plot[2, 0]) == DARKEST
    assert tuple(plot[-2, -1]) == BRIGHTEST


def test_rows_and_columns_are_where_the_labels_say():
    values = np.zeros((3, 4))
    values[2, 1] = 1
    colours = cell_colours(["a", "b", "c"], range(4), values)
    bright = (colours == BRIGHTEST).all(axis=-1)
    assert np.argwhere(bright).tolist() == [[2, 1]]
    assert (colours[~bright] == DARKEST).all()


def test_nan_is_grey_and_infinities_are_the_ends():
    values = np.array([[0.0, np.nan, 1.0], [np.inf, 0.5, -np.inf]])
    colours = cell_colours(["a", "b"], range(3), values).tolist()
    assert colours == [
        [list(DARKEST), list(GREY), list(BRIGHTEST)],
        [list(BRIGHTEST), [33, 144, 141], list(DARKEST)],
    ]


def test_nan_hides_no_other_value():
    values = np.array([[0.0, 0.3, 1.0]])
    holed = np.array([[0.0, np.nan, 1.0]])
    full = cell_colours(["a"], range(3), values)
    assert (cell_colours(["a"], range(3), holed) == full)[0, [0, 2]].all()


@pytest.mark.parametrize("values", [[-1e-30, 1e-30], [0, 1], [-2e38, 1e38]])
def test_colours_get_lighter_with_the_value(values):
    values = np.linspace(*values, 40)[None]
    colours = cell_colours(["a"], range(40), values)[0]
    lightness = colours @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 1).all()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e30])
def test_a_constant_has_the_middle_colour(value):
    colours = cell_colours(["a", "b"], range(3), np.full((2, 3), value))
    assert np.unique(colours.reshape(-1, 3), axis=0).tolist() == [
        [33, 144, 141]
    ]


def test_limits_fix_the_scale():
    values = np.array([[-1.0, 0.0, 0.5, 1.0, 9.0]])
    columns = range(5)
    colours = cell_colours(["a"], columns, values, low=0, high=1)[0]
    assert (colours[:2] == DARKEST).all()
    assert (colours[3:] == BRIGHTEST).all()
    # One limit, beyond all values.
    above = cell_colours(["a"], columns, values, low=10)[0]
    assert np.unique(above, axis=0).tolist() == [[33, 144, 141]]


def test_values_are_printed_where_all_fit():
    def has_text(count, value):
        columns = range(count)
        values = np.full((1, count), value)
        pixels = heat_map("", ["a"], columns, values, low=0, high=1)
        plot = pixels[plot_box(["a"], columns)]
        # The row's colour, gaps and nothing else.
        return len(np.unique(plot.reshape(-1, 3), axis=0)) > 2

    assert has_text(7, 0.123)
    assert has_text(20, 1)
    assert not has_text(20, 0.123)
    assert not has_text(200, 1)


@pytest.mark.parametrize("start", [0, 3, 99_990])
@pytest.mark.parametrize("stride", [1, 7])
@pytest.mark.parametrize("count", [1, 2, 9, 30, 31, 100, 200, 999])
def test_epoch_numbers_never_overlap(start, stride, count):
    columns = range(start, start + count * stride, stride)
    pixels = heat_map("", ["a"], columns, np.full((1, count), np.nan))
    box, span = plot_box(["a"], columns)
    # Above the numbers there is one tick for each.
    ticks = words(pixels[box.stop : box.stop + 5], gap=1)
    assert {stop - start for start, stop in ticks} == {2}
    numbers = words(pixels[box.stop + 6 :, span], gap=7)
    assert len(numbers) == len(ticks)
    assert 1 <= len(numbers) <= 25
    # The last epoch always has its number.
    assert ticks[-1][1] >= span.stop - (span.stop - span.start) / count


@pytest.mark.parametrize(
    ("columns", "numbered"),
    [
        (range(1), [0]),
        (range(6), [0, 1, 2, 3, 4, 5]),
        (range(200), [0, 50, 100, 150, 199]),
        (range(12, 52), [20, 30, 40, 51]),
        ([7, 7, 7], [7, 7, 7]),
    ],
)
def test_round_epochs_are_numbered(columns, numbered):
    centres = drawing.centres(0, 600, len(columns))
    chosen = drawing.ticks(columns, centres, 100)
    assert sorted(columns[index] for index in chosen) == numbered


def test_long_texts_are_shortened_in_the_middle():
    text = "encoder/layer_11/feed_forward/intermediate_dense"
    shown = drawing.shorten(text, 250)
    head, tail = shown.split("…")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert tail == "mediate_dense"
    assert 220 < drawing.text_width(shown) <= 250
    assert drawing.shorten("dense", 250) == "dense"
    assert drawing.shorten("two\nlines", 250) == "two lines"


def test_a_long_title_or_path_moves_nothing():
    columns = range(3)
    values = np.ones((1, 3))
    path = "very_long_name/" * 20
    pixels = heat_map(path * 5, [path], columns, values)
    assert pixels.shape == heat_map("", ["a"], columns, values).shape
    box = plot_box([path], columns)[1]
    assert box.stop - box.start >= 400


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (0.12345, "0.123"),
        (1.5e-7, "1.5e-7"),
        (123456, "1.23e5"),
        (-2e-11, "-2e-11"),
        (np.nan, "nan"),
        (-np.inf, "-inf"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert drawing.number(value) == text


def test_the_colour_bar_spans_the_scale():
    rows, columns = ["a"], range(300)
    values = np.linspace(0, 1, 300)[None]
    pixels = heat_map("title", rows, columns, values)
    above = pixels[: plot_box(rows, columns)[0].start]
    for end in (DARKEST, BRIGHTEST):
        assert (above == end).all(axis=-1).any()
    # Nothing but nan has no scale.
    nothing = heat_map("", rows, columns, values * np.nan)
    assert not ink(nothing[: plot_box(rows, columns)[0].start]).any()


def test_inputs_stay_as_they_are():
    values = np.array([[0, np.nan, np.inf]], dtype=np.float32)
    before = values.copy()
    first = heat_map("title", ["a"], range(3), values)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(
        heat_map("title", ["a"], range(3), values), first
    )


@pytest.mark.parametrize(
    ("rows", "columns", "shape"),
    [
        (["a"], [0, 1], (2, 1)),
        (["a"], [0], (1,)),
        (["a"], [0], (1, 1, 1)),
        ([], [0], (0, 1)),
        (["a"], [], (1, 0)),
    ],
)
def test_another_shape_is_refused(rows, columns, shape):
    message = (
        "Invalid value received for argument `values`. Expected an array of "
        "shape (rows, columns), at least one of each, here "
        f"{(len(rows), len(columns))}. Received: an array of shape {shape}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        heat_map("title", rows, columns, np.zeros(shape))


@pytest.mark.parametrize(
    ("low", "high"), [(1, 0), (np.nan, None), (None, np.inf)]
)
def test_limits_out_of_order_are_refused(low, high):
    message = (
        "Invalid values received for arguments `low` and `high`. Expected "
        f"finite numbers or None, low <= high. Received: low={low}, high={high}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        heat_map("title", ["a"], [0], np.zeros((1, 1)), low=low, high=high)


def test_neither_keras_nor_tensorboard_is_imported():
    # A package of that name without its own imports.
    code = (
        "import sys, types\n"
        "package = types.ModuleType('keras_actpen')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "sys.modules['keras_actpen'] = package\n"
        "import keras_actpen.tensorboard.heatmaps\n"
        "import keras_actpen.tensorboard.unit_maps\n"
        "print({'keras', 'tensorflow', 'tensorboard'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code, Path(heatmaps.__file__).parents[1]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "set()"


@pytest.mark.parametrize("module", [heatmaps, unit_maps])
def test_example(module):
    assert doctest.testmod(module) == (0, 1)


# Units by epochs


def unit_rows(pixels):
    """Colours of the rows of a map of one epoch, from top to bottom."""
    column = pixels[:, 600]
    inside = column[:, :] != WHITE
    rows = np.flatnonzero(inside.any(axis=-1))
    # Above them is the colour bar, below them maybe a digit.
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 8) + 1)
    part = max(parts, key=len)
    return column[part[0] : part[-1] + 1]


@pytest.mark.parametrize("units", [1, 3, 60, 240, 241, 512, 5000])
@pytest.mark.parametrize("columns", [1, 40, 500])
def test_units_fit_whatever_their_number(units, columns):
    values = np.linspace(0, 1, units * columns).reshape(units, columns)
    pixels = unit_map("firing rate: dense", range(columns), values)
    assert pixels.dtype == np.uint8
    assert pixels.shape[1:] == (700, 3)
    assert pixels.shape[0] <= 480 + 4 * 34 + 20
    frame = ink(pixels)
    frame[3:-3, 3:-3] = False
    assert not frame.any()


def test_units_are_in_order_and_alike_in_height():
    values = np.linspace(0, 1, 120)[:, None]
    rows = unit_rows(unit_map("", [0], values))
    assert len(rows) == 480
    lightness = rows[2::4] @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) >= 0).all()
    assert tuple(rows[1]) == DARKEST
    assert tuple(rows[-2]) == BRIGHTEST


def test_a_row_of_many_units_is_their_mean():
    values = np.zeros((512, 1))
    values[3:6] = [[0.0], [1.0], [0.5]]
    values[6:9] = [[np.nan], [1.0], [1.0]]
    values[9:12] = np.nan
    rows = unit_rows(unit_map("", [0], values, low=0.0, high=1.0))
    assert len(rows) == 2 * 171
    expected = [DARKEST, (33, 144, 141), BRIGHTEST, GREY, DARKEST]
    assert [tuple(row) for row in rows[1:10:2]] == expected


def test_unit_numbers_never_overlap():
    for units in (1, 2, 13, 16, 100, 512, 1000, 4096):
        pixels = unit_map("", [0], np.zeros((units, 1)))
        # "unit" stands above them, "epoch" below.
        labels = ink(pixels[78:, :70]).any(axis=1)
        y = np.flatnonzero(labels)
        breaks = np.flatnonzero(np.diff(y) > 3)
        heights = np.diff([0, *(breaks + 1), len(y)])
        assert heights.max() <= 24, units
        assert 2 <= len(heights) <= 20, units


@pytest.mark.parametrize("shape", [(0, 2), (3, 1), (2,), (1, 2, 1)])
def test_units_of_another_shape_are_refused(shape):
    message = (
        "Invalid value received for argument `values`. Expected an array of "
        "shape (units, columns), at least one of each, here (units, 2). "
        f"Received: an array of shape {shape}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        unit_map("title", [0, 1], np.zeros(shape))
