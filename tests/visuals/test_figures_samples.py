"""The grid of the samples that flagged filters isolate most often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shown import N_SAMPLES, report, shown_tiles, thumbnails

from filterwatch.visuals.drawing import render
from filterwatch.visuals.filter_figures import isolated_samples_figure


def test_most_isolated_first_with_the_number_of_filters() -> None:
    figure = isolated_samples_figure(report(), thumbnails())
    tiles = shown_tiles(figure)
    assert tiles.captions == ["#3  ×3\n1", "#4  ×1\n0", "#5  ×1\n1", "#17  ×1\n1"]
    levels = [int(image.max()) for image in tiles.images]
    assert levels == [round(255 * sample / N_SAMPLES) for sample in (3, 4, 5, 17)]
    heading = "\n".join(text.get_text() for text in figure.texts)
    assert "4 of 4 outlier samples of 3 anomaly filters" in heading


def test_as_many_as_asked_for() -> None:
    figure = isolated_samples_figure(report(), thumbnails(), n_samples=2)
    assert len(shown_tiles(figure).images) == 2
    assert "2 of 4 outlier samples" in "\n".join(text.get_text() for text in figure.texts)


def test_rows_make_room_for_themselves() -> None:
    anomaly = replace(report().anomalies[0], outliers=list(range(20)))
    many = isolated_samples_figure(report(anomalies=[anomaly]), thumbnails())
    few = isolated_samples_figure(report(), thumbnails())
    assert many.get_size_inches()[1] - few.get_size_inches()[1] == pytest.approx(2 * 1.3)
    for figure in (many, few):
        pixels = render(figure)
        lowest = np.flatnonzero((pixels < 128).any((1, 2)))[-1]
        assert 0 < len(pixels) - lowest < 60


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="no flagged filter isolates a sample"):
        isolated_samples_figure(report(anomalies=[]), thumbnails())
