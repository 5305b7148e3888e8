"""A report as a page, from images in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filterwatch.batches import as_batches, count_samples, find_labels
from filterwatch.datamodules import resize
from filterwatch.detection import AnomalyReport
from filterwatch.memorization import MemorizationReport
from filterwatch.visuals.page import write_page
from filterwatch.visuals.page_memorization import PageMemorization
from filterwatch.visuals.page_numbers import PageModel
from filterwatch.visuals.sprite_sheet import PageImages
from filterwatch.visuals.thumbnails import Thumbnails

_BATCH = 256


def write_report_page(
    path: str | Path,
    report: AnomalyReport,
    images: Any,
    *,
    labels: Tensor | None = None,
    class_names: Sequence[str] = (),
    memorization: MemorizationReport | None = None,
    training: Any = None,
    history: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write the page of a report; see `AnomalyReport.to_html`.

    Args:
        path: The file to write.
        report: The report.
        images: The probe.
        labels: Class of each image, int64 [N]; ``None`` takes those in the probe, if any.
        class_names: Names of the classes.
        memorization: What is known of memorization, for the top of the page.
        training: The training samples that it is about.
        history: What is known of earlier epochs.

    Raises:
        ValueError: If the report was read from a file without points, or there are not as many
            images as samples in the reports.
    """
    shown = _page_images(images, class_names, labels)
    if len(shown.files) != report.n_samples:
        raise ValueError(
            f"{len(shown.files)} images for a report of {report.n_samples} samples: pass the probe "
            "that the report was made of"
        )
    top = None
    if memorization is not None:
        heard = _page_images(training, class_names)
        if len(heard.files) != len(memorization.labels):
            raise ValueError(
                f"{len(heard.files)} training images for a report of {len(memorization.labels)}: "
                "pass those that were measured"
            )
        top = PageMemorization(memorization, heard, history)
    settings = asdict(report.criteria) | report.settings
    facts = [
        ("Settings", ", ".join(f"{name} = {value}" for name, value in settings.items())),
        *((f"Skipped {layer}", reason) for layer, reason in report.skipped.items()),
    ]
    write_page(
        path,
        [PageModel(report, "model")],
        shown,
        title="Anomaly filters",
        subject=f"{len(report.layers)} layers on {report.n_samples:,} images",
        facts=facts,
        memorization=top,
    )


def _page_images(
    samples: Any, class_names: Sequence[str], labels: Tensor | None = None
) -> PageImages:
    """Return samples as a page shows them, named by their numbers."""
    batches = list(as_batches(samples, _BATCH, "images"))
    thumbnails = Thumbnails(batches)
    found = [find_labels(batch, count_samples(batch)) for batch in batches]
    known = [each for each in found if each is not None]
    if labels is None and len(known) == len(found):
        labels = torch.cat(known)
    if labels is not None and bool((labels < 0).any()):
        labels = None  # which stand for no class
    names = list(class_names)
    if labels is not None and not names:
        names = [str(label) for label in range(int(labels.max()) + 1)]

    def pixels(rows: Tensor, side: int) -> Tensor:
        pictures = [torch.from_numpy(thumbnails.image(row)) for row in rows.tolist()]
        return resize(torch.stack(pictures).permute(0, 3, 1, 2), side)

    longest = max(thumbnails.image(0).shape[:2])
    return PageImages(
        files=[f"#{row}" for row in range(len(thumbnails))],
        labels=None if labels is None else labels.tolist(),
        class_names=names,
        thumbnails=pixels,
        side=longest,
    )
