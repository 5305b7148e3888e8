"""The results' figures, drawn into memory from the JSON files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.claims import Results, done

_COLOURS = {"overfit": "tab:red", "regularised": "tab:blue"}


def draw_figures(results: Results, folder: Path) -> dict[str, str]:
    """Write a figure for each result that has one.

    Args:
        results: Each experiment's result, by name.
        folder: Where to write; made where there is something to write.

    Returns:
        Figure name to its path from the folder's parent.
    """
    figures: dict[str, Figure] = {}
    if done(results.get("fig4")):
        figures["fig4"] = figure_4(results["fig4"])
    for model, found in results.get("evidence", {}).get("models", {}).items():
        if found.get("follow"):
            figures[f"signals_{model}"] = signal_figure(found["follow"])
    paths = {}
    for name, figure in figures.items():
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.svg"
        # The same results give the same bytes.
        with matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(path, metadata={"Date": None})
        paths[name] = f"{folder.name}/{path.name}"
    return paths


def figure_4(result: dict[str, Any]) -> Figure:
    """Draw losses, accuracies and counts over the epochs, a row a run."""
    rows = done(result)
    figure = Figure(figsize=(12, 2.6 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for row, axes in zip(rows, grid, strict=True):
        epochs = [entry["epoch"] for entry in row["curves"]]
        for axis, metric in zip(axes, ("loss", "accuracy"), strict=False):
            for part in ("train", "val"):
                values = [entry[f"{part}_{metric}"] for entry in row["curves"]]
                axis.plot(epochs, values, label=part)
            axis.set_ylabel(metric)
        for name, title in result["readings"].items():
            counted = [(entry["epoch"], entry["counts"][name]) for entry in row["counts"]]
            axes[2].plot(*zip(*counted, strict=True), label=title.partition(",")[0])
        axes[2].set_ylabel("anomaly filters")
        for axis in axes:
            axis.axvline(row["well_trained_epoch"], color="black", linestyle=":", linewidth=1)
            axis.set_xlabel("epoch")
        axes[0].set_title(f"{row['model']}, {row['regime']}, seed {row['seed']}", fontsize=9)
    for axis in grid[0]:
        axis.legend(fontsize=7)
    return figure


def signal_figure(runs: list[dict[str, Any]]) -> Figure:
    """Draw validation loss, counts and score of overfitting and regularised runs."""
    panels = {
        "val_loss": "validation loss",
        "count": "anomaly filters, defaults",
        "paper_count": "anomaly filters, paper's row 1",
        "score": "anomaly score",
    }
    figure = Figure(figsize=(14, 3.2), layout="constrained")
    axes: list[Axes] = list(figure.subplots(1, len(panels)))
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        for run in runs:
            points = [(row["epoch"], row[key]) for row in run["rows"]]
            axis.plot(
                *zip(*points, strict=True), color=_COLOURS.get(run["regime"], "grey"), alpha=0.8
            )
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("epoch")
    for regime, colour in _COLOURS.items():
        axes[0].plot([], [], color=colour, label=regime)
    axes[0].legend(fontsize=8)
    return figure
