"""How much each layer has memorized, in one epoch or in all, and the samples learned by heart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from filterwatch.memorization import OUTPUT, MemorizationReport, Sample
from filterwatch.visuals.drawing import (
    FAINT,
    GRID,
    INK,
    MARGIN,
    PAPER,
    Grid,
    Tiles,
    draw_heading,
    drawing,
    new_figure,
    note_figure,
    shortened,
)
from filterwatch.visuals.history_figures import (
    LABELED_ROWS,
    Curve,
    draw_layer_map,
    draw_scale,
    lowest_validation_loss,
)
from filterwatch.visuals.thumbnails import Thumbnails

# Color-blind eyes tell them apart, and a black mark shows on each.
_BLUE, _RED = "#4a8fc7", "#dc5b4a"
_COLORS = LinearSegmentedColormap.from_list("memorization", [_BLUE, PAPER, _RED]).with_extremes(
    bad=GRID
)
_OUTPUT_TITLE = "output (generalization gap)"
_MEANING = (
    "Red: knows more of its training images' labels than of new ones'. "
    "Blue: speaks against training labels, which may be wrong."
)
_SAMPLES = Grid(left=MARGIN, top=1.0, columns=7, side=0.88, pitch=(1.18, 1.44))


def memorization_map(
    history: Sequence[Mapping[str, Any]], loss_curves: Mapping[str, Curve]
) -> Figure:
    """Draw a callback's history: the memorization of each layer (down) in each epoch (across).

    Hidden layers set the scale, of blue and of red apart, so that an output that has memorized far
    more leaves them their colors. Dots mark what lies beyond three standard errors, a line the
    lowest validation loss.

    Raises:
        ValueError: If the history has no memorization.
    """
    layers, values, errors = memorization_table(history)
    coolest, warmest = color_limits(layers, values, errors)
    beyond = bool(np.nanmin(values) < coolest or np.nanmax(values) > warmest)
    with drawing():
        figure, image = draw_layer_map(
            [_OUTPUT_TITLE if layer == OUTPUT else layer for layer in layers],
            history,
            values,
            top=1.1,
            right=1.5,
            cmap=_COLORS,
            norm=TwoSlopeNorm(0, coolest, warmest),
        )
        lines = [_MEANING, f"●  more than three standard errors from 0.{_blank_note(values)}"]
        if beyond:
            lines[1] += "  The output exceeds the scale, which is that of the hidden layers."
        draw_heading(figure, "Memorization by layer and epoch", "\n".join(lines))
        axes = image.axes
        assert axes is not None
        rows, columns = np.nonzero(np.abs(values) > 3 * errors)
        axes.scatter(columns, rows, s=7, color=INK, linewidths=0, zorder=3)
        if layers[-1] == OUTPUT:
            axes.axhline(len(layers) - 1.5, color=INK, linewidth=0.8)
        _write_last(axes, values, history)
        _draw_lowest(axes, history, loss_curves)
        bar = draw_scale(figure, image, extend="both" if beyond else "neither")
        bar.set_label("nats", labelpad=2)
    return figure


def memorization_table(
    history: Sequence[Mapping[str, Any]],
) -> tuple[list[str], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the layers of a history, the output last, their memorization and standard errors.

    Returns:
        Names, and two arrays [layers, epochs] with NaN where nothing was measured.

    Raises:
        ValueError: If there is no memorization in it.
    """
    names = dict.fromkeys(name for entry in history for name in entry.get("memorization", ()))
    if not names:
        raise ValueError("memorization was measured in no epoch: there is nothing to draw")
    layers = sorted(names, key=OUTPUT.__eq__)
    values, errors = (
        np.array([[entry.get(key, {}).get(layer, np.nan) for entry in history] for layer in layers])
        for key in ("memorization", "memorization_errors")
    )
    return layers, values, errors


def color_limits(
    layers: Sequence[str], values: np.ndarray[Any, Any], errors: np.ndarray[Any, Any]
) -> tuple[float, float]:
    """Return the values of the strongest blue, below zero, and of the strongest red.

    Either is the furthest of a hidden layer, where one goes beyond three standard errors, else of
    the output: wrong labels may take all hidden layers below zero, and red is then the output's
    alone. Both are six standard errors at the least, so that what chance may do stays pale.

    Args:
        layers: Names of the rows.
        values: What they hold, [layers, epochs]; NaN where it is not known.
        errors: Their standard errors.
    """
    hidden = np.array([layer != OUTPUT for layer in layers])
    hidden |= not hidden.any()
    usual = max(6 * float(np.nanmedian(errors[hidden])), 1e-6)

    def furthest(sign: int) -> float:
        beyond = sign * values > 3 * errors
        rows = hidden if bool(beyond[hidden].any()) else ~hidden
        return max(float(np.max(np.where(beyond, sign * values, 0.0)[rows], initial=0.0)), usual)

    return -furthest(-1), furthest(1)


