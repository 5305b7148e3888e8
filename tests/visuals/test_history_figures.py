"""Counts of layers over epochs, and the curves of a whole fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from filterwatch.visuals.drawing import render
from filterwatch.visuals.history_figures import layers_figure, training_figure

HISTORY: list[dict[str, Any]] = [
    {"epoch": epoch, "count": sum(counts), "by_layer": dict(zip(["a", "b"], counts, strict=True))}
    for epoch, counts in ((0, (1, 2)), (3, (0, 5)), (6, (4, 0)))
]
ACCURACY = {"val_accuracy": [(0, 0.5), (3, 0.8), (6, 0.7)]}
LOSS = {
    "train_loss": [(0, 2.0), (3, 1.0), (6, 0.5)],
    "val_loss": [(0, float("nan")), (3, 1.5), (6, 1.9)],
}


def curves(figure: Figure) -> dict[str, Line2D]:
    lines = [line for axes in figure.axes for line in axes.lines]
    return {str(line.get_label()): line for line in lines if "_" in str(line.get_label())[1:]}


def test_layers_down_and_epochs_across() -> None:
    axes = layers_figure(HISTORY).axes[0]
    assert np.array_equal(axes.images[0].get_array(), [[1, 0, 4], [2, 5, 0]])  # type: ignore[arg-type]
    assert [(text.get_text(), text.get_position()[1]) for text in axes.texts] == [
        ("a", 0),
        ("b", 1),
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "3", "6"]
    assert axes.images[0].get_clim() == (0, 5)


def test_a_layer_that_is_missing_in_an_epoch_stays_blank() -> None:
    history = [*HISTORY, {"epoch": 7, "count": 0, "by_layer": {"a": 0, "c": 1}}]
    counts = np.asarray(layers_figure(history).axes[0].images[0].get_array())
    assert np.isnan(counts).tolist() == [[False] * 4, [False] * 3 + [True], [True] * 3 + [False]]


def test_nothing_flagged_is_the_dark_end_of_the_scale() -> None:
    calm = [{"epoch": 0, "count": 0, "by_layer": {"a": 0}}]
    assert layers_figure(calm).axes[0].images[0].get_clim() == (0, 1)


def test_many_layers_and_epochs_still_fit() -> None:
    names = [f"encoder.block{number}.convolution.with.a.long.name" for number in range(130)]
    history = [
        {"epoch": epoch, "count": 0, "by_layer": dict.fromkeys(names, 1)} for epoch in range(100)
    ]
    figure = layers_figure(history)
    axes = figure.axes[0]
    assert 40 <= len(axes.texts) <= 48
    assert len(axes.get_xticks()) <= 16
    pixels = render(figure)
    assert pixels.shape[0] < 1200
    assert (pixels[:, :5] == 255).all()  # names are cut before the edge


def test_the_pair_of_the_papers_figure_4() -> None:
    figure = training_figure(HISTORY, ACCURACY, LOSS)
    above, below, loss_axis = figure.axes
    assert [above.get_ylabel(), loss_axis.get_ylabel()] == ["accuracy", "loss"]
    assert below.get_ylabel() == "anomaly filters"
    counts = below.lines[0]
    assert list(counts.get_xdata()) == [0, 3, 6]
    assert list(counts.get_ydata()) == [3, 5, 4]
    drawn = curves(figure)
    assert set(drawn) == {"val_accuracy", "train_loss", "val_loss"}
    for name, curve in {**ACCURACY, **LOSS}.items():
        pairs = zip(drawn[name].get_xdata(), drawn[name].get_ydata(), strict=True)
        assert np.array_equal(list(pairs), curve, equal_nan=True)
    assert drawn["val_loss"] in loss_axis.lines
    styles = [drawn[name].get_linestyle() for name in ("val_loss", "train_loss")]
    assert styles == ["-", "--"]  # not by colour alone
    legend = above.get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == set(drawn)


def test_a_line_marks_the_lowest_validation_loss() -> None:
    figure = training_figure(HISTORY, ACCURACY, LOSS)
    note = [text.get_text().strip() for text in figure.axes[1].texts]
    assert note == ["lowest validation loss: epoch 3"]
    upright = [
        line for axes in figure.axes for line in axes.lines if list(line.get_xdata()) == [3, 3]
    ]
    assert len(upright) == 3
    unknown = training_figure(HISTORY, {}, {"train_loss": LOSS["train_loss"]})
    assert len(unknown.axes[1].texts) == 0


@pytest.mark.parametrize(
    ("accuracy", "loss", "labels"),
    [({}, LOSS, ["loss"]), (ACCURACY, {}, ["accuracy"]), ({}, {}, [])],
)
def test_curves_that_there_are_not_leave_no_gap(accuracy: Any, loss: Any, labels: Any) -> None:
    figure = training_figure(HISTORY, accuracy, loss)
    shown = [axes.get_ylabel() for axes in figure.axes]
    assert shown == [*labels, "anomaly filters"]
