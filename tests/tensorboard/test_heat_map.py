import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_actpen.tensorboard import heat_map, image_text
from keras_actpen.tensorboard.color_scale import ColorScale, LogColorScale
from keras_actpen.tensorboard.heat_map import layer_map, unit_map, unit_rows

pytestmark = pytest.mark.one_backend

GRAY = (208, 208, 208)
WHITE = (255, 255, 255)
DARKEST = (68, 1, 84)
BRIGHTEST = (253, 231, 37)


def plot_box(rows, columns):
    """Slices of the part that the cells fill: a map of nothing is gray."""
    nothing = np.full((len(rows), len(columns)), np.nan)
    gray = (layer_map("", rows, columns, nothing) == GRAY).all(axis=-1)
    # The edges of letters are gray too, but never for long.
    y = np.flatnonzero(gray.sum(axis=1) > 200)
    x = np.flatnonzero(gray[y[0] : y[-1] + 1].sum(axis=0) > 20)
    return slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1)


def cell_colors(rows, columns, values, scale=None):
    """One pixel of each cell, a quarter into it: no text is there."""
    pixels = layer_map("title", rows, columns, values, scale)
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
    pixels = layer_map("penalty", names, range(columns), values)
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
    frame = ink(layer_map("title" * 50, [row], range(columns), values))
    frame[5:-5, 5:-5] = False
    assert not frame.any()


def test_first_and_last_cell_are_the_ends_of_the_scale():
    rows, columns = [f"dense_{row}" for row in range(60)], range(200)
    values = np.linspace(-3, 5, 60 * 200).reshape(60, 200)
    plot = layer_map("", rows, columns, values)[plot_box(rows, columns)]
    assert tuple(plot[2, 0]) == DARKEST
    assert tuple(plot[-2, -1]) == BRIGHTEST


def test_rows_and_columns_are_where_the_labels_say():
    values = np.zeros((3, 4))
    values[2, 1] = 1
    colors = cell_colors(["a", "b", "c"], range(4), values)
    bright = (colors == BRIGHTEST).all(axis=-1)
    assert np.argwhere(bright).tolist() == [[2, 1]]
    assert (colors[~bright] == DARKEST).all()


def test_nan_is_gray_and_infinities_are_the_ends():
    values = np.array([[0.0, np.nan, 1.0], [np.inf, 0.5, -np.inf]])
    colors = cell_colors(["a", "b"], range(3), values).tolist()
    assert colors == [
        [list(DARKEST), list(GRAY), list(BRIGHTEST)],
        [list(BRIGHTEST), [33, 144, 141], list(DARKEST)],
    ]


def test_nan_hides_no_other_value():
    values = np.array([[0.0, 0.3, 1.0]])
    holed = np.array([[0.0, np.nan, 1.0]])
    full = cell_colors(["a"], range(3), values)
    assert (cell_colors(["a"], range(3), holed) == full)[0, [0, 2]].all()


@pytest.mark.parametrize("values", [[-1e-30, 1e-30], [0, 1], [-2e38, 1e38]])
def test_colors_get_lighter_with_the_value(values):
    values = np.linspace(*values, 40)[None]
    colors = cell_colors(["a"], range(40), values)[0]
    lightness = colors @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 1).all()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e30])
def test_a_constant_has_the_middle_color(value):
    colors = cell_colors(["a", "b"], range(3), np.full((2, 3), value))
    assert np.unique(colors.reshape(-1, 3), axis=0).tolist() == [[33, 144, 141]]


def test_limits_fix_the_scale():
    values = np.array([[-1.0, 0.0, 0.5, 1.0, 9.0]])
    columns = range(5)
    scale = ColorScale(values, low=0, high=1)
    colors = cell_colors(["a"], columns, values, scale)[0]
    assert (colors[:2] == DARKEST).all()
    assert (colors[3:] == BRIGHTEST).all()
    # One limit, beyond all values.
    scale = ColorScale(values, low=10)
    above = cell_colors(["a"], columns, values, scale)[0]
    assert np.unique(above, axis=0).tolist() == [[33, 144, 141]]


def test_equal_ratios_are_equal_steps_of_a_log_scale():
    values = np.array([[1e-4, 1e-2, 1.0], [0.0, -1.0, np.nan]])
    scale = LogColorScale(values)
    assert (scale.low, scale.high) == (1e-4, 1.0)
    colors = cell_colors(["a", "b"], range(3), values, scale).tolist()
    assert colors == [
        [list(DARKEST), [33, 144, 141], list(BRIGHTEST)],
        [list(DARKEST), list(DARKEST), list(GRAY)],
    ]


@pytest.mark.parametrize("values", [[[0.9, 1.0]], [[1.0, 1.0]], [[0.0, 1.0]]])
def test_a_log_scale_spans_a_power_of_ten(values):
    scale = LogColorScale(np.array(values))
    assert (scale.low, scale.high) == (0.1, 1.0)


@pytest.mark.parametrize("values", [[[0.0, 0.0]], [[-2.0, -1.0]]])
def test_a_log_scale_of_nothing_above_zero_is_linear(values):
    values = np.array(values)
    np.testing.assert_array_equal(
        LogColorScale(values).colors(values), ColorScale(values).colors(values)
    )


