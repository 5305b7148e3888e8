"""Rows of images with captions."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from filterwatch.visuals.drawing import Grid, Tiles, drawing, new_figure, render


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