def memorization_figure(report: MemorizationReport) -> Figure:
    """Draw the memorization of each layer in one epoch, as bars with three standard errors."""
    hidden = report.hidden
    others = {name: layer for name, layer in report.layers.items() if name not in hidden}
    shown = [*hidden.items(), *others.items()]
    titles = {OUTPUT: _OUTPUT_TITLE, report.witness: "all hidden layers together"}
    names = [shortened(titles.get(name, name), 34) for name, _ in shown]
    values = np.array([layer.value for _, layer in shown])
    reach = 3 * np.array([layer.standard_error for _, layer in shown])
    # An output that has memorized far more would leave the layers no length.
    own = np.max(np.abs(values[: len(hidden)]) + reach[: len(hidden)])
    limit = 1.05 * min(np.max(np.abs(values) + reach), max(3 * own, 1e-6))
    with drawing():
        rows = max(0.25 * len(shown), 1.0)
        figure = new_figure(8.6, rows + 1.45)
        width, height = figure.get_size_inches()
        lines = f"{_MEANING}\nGray: within three standard errors of 0, which the lines show."
        if np.max(np.abs(values)) > limit:
            lines += "  A bar that reaches the edge goes on beyond it."
        draw_heading(figure, "Memorization by layer", lines)
        left = 0.3 + 0.07 * max(map(len, names))
        place = (left / width, 0.5 / height, (width - 1.5 - left) / width, rows / height)
        axes = figure.add_axes(place)
        positions = np.arange(len(shown))
        colors = [_color(layer.value, layer.is_significant) for _, layer in shown]
        axes.barh(positions, values, height=0.66, color=colors)
        axes.hlines(positions, values - reach, values + reach, color=INK, linewidth=1.1)
        axes.axvline(0, color=FAINT, linewidth=0.8)
        axes.axhline(len(hidden) - 0.5, color=GRID, linewidth=0.8)
        axes.set_xlim(min(-0.05 * limit, 1.05 * float(np.min(values - reach))), limit)
        if axes.get_xlim()[0] < -limit:
            axes.set_xlim(left=-limit)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_yticks([])
        axes.set_xlabel("nats")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        beside = axes.get_yaxis_transform()
        for row, (name, (_, layer)) in enumerate(zip(names, shown, strict=True)):
            axes.text(-0.008, row, name, transform=beside, ha="right", va="center", fontsize=8)
            number = f"{_signed(layer.value)} ± {layer.standard_error:.2f}"
            axes.text(1.015, row, number, transform=beside, ha="left", va="center", fontsize=8)
    return figure


def memorized_samples_figure(
    report: MemorizationReport, thumbnails: Thumbnails, n_samples: int = 32
) -> Figure:
    """Draw so many of the memorized samples: given label, what the witness says, confidence.

    Args:
        report: What was found.
        thumbnails: The training samples that were measured, in the report's order.
        n_samples: How many to draw at most, the worst first; where there are none, it says so.
    """
    memorized = report.memorized()
    if not memorized:
        return note_figure(
            "Training images learned by heart: none",
            "Where the hidden layers speak against a label, the network does not give it either.",
        )
    shown = memorized[:n_samples]
    rows = math.ceil(len(shown) / _SAMPLES.columns)
    number, error = report.memorized_samples, report.memorized_error
    is_beyond = number > 3 * error
    beyond = f"{number:.0f} ± {error:.0f} more" if is_beyond else "no more"
    beyond += " than among as many new images"
    with drawing():
        figure = new_figure(8.6, _SAMPLES.top + _SAMPLES.pitch[1] * rows)
        draw_heading(
            figure,
            "Training images learned by heart" + ("" if is_beyond else ": none beyond chance"),
            "The network gives them their label; what its hidden layers know from other images "
            'speaks for another class ("rather").\n'
            "Wrong labels come first where there are any; others are hard. "
            "%: the network's probability of the label.\n"
            f"{len(shown)} of {len(memorized)}, worst first; {beyond}.",
        )
        captions = [_caption(sample, thumbnails) for sample in shown]
        images = [thumbnails.image(sample.index) for sample in shown]
        figure.add_artist(Tiles(images, captions, _SAMPLES))
    return figure


def _caption(sample: Sample, thumbnails: Thumbnails) -> str:
    label, rather = map(thumbnails.class_name, (sample.label, sample.witness_label))
    number = f"{thumbnails.name(sample.index)}  {sample.confidence:.0%}"
    return f"label {shortened(label, 13)}\nrather {shortened(rather, 12)}\n{number}"


def _blank_note(values: np.ndarray[Any, Any]) -> str:
    return "  Gray: not measured." if np.isnan(values).any() else ""


def _write_last(
    axes: Axes, values: np.ndarray[Any, Any], history: Sequence[Mapping[str, Any]]
) -> None:
    """Write each layer's newest value beside its row, as far as there is room for one."""
    newest = [at for at, entry in enumerate(history) if entry.get("memorization")][-1]
    above, beside = axes.transAxes, axes.get_yaxis_transform()
    title = f"epoch {history[newest]['epoch']}"
    axes.text(1.08, 1.01, title, transform=above, ha="right", va="bottom", fontsize=8)
    for row in range(0, len(values), -(-len(values) // LABELED_ROWS)):
        value = values[row, newest]
        if np.isfinite(value):
            axes.text(
                1.08, row, _signed(value), transform=beside, ha="right", va="center", fontsize=8
            )


def _draw_lowest(
    axes: Axes, history: Sequence[Mapping[str, Any]], loss_curves: Mapping[str, Curve]
) -> None:
    """Draw a line at the epoch of the lowest validation loss, if it is among those shown."""
    best, epochs = lowest_validation_loss(loss_curves), [entry["epoch"] for entry in history]
    if best is None or not epochs[0] <= best <= epochs[-1]:
        return
    place = float(np.interp(best, epochs, range(len(epochs))))
    axes.axvline(place, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2.5)
    side = "left" if place <= len(epochs) / 2 else "right"
    axes.text(
        place,
        1.01,
        f"lowest validation loss: epoch {best}",
        transform=axes.get_xaxis_transform(),
        ha=side,
        va="bottom",
        fontsize=8,
    )


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")  # no negative zero


def _color(value: float, is_significant: bool) -> str:
    if not is_significant:
        return "#c4c8ce"
    return _RED if value > 0 else _BLUE
