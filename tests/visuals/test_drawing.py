"""Colours, rendering, and rows of images with captions."""

from __future__ import annotations

import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from filterwatch.visuals.drawing import (
    COLORS,
    DPI,
    FAINT,
    INK,
    PAPER,
    Grid,
    Tiles,
    draw_heading,
    drawing,
    new_figure,
    render,
    shortened,
)

# G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, A physiologically-based model for simulation of
# color vision deficiency, 2009: complete absence of one kind of cone, on linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(color: str) -> np.ndarray:
    values = np.array(to_rgb(color))
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* of linear RGB under D65."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = to_xyz @ rgb.clip(0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", [*BLINDNESS, "none"])
def test_colours_stay_apart_for_colour_blind_eyes(kind: str) -> None:
    seen = [lab(np.array(BLINDNESS.get(kind, np.eye(3))) @ linear(color)) for color in COLORS]
    # About 2 is what an eye just tells apart, side by side.
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 10


def test_red_and_green_would_not_have_stayed_apart() -> None:
    matrix = np.array(BLINDNESS["deuteranopia"])
    seen = [lab(matrix @ linear(color)) for color in ("#a05a00", "#5a8a00")]
    assert np.linalg.norm(seen[0] - seen[1]) < 20
    plain = [lab(linear(color)) for color in ("#a05a00", "#5a8a00")]
    assert np.linalg.norm(plain[0] - plain[1]) > 40


@pytest.mark.parametrize("color", [INK, FAINT])
def test_type_is_readable_on_the_figures_own_paper(color: str) -> None:
    luminance = [float(np.array([0.2126, 0.7152, 0.0722]) @ linear(c)) for c in (PAPER, color)]
    assert (luminance[0] + 0.05) / (luminance[1] + 0.05) >= 4.5  # WCAG 2, level AA


def drawn() -> np.ndarray:
    with drawing():
        figure = new_figure(3, 2)
        draw_heading(figure, "a class called $5 or $6", "below")
        axes = figure.add_axes((0.2, 0.2, 0.7, 0.5))
        axes.plot([0, 1], [0, 1])
        axes.set_ylabel("$x")
    return render(figure)


def test_paper_covers_the_page_whatever_its_colour() -> None:
    pixels = drawn()
    assert pixels.shape == (2 * DPI, 3 * DPI, 3)
    assert pixels.dtype == np.uint8
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (border == np.array([255, 255, 255])).all()
    assert (pixels < 128).any()


def test_the_users_settings_neither_show_nor_change() -> None:
    expected = drawn()
    own = {"figure.facecolor": "black", "text.usetex": True, "lines.linewidth": 9, "font.size": 30}
    with matplotlib.rc_context(own):
        before = dict(matplotlib.rcParams)
        assert np.array_equal(drawn(), expected)
        assert dict(matplotlib.rcParams) == before


def test_pyplot_never_hears_of_a_figure() -> None:
    drawn()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_unknown_scripts_do_not_warn() -> None:
    with drawing():
        figure = new_figure(2, 1)
        draw_heading(figure, "猫", "")
    render(figure)  # warnings are errors here


def test_long_names_are_cut() -> None:
    assert shortened("conv", 4) == "conv"
    assert shortened("convolution", 5) == "conv…"


def tiles(image: np.ndarray, n_images: int = 3, caption: str = "") -> Figure:
    with drawing():
        figure = new_figure(4, 4)
        figure.add_artist(
            Tiles(
                [image] * n_images,
                [caption] * n_images,
                Grid(left=0.5, top=0.5, columns=2, side=1.0, pitch=(1.5, 1.5)),
            )
        )
    return figure


def ink(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns that have anything on them."""
    dark = (pixels < 200).any(2)
    return np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))


def test_tiles_stand_where_they_belong() -> None:
    pixels = render(tiles(np.full((10, 10, 3), 200, np.uint8)))
    grey = (pixels == 200).all(2)
    for top, left in ((50, 50), (50, 200), (200, 50)):
        assert grey[top : top + 100, left : left + 100].all()
    assert grey.sum() == 3 * 100 * 100


def test_a_tile_keeps_its_shape_and_its_orientation() -> None:
    image = np.zeros((40, 20, 3), np.uint8)
    image[:20] = 200  # the upper half is bright
    pixels = render(tiles(image, 1))
    assert (pixels[52:98, 77:123] == 200).all()
    assert (pixels[102:148, 77:123] == 0).all()
    assert (pixels[50:150, 50:74] == 255).all()


def test_captions_stand_below_the_middle() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    rows, columns = ink(render(tiles(white, 1, "MMM\nM")))
    assert 154 <= rows[0] <= 160
    assert rows[-1] <= 180
    assert abs(columns[0] + columns[-1] - 200) <= 2
    single, _ = ink(render(tiles(white, 1, "MMM")))
    assert single[0] == rows[0]
    assert single[-1] < rows[-1]
    assert len(ink(render(tiles(white, 1)))[0]) == 0


def test_captions_are_as_wide_as_matplotlib_would_write_them() -> None:
    text = "dog → automobile ✓"
    _, columns = ink(render(tiles(np.full((10, 10, 3), 255, np.uint8), 1, text)))
    with drawing():
        figure = new_figure(4, 4)
        figure.text(0.5, 0.5, text, fontsize=7.5)
    _, expected = ink(render(figure))
    assert np.ptp(columns) == pytest.approx(np.ptp(expected), rel=0.1)


def test_captions_in_unknown_scripts_are_no_reason_to_fail() -> None:
    white = np.full((10, 10, 3), 255, np.uint8)
    assert len(ink(render(tiles(white, 1, "猫 $5")))[0]) > 0
