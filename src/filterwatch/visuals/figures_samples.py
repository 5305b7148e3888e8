"""The images of the probe that flagged filters set apart most often."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from filterwatch.detection import AnomalyReport
from filterwatch.visuals.figures import (
    MARGIN,
    draw_heading,
    drawing,
    new_figure,
)
from filterwatch.visuals.thumbnails import Thumbnails
from filterwatch.visuals.tiles import Tiles

_COLUMNS = 8
# Inches: above the images, and from one to the next across and down.
_HEADING, _PITCH = 0.8, (1.03, 1.3)


def isolated_samples_figure(
    report: AnomalyReport, thumbnails: Thumbnails, n_samples: int = 32
) -> Figure:
    """Draw the samples that most flagged filters isolate, with the number of these filters.

    Args:
        report: What a probe found; at least one filter is flagged.
        thumbnails: The probe's images.
        n_samples: Draw at most this many, the most isolated first.

    Raises:
        ValueError: If no filter is flagged.
    """
    isolated = report.outlier_samples()
    if not isolated:
        raise ValueError("no flagged filter isolates a sample: there is nothing to draw")
    shown = dict(list(isolated.items())[:n_samples])
    rows = math.ceil(len(shown) / _COLUMNS)
    with drawing():
        figure = new_figure(8.6, _HEADING + _PITCH[1] * rows)
        draw_heading(
            figure,
            "Samples that most anomaly filters isolate",
            f"{len(shown)} of {len(isolated)} outlier samples of {report.count} anomaly filters; "
            f"×: the number of filters that isolate it{thumbnails.legend}",
        )
        figure.add_artist(
            Tiles(
                [thumbnails.image(sample) for sample in shown],
                [
                    f"{thumbnails.name(sample)}  ×{count}\n{thumbnails.caption(sample)}"
                    for sample, count in shown.items()
                ],
                left=MARGIN,
                top=_HEADING,
                columns=_COLUMNS,
                side=0.88,
                pitch=_PITCH,
            )
        )
    return figure
