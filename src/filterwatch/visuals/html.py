"""The HTML files of ``filterwatch analyze`` and ``filterwatch compare``.

Each is one file that needs no network: style, scripts, plotly.js, numbers and images are inside.
Everything that comes from outside (names of classes, files, layers) is escaped where it is text,
and embedded as data that no browser runs where it is not.
"""

from __future__ import annotations

from pathlib import Path

from filterwatch.analysis.comparison import Comparison
from filterwatch.analysis.run import Analysis
from filterwatch.visuals.html_page import render_page
from filterwatch.visuals.html_payload import build_payload
from filterwatch.visuals.html_ranking import rank_filters


def write_report(analysis: Analysis, path: str | Path, *, n_charts: int = 40) -> None:
    """Write the report of one model.

    Args:
        analysis: What was found.
        path: The file to write.
        n_charts: Number of filters with a scatter plot beyond the flagged ones.

    Raises:
        ValueError: If the report was kept without its points.
    """
    ranked, n_flagged = rank_filters([analysis.report])
    payload = build_payload([analysis], ranked[: n_flagged + max(n_charts, 0)])
    page = render_page(
        "report", title=f"Anomaly filters of {analysis.model.path.name}", payload=payload
    )
    Path(path).write_text(page, encoding="utf-8")


def write_comparison(comparison: Comparison, path: str | Path, *, n_charts: int = 40) -> None:
    """Write two models side by side.

    Args:
        comparison: What changed.
        path: The file to write.
        n_charts: Number of filters with scatter plots beyond those flagged in one of the models.

    Raises:
        ValueError: If the reports were kept without their points.
    """
    first, second = comparison.first, comparison.second
    ranked, n_flagged = rank_filters([first.report, second.report])
    payload = build_payload([first, second], ranked[: n_flagged + max(n_charts, 0)])
    payload["unmatched"] = comparison.unmatched
    title = f"Anomaly filters: {first.model.path.name} and {second.model.path.name}"
    Path(path).write_text(render_page("compare", title=title, payload=payload), encoding="utf-8")
