"""A whole fit in one picture: counts layer by layer, and beside the curves of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from filterwatch.visuals.drawing import (
    COLORS,
    GRID,
    INK,
    PAPER,
    draw_heading,
    drawing,
    new_figure,
    shortened,
)

# Epoch and value of one metric, in order.
Curve = list[tuple[int, float]]

LABELED_ROWS = 48  # of a map of layers: more names would not fit


@dataclass
class Curves:
    """What a module logged that shows overfitting: metrics with "loss" or "acc" in their name."""

    by_metric: dict[str, Curve] = field(default_factory=dict)

    @property
    def loss(self) -> dict[str, Curve]:
        """The losses."""
        return {name: curve for name, curve in self.by_metric.items() if "loss" in name.lower()}

    @property
    def accuracy(self) -> dict[str, Curve]:
        """The accuracies."""
        return {name: curve for name, curve in self.by_metric.items() if name not in self.loss}

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add an epoch's values; those of single steps are left out, and so is what repeats."""
        for name, value in metrics.items():
            repeats = name.endswith("_epoch") and name.removesuffix("_epoch") in metrics
            is_shown = "loss" in name.lower() or "acc" in name.lower()
            if is_shown and not repeats and not name.endswith("_step"):
                self.by_metric.setdefault(name, []).append((epoch, value))

    def keep_before(self, epoch: int) -> None:
        """Forget an epoch and those after it."""
        for name, curve in list(self.by_metric.items()):
            self.by_metric[name] = [point for point in curve if point[0] < epoch]
            if not self.by_metric[name]:
                del self.by_metric[name]

    def state_dict(self) -> dict[str, Any]:
        """Return the curves for a checkpoint; nothing where there are none."""
        curves = {name: list(curve) for name, curve in self.by_metric.items()}
        return {"curves": curves} if curves else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; what is missing there starts anew."""
        curves = state_dict.get("curves", {})
        self.by_metric = {name: list(map(tuple, curve)) for name, curve in curves.items()}


def layers_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw a callback's history: the count of each layer (down) in each epoch (across)."""
    layers = list(dict.fromkeys(name for entry in history for name in entry["by_layer"]))
    counts = np.array(
        [[entry["by_layer"].get(layer, np.nan) for entry in history] for layer in layers]
    )
    with drawing():
        # The scale is the same to color-blind eyes, and in gray.
        figure, image = draw_layer_map(
            layers, history, counts, cmap="cividis", vmin=0, vmax=max(np.nanmax(counts), 1)
        )
        draw_heading(figure, "Anomaly filters by layer and epoch", "")
        draw_scale(figure, image, ticks=MaxNLocator(5, integer=True))
    return figure


