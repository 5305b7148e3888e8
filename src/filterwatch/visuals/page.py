"""HTML pages of one model's anomaly filters, or of two models side by side.

Each is one file that needs no network: style, scripts, plotly.js, numbers and images are inside.
Everything that comes from outside (names of classes, files, layers) is escaped where it is text,
and embedded as data that no browser runs where it is not.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from filterwatch.visuals.page_memorization import PageMemorization, memorization_numbers
from filterwatch.visuals.page_numbers import PageModel, page_numbers, rank_filters
from filterwatch.visuals.remarks import nearest_filter, untrained_note
from filterwatch.visuals.sprite_sheet import PageImages, sprite_sheet

_TEMPLATES = files("filterwatch.visuals") / "templates"
_SCRIPTS = (
    "data",
    "criteria",
    "format",
    "thumbnails",
    "memorization",
    "table",
    "scatter",
    "controls",
    "remarks",
    "page",
)


def write_page(
    path: str | Path,
    models: Sequence[PageModel],
    images: PageImages,
    *,
    title: str,
    subject: str,
    facts: Sequence[tuple[str, str]],
    n_charts: int = 40,
    memorization: PageMemorization | None = None,
) -> None:
    """Write a page.

    Args:
        path: The file to write.
        models: One model, or two on the same probe and layers.
        images: The probe.
        title: Title of the page.
        subject: A line below it.
        facts: What the reader should know of how this was made, as (term, text).
        n_charts: Number of filters with scatter plots beyond those flagged in any of the models.
        memorization: What is known of memorization, which goes to the top.

    Raises:
        ValueError: If a report was kept without its points.
    """
    ranked, n_flagged = rank_filters([model.report for model in models])
    ranked = [*_nearest(models), *ranked] if n_flagged == 0 else ranked
    probe = {key: getattr(images, key) for key in ("files", "labels", "class_names")}
    payload = page_numbers(models, list(dict.fromkeys(ranked))[: n_flagged + max(n_charts, 0)])
    payload |= {"probe": probe, "sprite": asdict(sprite_sheet(images))}
    payload["memorization"] = None if memorization is None else memorization_numbers(memorization)
    untrained = list(_untrained(models, images.labels))
    page = _render(len(models) > 1, payload, facts, untrained, title=title, subject=subject)
    Path(path).write_text(page, encoding="utf-8")


def _nearest(models: Sequence[PageModel]) -> Iterator[int]:
    """Yield the position of the filter of each model that comes nearest to the criteria."""
    for model in models:
        nearest = nearest_filter(model.report)
        if nearest is not None:
            layers, name = model.report.layers, nearest.filter.layer
            before = list(layers.values())[: list(layers).index(name)]
            yield sum(len(layer.ch_index) for layer in before) + nearest.filter.channel


def _untrained(models: Sequence[PageModel], labels: Sequence[int] | None) -> Iterator[str]:
    """Yield which models do no better than guessing, as far as labels and predictions say it."""
    names = ("This network",) if len(models) == 1 else ("The first network", "The second network")
    for name, model in zip(names, models, strict=True):
        if model.accuracy is None or model.predictions is None or labels is None:
            continue
        note = untrained_note(model.accuracy, torch.tensor(labels), model.predictions)
        if note is not None:
            yield f"{name} {note}"


def _render(
    compared: bool,
    payload: dict[str, Any],
    facts: Sequence[tuple[str, str]],
    untrained: Sequence[str],
    **texts: str,
) -> str:
    """Fill the template; its security policy allows these scripts alone, by their hashes."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    own = [_read(f"{name}.js") for name in (*_SCRIPTS, "compare" if compared else "report")]
    scripts = [get_plotlyjs(), "(() => {\n'use strict';\n" + "\n".join(own) + "\n})();"]
    scripts = [script.replace("\r\n", "\n") for script in scripts]  # as a browser hashes them
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made_by = f"filterwatch {version('filterwatch')}; charts by plotly.js {get_plotlyjs_version()}"
    return environment.from_string(_read("page.html.j2")).render(
        **texts,
        compared=compared,
        untrained=untrained,
        memorization=payload["memorization"],
        facts=[*facts, ("Made by", made_by)],
        # Our own files and plotly's, which must reach the browser as they are.
        style=Markup(_read("page.css")),
        scripts=[Markup(script) for script in scripts],
        script_sources=Markup(" ".join(_hash_source(script) for script in scripts)),
        payload=Markup(embed_json(payload)),
    )


def embed_json(data: Any) -> str:
    """Return data as JSON that no text in it can end a ``<script>`` element with."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash_source(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
