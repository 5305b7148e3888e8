"""The scatter of a flagged filter's clusters, beside its outlier images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from shown import N_SAMPLES, report, shown_tiles, thumbnails

from filterwatch.detection import AnomalyCriteria, AnomalyReport
from filterwatch.visuals.drawing import COLORS, render
from filterwatch.visuals.filter_figures import (
    filter_figure,
    isolated_samples_figure,
    most_anomalous,
    nearest_filter_figure,
)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def scatters(figure: Figure) -> list[PathCollection]:
    found = [item for item in figure.axes[0].collections if isinstance(item, PathCollection)]
    return [item for item in found if item.get_label() != "outliers"]


def numbered(figure: Figure) -> list[Annotation]:
    return [item for item in figure.axes[0].texts if isinstance(item, Annotation)]


def rings(figure: Figure) -> PathCollection:
    found = [item for item in figure.axes[0].collections if item.get_label() == "outliers"]
    assert len(found) == 1
    assert isinstance(found[0], PathCollection)
    return found[0]


def test_every_outlier_is_ringed_and_nothing_else() -> None:
    shown = report()
    for anomaly in shown.anomalies:
        ringed = rings(filter_figure(shown, anomaly, thumbnails()))
        points = shown.layers[anomaly.layer].points
        assert points is not None
        expected = points[anomaly.channel][anomaly.outliers].numpy()
        assert np.array_equal(np.asarray(ringed.get_offsets()), expected)
        assert len(ringed.get_facecolors()) == 0  # hollow: the cluster's colour shows


def test_every_sample_is_drawn_in_its_clusters_colour() -> None:
    shown = report()
    layer = shown.layers["features.conv"]
    assert layer.points is not None
    assert layer.labels is not None
    figure = filter_figure(shown, shown.anomalies[0], thumbnails())
    drawn = {
        tuple(point): to_hex(color)
        for scatter in scatters(figure)
        for point, color in zip(
            np.asarray(scatter.get_offsets()).tolist(), scatter.get_facecolors(), strict=True
        )
    }
    assert len(drawn) == N_SAMPLES
    for point, label in zip(layer.points[0].tolist(), layer.labels[0].tolist(), strict=True):
        assert drawn[tuple(point)] == COLORS[label].lower()


def test_clusters_beyond_the_colours_have_another_marker() -> None:
    shown = report(n_filters=1)
    layer = shown.layers["features.conv"]
    labels = (torch.arange(N_SAMPLES) % 20).unsqueeze(0)
    many = replace(shown, layers={"features.conv": replace(layer, labels=labels)})
    drawn = scatters(filter_figure(many, shown.anomalies[0], thumbnails()))
    assert [len(scatter.get_offsets()) for scatter in drawn] == [18, 18, 18, 6]
    outlines = {scatter.get_paths()[0].vertices.tobytes() for scatter in drawn}
    assert len(outlines) == 4
    looks = {
        (number, to_hex(color))
        for number, scatter in enumerate(drawn)
        for color in scatter.get_facecolors()
    }
    assert len(looks) == 20


def test_the_title_has_the_numbers_and_the_criteria() -> None:
    shown = report()
    title = texts(filter_figure(shown, shown.anomalies[0], thumbnails()))
    assert "features.conv, channel 0" in title
    assert "K = 5, CH = 10; cluster sizes 30 27 1 1 1" in title
    assert "3 of 5 clusters have at most 1 samples (0.6 > 0.2)" in title
    assert "CH index / layer's mean: 1.11 (> 1)" in title
    assert "activation / layer's mean: 1 (≥ 0.2)" in title
    assert "filter 0 of" not in title  # it would repeat the layer and the channel


def test_the_title_names_the_filter_behind_a_map() -> None:
    shown = report()
    behind = replace(shown.anomalies[0], source_layer="stem", source_channel=7)
    assert "channel 0  (filter 7 of stem)" in texts(filter_figure(shown, behind, thumbnails()))


def test_a_criterion_that_is_off_says_so() -> None:
    shown = report(criteria=AnomalyCriteria.paper(2), small_cluster_limit=5)
    assert texts(filter_figure(shown, shown.anomalies[0], thumbnails())).count("no limit") == 3


def test_outlier_images_stand_beside_farthest_first() -> None:
    shown, samples = report(), thumbnails(class_names=["cat", "dog"], indices=range(100, 160))
    samples.predictions = torch.zeros(N_SAMPLES, dtype=torch.long)
    figure = filter_figure(shown, shown.anomalies[0], samples)
    tiles = shown_tiles(figure)
    assert tiles.captions == ["1  #117\ndog → cat", "2  #104\ncat ✓", "3  #103\ndog → cat"]
    levels = [int(image.max()) for image in tiles.images]
    assert levels == [round(255 * sample / N_SAMPLES) for sample in (17, 4, 3)]
    assert "outliers, farthest first; label → prediction or ✓" in texts(figure)
    numbers = numbered(figure)
    assert [number.get_text() for number in numbers] == ["1", "2", "3"]
    assert [list(number.xy) for number in numbers] == [[60.0, 0.0], [50.0, 0.0], [40.0, 0.0]]
    # Beside their points, on the side that is away from the others.
    assert [round(number.xyann[0]) for number in numbers] == [9, 9, 9]


def test_of_many_outliers_some_are_shown() -> None:
    shown = report(n_filters=1)
    crowded = replace(shown.anomalies[0], outliers=list(range(20)))
    figure = filter_figure(shown, crowded, thumbnails())
    assert len(rings(figure).get_offsets()) == 20
    assert len(shown_tiles(figure).images) == 12
    assert "12 of 20 outliers, farthest first; label" in texts(figure)


def test_a_report_without_points_says_what_to_do() -> None:
    read = AnomalyReport.from_dict(report().to_dict())
    with pytest.raises(ValueError, match=r"no points to draw.*include_samples=True"):
        filter_figure(read, read.anomalies[0], thumbnails())


def test_most_anomalous_stands_out_most_from_its_layer() -> None:
    low, high = report("low"), report("high")
    scaled = high.layers["high"]
    # Ten times the index of the other layer throughout: no more anomalous for that.
    scaled = replace(scaled, ch_index=10 * scaled.ch_index)
    scaled.ch_index[2] = 1.0
    anomalies = [replace(item, ch_index=10 * item.ch_index) for item in high.anomalies[:2]]
    both = replace(
        low, anomalies=[*low.anomalies, *anomalies], layers={**low.layers, "high": scaled}
    )
    order = [(anomaly.layer, anomaly.channel) for anomaly in most_anomalous(both, 4)]
    assert order == [("high", 0), ("high", 1), ("low", 0), ("low", 1)]


def test_a_filter_that_is_flagged_twice_makes_room_for_others() -> None:
    shown = report()
    repeated = replace(shown.anomalies[1], source_channel=0)
    unknown = replace(shown.anomalies[2], source_layer=None, source_channel=None)
    anomalies = [shown.anomalies[0], repeated, unknown, unknown]
    crowded = replace(shown, anomalies=anomalies)
    order = [anomaly.channel for anomaly in most_anomalous(crowded, 4)]
    assert order == [0, 2, 2, 1]
    assert len(most_anomalous(crowded, 2)) == 2
    assert most_anomalous(crowded, 0) == []


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


def test_where_nothing_is_flagged_the_pictures_say_so() -> None:
    some = report()
    [(name, layer)] = some.layers.items()
    silent = replace(layer, is_anomaly=torch.zeros(3, dtype=torch.bool))
    criteria = AnomalyCriteria(1, 0.2, 2.0, 0.2)
    none = replace(some, anomalies=[], layers={name: silent}, criteria=criteria)
    assert "isolate: none" in texts(isolated_samples_figure(none, thumbnails()))
    figure = nearest_filter_figure(none, thumbnails())
    words = " ".join(texts(figure).split())
    assert "Nothing flagged. Nearest: features.conv, channel 0" in words
    assert "its CH index is 1.1 times its layer's mean, not more than 2" in words
    assert len(shown_tiles(figure).images) == 3
    render(figure)
    # And where the nearest has no small cluster.
    none = replace(none, small_cluster_limit=0, criteria=AnomalyCriteria(1, 0.9, None, None))
    sizes = torch.tensor([[30, 30, 0, 0, 0, 0]] * 3)
    layers = {name: replace(silent, cluster_sizes=sizes, n_clusters=(sizes > 0).sum(1))}
    figure = nearest_filter_figure(replace(none, layers=layers), thumbnails())
    assert "no outliers" in texts(figure)
    render(figure)


def test_nearly_dead_filters_are_drawn_last() -> None:
    some = report()
    [(name, layer)] = some.layers.items()
    ch_index = torch.tensor([3e14, 9.0, 8.0], dtype=torch.float64)
    anomalies = [
        replace(anomaly, ch_index=float(value))
        for anomaly, value in zip(some.anomalies, ch_index, strict=True)
    ]
    layers = {name: replace(layer, ch_index=ch_index)}
    shown = most_anomalous(replace(some, anomalies=anomalies, layers=layers), 3)
    assert [anomaly.channel for anomaly in shown] == [1, 2, 0]


def test_where_nearly_all_are_isolated_the_picture_says_why() -> None:
    some = report(small_cluster_limit=10)
    everybody = replace(some.anomalies[0], outliers=list(range(N_SAMPLES)))
    figure = isolated_samples_figure(replace(some, anomalies=[everybody]), thumbnails())
    assert "lambda is too large for K = 5" in texts(figure)