def draw_layer_map(
    layers: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    values: np.ndarray[Any, Any],
    *,
    top: float = 0.6,
    right: float = 0.85,
    **colors: Any,
) -> tuple[Figure, AxesImage]:
    """Draw values [layers, epochs] as colored cells, in a figure of their own.

    Args:
        layers: Names of the rows.
        history: What has the epoch of each column.
        values: What the cells show; NaN stays blank.
        top: Room above the cells, in inches.
        right: Room beside them, in inches.
        **colors: Scale and limits, as ``imshow`` takes them.
    """
    names = [shortened(layer, 34) for layer in layers]
    step = -(-len(layers) // LABELED_ROWS)
    rows = max(0.2 * len(layers) / step, 1.0)
    figure = new_figure(8.6, rows + 0.55 + top)
    width, height = figure.get_size_inches()
    left = 0.3 + 0.07 * max(map(len, names))
    place = (left / width, 0.55 / height, (width - right - left) / width, rows / height)
    axes = figure.add_axes(place)
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **colors)
    axes.set_yticks([])
    beside = axes.get_yaxis_transform()
    for row in range(0, len(layers), step):  # a text takes a fraction of a tick's time
        axes.text(-0.008, row, names[row], transform=beside, ha="right", va="center", fontsize=8)
    epochs = [entry["epoch"] for entry in history]
    every = -(-len(epochs) // 16)
    axes.set_xticks(range(0, len(epochs), every), [str(epoch) for epoch in epochs[::every]])
    axes.set_xlabel("epoch")
    axes.tick_params(length=2)
    axes.spines[:].set_visible(False)
    return figure, image


def draw_scale(figure: Figure, image: AxesImage, **options: Any) -> Colorbar:
    """Draw what the colors of a layer map stand for, at the figure's right edge."""
    width, _ = figure.get_size_inches()
    assert image.axes is not None
    cells = image.axes.get_position()
    scale = figure.add_axes((1 - 0.7 / width, cells.y0, 0.14 / width, cells.height))
    bar = figure.colorbar(image, cax=scale, **options)
    bar.outline.set_visible(False)
    return bar


def training_figure(
    history: Sequence[Mapping[str, Any]], accuracy: Mapping[str, Curve], loss: Mapping[str, Curve]
) -> Figure:
    """Draw accuracy and loss above, the number of anomaly filters below (paper, figure 4).

    A vertical line marks the minimum of a validation loss. Curves go by the names of metrics.
    """
    with drawing():
        if accuracy or loss:
            figure = new_figure(8.6, 5.6)
            above, below = figure.subplots(2, sharex=True, height_ratios=(1.25, 1))
            figure.subplots_adjust(left=0.08, right=0.92, bottom=0.085, top=0.86, hspace=0.14)
            _draw_curves(above, accuracy, loss)
            draw_heading(figure, "Training and anomaly filters", "")
        else:
            figure = new_figure(8.6, 3.2)
            below = figure.subplots()
            figure.subplots_adjust(left=0.08, right=0.92, bottom=0.16, top=0.84)
            draw_heading(figure, "Anomaly filters", "")
        epochs, counts = ([entry[key] for entry in history] for key in ("epoch", "count"))
        below.plot(epochs, counts, color=COLORS[5], marker="^", markersize=3.5, linewidth=1.6)
        below.set_ylim(bottom=0)
        below.set_ylabel("anomaly filters")
        below.set_xlabel("epoch")
        for axis in (below.xaxis, below.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        best = lowest_validation_loss(loss)
        for axes in figure.axes:
            axes.grid(axis="x", color=GRID, linewidth=0.6)
            axes.set_axisbelow(True)
            if best is not None:
                axes.axvline(best, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        if best is not None:
            # What the line is, on the side where there is room.
            to_the_right = best <= sum(below.get_xlim()) / 2
            below.text(
                best,
                0.97,
                f" lowest validation loss: epoch {best} ",
                transform=below.get_xaxis_transform(),
                ha="left" if to_the_right else "right",
                va="top",
                fontsize=8,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1, "alpha": 0.8},
            )
    return figure


def _draw_curves(axes: Axes, accuracy: Mapping[str, Curve], loss: Mapping[str, Curve]) -> None:
    lines: list[Line2D] = []
    for name, curves, color, marker in (
        ("accuracy", accuracy, COLORS[0], "o"),
        ("loss", loss, COLORS[1], "s"),
    ):
        if not curves:
            continue
        # Accuracy on the left, loss on the right; whichever is alone, on the left.
        side = axes.twinx() if lines else axes
        side.spines["right"].set_visible(bool(lines))
        side.set_ylabel(name)
        for number, (metric, curve) in enumerate(_validation_first(curves)):
            epochs, values = zip(*curve, strict=True)
            lines += side.plot(
                epochs,
                values,
                color=color,
                label=metric,
                linewidth=1.6,
                linestyle="-" if number == 0 else (0, (1 + number, 1.2)),
                marker=marker,
                markersize=3,
            )
    axes.legend(
        handles=lines,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=4,
        fontsize=8.5,
        handlelength=2.4,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _validation_first(curves: Mapping[str, Curve]) -> list[tuple[str, Curve]]:
    return sorted(curves.items(), key=lambda item: ("val" not in item[0].lower(), item[0]))


def lowest_validation_loss(loss: Mapping[str, Curve]) -> int | None:
    """Return the epoch in which the first validation loss is lowest."""
    for name, curve in _validation_first(loss):
        finite = [(value, epoch) for epoch, value in curve if np.isfinite(value)]
        if "val" in name.lower() and finite:
            return min(finite)[1]
    return None