def test_values_are_printed_where_all_fit():
    def has_text(count, value):
        columns = range(count)
        values = np.full((1, count), value)
        scale = ColorScale(values, low=0, high=1)
        pixels = layer_map("", ["a"], columns, values, scale)
        plot = pixels[plot_box(["a"], columns)]
        # The row's color, gaps and nothing else.
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
    pixels = layer_map("", ["a"], columns, np.full((1, count), np.nan))
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
    centers = (np.arange(len(columns)) + 0.5) * 600 / len(columns)
    chosen = image_text.ticks(columns, centers, 100)
    assert sorted(columns[index] for index in chosen) == numbered


def test_long_texts_are_shortened_in_the_middle():
    text = "encoder/layer_11/feed_forward/intermediate_dense"
    shown = image_text.shorten(text, 250)
    head, tail = shown.split("…")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert tail == "mediate_dense"
    assert 220 < image_text.text_width(shown) <= 250
    assert image_text.shorten("dense", 250) == "dense"
    assert image_text.shorten("two\nlines", 250) == "two lines"


def test_a_long_title_or_path_moves_nothing():
    columns = range(3)
    values = np.ones((1, 3))
    path = "very_long_name/" * 20
    pixels = layer_map(path * 5, [path], columns, values)
    assert pixels.shape == layer_map("", ["a"], columns, values).shape
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
    assert image_text.number(value) == text


def test_the_color_bar_spans_the_scale():
    rows, columns = ["a"], range(300)
    values = np.linspace(0, 1, 300)[None]
    pixels = layer_map("title", rows, columns, values)
    above = pixels[: plot_box(rows, columns)[0].start]
    for end in (DARKEST, BRIGHTEST):
        assert (above == end).all(axis=-1).any()
    # Nothing but nan has no scale.
    nothing = layer_map("", rows, columns, values * np.nan)
    assert not ink(nothing[: plot_box(rows, columns)[0].start]).any()


def test_inputs_stay_as_they_are():
    values = np.array([[0, np.nan, np.inf]], dtype=np.float32)
    before = values.copy()
    first = layer_map("title", ["a"], range(3), values)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(
        layer_map("title", ["a"], range(3), values), first
    )


def test_neither_keras_nor_tensorboard_is_imported():
    # A package of that name without its own imports.
    code = (
        "import sys, types\n"
        "package = types.ModuleType('keras_actpen')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "sys.modules['keras_actpen'] = package\n"
        "import keras_actpen.tensorboard.heat_map\n"
        "print({'keras', 'tensorflow', 'tensorboard'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code, Path(heat_map.__file__).parents[1]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "set()"


def test_examples():
    assert doctest.testmod(heat_map) == (0, 2)


# Units by epochs


def drawn_units(title, epochs, values, scale=None):
    """A map of values of shape `(units, epochs)`."""
    rows = np.stack([unit_rows(column) for column in values.T], axis=1)
    return unit_map(title, len(values), epochs, rows, scale)


def colors_of_rows(pixels):
    """Colors of the rows of a map of one epoch, from top to bottom."""
    column = pixels[:, 600]
    inside = column[:, :] != WHITE
    rows = np.flatnonzero(inside.any(axis=-1))
    # Above them is the color bar, below them maybe a digit.
    parts = np.split(rows, np.flatnonzero(np.diff(rows) > 8) + 1)
    part = max(parts, key=len)
    return column[part[0] : part[-1] + 1]


@pytest.mark.parametrize("units", [1, 3, 60, 240, 241, 512, 5000])
@pytest.mark.parametrize("columns", [1, 40, 500])
def test_units_fit_whatever_their_number(units, columns):
    values = np.linspace(0, 1, units * columns).reshape(units, columns)
    pixels = drawn_units("firing rate: dense", range(columns), values)
    assert pixels.dtype == np.uint8
    assert pixels.shape[1:] == (700, 3)
    assert pixels.shape[0] <= 480 + 4 * 34 + 20
    frame = ink(pixels)
    frame[3:-3, 3:-3] = False
    assert not frame.any()


def test_units_are_in_order_and_alike_in_height():
    values = np.linspace(0, 1, 120)[:, None]
    rows = colors_of_rows(drawn_units("", [0], values))
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
    scale = ColorScale(values, 0.0, 1.0)
    rows = colors_of_rows(drawn_units("", [0], values, scale))
    assert len(rows) == 2 * 171
    expected = [DARKEST, (33, 144, 141), BRIGHTEST, GRAY, DARKEST]
    assert [tuple(row) for row in rows[1:10:2]] == expected


def test_unit_numbers_never_overlap():
    for units in (1, 2, 13, 16, 100, 512, 1000, 4096):
        pixels = drawn_units("", [0], np.zeros((units, 1)))
        # "unit" stands above them, "epoch" below.
        labels = ink(pixels[78:, :70]).any(axis=1)
        y = np.flatnonzero(labels)
        breaks = np.flatnonzero(np.diff(y) > 3)
        heights = np.diff([0, *(breaks + 1), len(y)])
        assert heights.max() <= 24, units
        assert 2 <= len(heights) <= 20, units
