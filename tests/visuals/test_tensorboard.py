"""TensorBoard's dashboard of chosen curves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util
from test_gallery import Accurate
from watched import fit, watch

from filterwatch.visuals import Pictures
from filterwatch.visuals.loggers import scalar_layout

TAGS = [
    "own_loss_memorization",
    "own_loss_memorization/accumulator.loss",
    "own_loss_generalization_gap",
    "own_loss_memorized_samples",
    "memorization",
    "memorization/loss.accumulator",
    "memorization/network.0",
    "memorization/network.01",
    "generalization_gap",
    "memorized_samples",
    "train_loss_step",
    "train_loss_epoch",
    "val_loss",
    "val_acc",
    "anomaly_filters",
    "anomaly_filters_distinct",
    "anomaly_filters_seconds",
    "anomaly_filters_by_layer/network.0",
    "anomaly_filters_by_layer/network.01",
    "anomaly_filters_by_layer/loss.accumulator",
]


def charts(directory: Path) -> dict[str, dict[str, list[str]]]:
    """Return the layout in a log directory: dashboard to chart to what its lines and bands are of.

    Lines are given as regular expressions.
    """
    written = next(directory.rglob("events*")).parent
    events = EventAccumulator(str(written)).Reload()
    found = events.Tensors("custom_scalars__config__")
    assert len(found) == 1
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(found[0].tensor_proto).item())

    def content(chart: Any) -> list[str]:
        if chart.HasField("multiline"):
            return list(chart.multiline.tag)
        [series] = chart.margin.series
        return [f"{re.escape(tag)}$" for tag in dict.fromkeys([series.value, series.lower])]

    return {
        category.title: {chart.title: content(chart) for chart in category.chart}
        for category in layout.category
    }


def shown(patterns: list[str]) -> list[str]:
    """Return the tags that a chart shows; TensorBoard matches from the beginning."""
    return [tag for tag in TAGS if any(re.match(pattern, tag) for pattern in patterns)]


def test_charts_show_what_their_titles_say() -> None:
    memorization = ["memorization", "own_loss_memorization"]
    layout = scalar_layout(
        ["train_loss_epoch", "val_loss", "aux_loss"], ["val_acc"], ["anomaly_filters"], memorization
    )
    assert list(layout) == ["Overfitting"]
    band = ["Margin", ["val_loss", "train_loss_epoch", "val_loss"]]
    assert layout["Overfitting"].pop("val_loss (line), train_loss_epoch (edge of the band)") == band
    found = {title: (kind, shown(tags)) for title, (kind, tags) in layout["Overfitting"].items()}
    assert list(found) == [
        "memorization",
        "generalization_gap",
        "memorized_samples",
        "own_loss_memorization",
        "own_loss_generalization_gap",
        "own_loss_memorized_samples",
        "val_acc",
        "anomaly_filters",
    ]
    assert found == {title: ("Multiline", [title]) for title in found}


def test_a_validation_loss_that_is_logged_later_on_has_a_chart() -> None:
    layout = scalar_layout(["train_loss_epoch"], [], ["anomaly_filters"], [])["Overfitting"]
    assert shown(layout["loss: validation"][1]) == ["val_loss"]
    assert shown(layout["train_loss_epoch"][1]) == ["train_loss_epoch"]


def test_a_metric_that_there_is_not_has_no_chart() -> None:
    assert list(scalar_layout([], [], ["n"], [])["Overfitting"]) == ["n"]


@pytest.mark.parametrize(
    "tags",
    [
        ("train_loss_epoch", "val_loss"),
        ("loss/train", "loss/validation"),
        ("Train/Acc", "Val/Acc"),
        ("training_accuracy", "valid_accuracy"),
    ],
)
def test_names_of_training_and_validation_are_told_apart(tags: tuple[str, str]) -> None:
    charts = scalar_layout(["other_loss", *tags], [], [], [])["Overfitting"]
    training, validation = tags
    assert [content for _, content in charts.values()] == [[validation, training, validation]]


def test_one_layout_for_a_run_with_two_callbacks(tmp_path: Path) -> None:
    pictures = Pictures(n_filters=0, n_samples=0)
    first = watch(prefix="first_", layers=["network.[0-2]"], pictures=pictures)
    second = watch(prefix="second_", layers=["network.[34]"], pictures=pictures)
    callbacks = [watch(pictures=False), first, second]
    fit(*callbacks, module=Accurate(), logger=TensorBoardLogger(tmp_path), log_every_n_steps=1)
    found = charts(tmp_path)
    counts = ["first_anomaly_filters", "second_anomaly_filters"]
    shared = ["first_memorization", "second_memorization"]
    assert list(found) == ["Overfitting"]
    assert {*counts, *shared} < set(found["Overfitting"])


def test_the_layout_matches_what_is_logged(tmp_path: Path) -> None:
    callback = watch(pictures=Pictures(n_filters=0, n_samples=0))
    logger = TensorBoardLogger(tmp_path)
    fit(callback, module=Accurate(), logger=logger, log_every_n_steps=1)
    written = next(tmp_path.rglob("events*")).parent
    tags = EventAccumulator(str(written)).Reload().Tags()["scalars"]
    found = {
        title: [tag for tag in tags if any(re.match(pattern, tag) for pattern in patterns)]
        for category in charts(tmp_path).values()
        for title, patterns in category.items()
    }
    assert found == {
        "memorization": ["memorization"],
        "generalization_gap": ["generalization_gap"],
        "memorized_samples": ["memorized_samples"],
        "val_loss (line), train_loss_epoch (edge of the band)": ["val_loss", "train_loss_epoch"],
        "val_accuracy": ["val_accuracy"],
        "anomaly_filters": ["anomaly_filters"],
    }
