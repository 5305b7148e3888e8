"""The detection on a loaded model with its predictions beside it, and two such side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from filterwatch._words import first_few
from filterwatch.analysis.folder_probe import ProbeImages
from filterwatch.analysis.model_files import InputError
from filterwatch.analysis.model_loading import LoadedModel
from filterwatch.analysis.training_images import Memorization
from filterwatch.batches import find_logits
from filterwatch.datamodules import ImageDataset
from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    ProgressCallback,
    detect_anomaly_filters,
)

Filter = tuple[str, int]  # layer and channel


@dataclass(frozen=True)
class Analysis:
    """What was found in one model."""

    model: LoadedModel
    images: ProbeImages
    report: AnomalyReport
    n_outputs: int | None = None  # classes that it distinguishes; None if the output is no logits
    predictions: Tensor | None = None  # the class that it gives each image, int64 [N]
    confidences: Tensor | None = None  # the softmax of that class, [N]
    memorization: Memorization | None = None  # of training images, where they were given
    judged_by: str = "as given"  # where criteria and settings of the report come from, for people

    @property
    def labels_comparable(self) -> bool:
        """Whether a prediction can be right or wrong: the folder has the model's classes."""
        return self.n_outputs == len(self.images.class_names)

    @property
    def output_names(self) -> list[str]:
        """Name of each output class: the folder's, where they are as many, else numbers."""
        if self.labels_comparable:
            return self.images.class_names
        return [str(number) for number in range(self.n_outputs or 0)]

    @property
    def accuracy(self) -> float | None:
        """Share of the probe that is classified as labeled, where the two can be compared."""
        if self.predictions is None or self.images.labels is None or not self.labels_comparable:
            return None
        return float((self.predictions == self.images.labels).double().mean())


def analyze(
    model: LoadedModel,
    images: ProbeImages,
    *,
    criteria: AnomalyCriteria | None = None,
    layers: Sequence[str] | None = None,
    max_clusters: int = 14,
    pca: Literal["filter", "layer"] = "filter",
    votes: int = 0,
    judged_by: str = "as given",
    seed: int = 0,
    batch_size: int = 256,
    on_progress: ProgressCallback | None = None,
) -> Analysis:
    """Find the anomaly filters of a finished model, and its predictions on the probe.

    Args:
        model: The model; see `load_model`.
        images: The probe; see `sample_probe`.
        criteria: The thresholds. Default: `AnomalyCriteria()`.
        layers: Glob patterns over layer or module names. Default: see `detect_anomaly_filters`.
        max_clusters: Largest number of clusters tried.
        pca: Whose principal components points are made of; see `detect_anomaly_filters`.
        votes: How many random quarters of the probe vote; see `detect_anomaly_filters`.
        judged_by: Where these come from, for people; see `choose_settings`.
        seed: Seed of everything random inside.
        batch_size: Images a forward pass.
        on_progress: See `detect_anomaly_filters`.

    Raises:
        InputError: If the model does not take the images.
        ValueError: See `detect_anomaly_filters`.
    """
    outputs: dict[int, Tensor] = {}  # the logits of each image

    def forward(batch: Any) -> None:
        pixels, positions = batch
        output = model.run(pixels)
        found = find_logits(output, len(pixels))
        if found is not None:
            outputs.update(zip(positions.tolist(), found.float().cpu(), strict=True))

    # The position in the probe stands where training has the label.
    positions = torch.arange(len(images))
    dataset = ImageDataset(images.source, positions, positions, positions, images.preprocessing)
    report = detect_anomaly_filters(
        model.module,
        # Not shuffled; the generator keeps the loader from drawing from the global one.
        DataLoader(dataset, batch_size=batch_size, generator=torch.Generator()),
        layers=layers,
        criteria=criteria,
        max_clusters=max_clusters,
        pca=pca,
        votes=votes,
        seed=seed,
        forward=forward,
        on_progress=on_progress,
    )
    if len(outputs) < len(images):
        return Analysis(model, images, report, judged_by=judged_by)
    logits = torch.stack([outputs[position] for position in range(len(images))])
    confidences, predictions = logits.softmax(1).max(1)
    return Analysis(
        model, images, report, logits.shape[1], predictions, confidences, judged_by=judged_by
    )


@dataclass(frozen=True)
class Comparison:
    """What changed from a first model to a second, on the layers that both have."""

    first: Analysis
    second: Analysis
    turned: list[Filter]  # maps that are anomalous in the second only, in forward order
    ceased: list[Filter]  # in the first only
    kept: list[Filter]  # in both
    unmatched: list[str]  # layers of one model only, or with another number of channels

    def isolated_by(self, filters: list[Filter], analysis: Analysis) -> dict[int, int]:
        """Return how many of some flagged filters isolate each image, most isolated first."""
        report = analysis.report
        wanted = [found for found in report.anomalies if (found.layer, found.channel) in filters]
        return replace(report, anomalies=wanted).outlier_samples()


def compare(first: Analysis, second: Analysis) -> Comparison:
    """Match the filters of two models on one probe by layer and channel.

    Raises:
        InputError: If the models have no layer in common, or the probes differ.
    """
    if first.images.files != second.images.files:
        raise InputError("the two models saw different images: compare them on one probe")
    ours, theirs = first.report.layers, second.report.layers
    common = [
        name
        for name, layer in ours.items()
        if name in theirs and len(layer.ch_index) == len(theirs[name].ch_index)
    ]
    if not common:
        raise InputError(
            f"{first.model.path} and {second.model.path} have no layer in common: the one has "
            f"{first_few(list(ours))}, the other {first_few(list(theirs))}"
        )
    first, second = _restricted(first, common), _restricted(second, common)
    before, after = (
        [(anomaly.layer, anomaly.channel) for anomaly in analysis.report.anomalies]
        for analysis in (first, second)
    )
    shared = set(before) & set(after)
    return Comparison(
        first,
        second,
        turned=[found for found in after if found not in shared],
        ceased=[found for found in before if found not in shared],
        kept=[found for found in after if found in shared],
        unmatched=[name for name in dict.fromkeys([*ours, *theirs]) if name not in common],
    )


def _restricted(analysis: Analysis, names: list[str]) -> Analysis:
    report = analysis.report
    kept = replace(
        report,
        anomalies=[anomaly for anomaly in report.anomalies if anomaly.layer in names],
        layers={name: report.layers[name] for name in names},
    )
    return replace(analysis, report=kept)
