"""TensorBoard's dashboard of chosen curves."""

from __future__ import annotations

import re
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util
from test_gallery import Accurate
from watched import LAYERS, fit, watch

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
    """Return the layout in a log directory: dashboard to chart to regular expressions."""
    written = next(directory.rglob("events*")).parent
    events = EventAccumulator(str(written)).Reload()
    found = events.Tensors("custom_scalars__config__")
    assert len(found) == 1
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(found[0].tensor_proto).item())
    return {
        category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
        for category in layout.category
    }


def shown(patterns: list[str]) -> list[str]:
    """Return the tags that a chart shows; TensorBoard matches from the beginning."""
    return [tag for tag in TAGS if any(re.match(pattern, tag) for pattern in patterns)]


def test_charts_show_what_their_titles_say() -> None:
    layers = ["network.0", "loss.accumulator"]
    memorization = {"memorization": layers, "own_loss_memorization": ["accumulator.loss"]}
    layout = scalar_layout(True, True, {"anomaly_filters": layers}, memorization)
    found = {
        dashboard: {title: shown(tags) for title, (_, tags) in charts.items()}
        for dashboard, charts in layout.items()
    }
    assert found == {
        "Overfitting": {
            "loss": ["train_loss_epoch", "val_loss"],
            "accuracy": ["val_acc"],
            "memorization": ["memorization", "generalization_gap"],
            "own_loss_memorization": ["own_loss_memorization", "own_loss_generalization_gap"],
            "anomaly_filters": ["anomaly_filters", "anomaly_filters_distinct"],
        },
        "Memorization by layer": {
            "memorization: network.0 … loss.accumulator": [
                "memorization/loss.accumulator",
                "memorization/network.0",
            ],
            "own_loss_memorization: accumulator.loss": ["own_loss_memorization/accumulator.loss"],
        },
        "Anomaly filters by layer": {
            "network.0 … loss.accumulator": [
                "anomaly_filters_by_layer/network.0",
                "anomaly_filters_by_layer/loss.accumulator",
            ]
        },
    }


def test_a_metric_that_there_is_not_has_no_chart() -> None:
    layout = scalar_layout(False, False, {"n": ["a"]}, {})
    assert list(layout) == ["Overfitting", "Anomaly filters by layer"]
    assert list(layout["Overfitting"]) == ["n"]


def test_many_layers_are_spread_over_charts() -> None:
    names = [f"layer{number}" for number in range(16)]
    by_layer = scalar_layout(True, True, {"n": names}, {})["Anomaly filters by layer"]
    assert [len(tags) for _, tags in by_layer.values()] == [5, 5, 6]
    assert list(by_layer) == ["layer0 … layer4", "layer5 … layer9", "layer10 … layer15"]


def test_one_layout_for_a_run_with_two_callbacks(tmp_path: Path) -> None:
    pictures = Pictures(n_filters=0, n_samples=0)
    first = watch(prefix="first_", layers=["network.[0-2]"], pictures=pictures)
    second = watch(prefix="second_", layers=["network.[34]"], pictures=pictures)
    callbacks = [watch(pictures=False), first, second]
    fit(*callbacks, module=Accurate(), logger=TensorBoardLogger(tmp_path), log_every_n_steps=1)
    found = charts(tmp_path)
    counts = ["first_anomaly_filters", "second_anomaly_filters"]
    shared = ["first_memorization", "second_memorization"]
    assert set(found["Overfitting"]) == {"loss", "accuracy", *counts, *shared}
    assert list(found["Anomaly filters by layer"]) == [
        "first_anomaly_filters: network.0 … network.2",
        "second_anomaly_filters: network.3 … network.4",
    ]


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
    assert {title: set(names) for title, names in found.items()} == {
        "loss": {"val_loss", "train_loss_epoch"},
        "accuracy": {"val_accuracy"},
        "anomaly_filters": {"anomaly_filters", "anomaly_filters_distinct"},
        "network.0 … network.4": {f"anomaly_filters_by_layer/{name}" for name in LAYERS},
        "memorization": {"memorization", "generalization_gap"},
        "network.1 … network.4": {"memorization/network.1", "memorization/network.4"},
    }
