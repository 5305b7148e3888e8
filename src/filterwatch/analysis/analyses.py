"""The detection on a loaded model with its predictions beside it, and two such side by side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from filterwatch.analysis.folder_probe import ProbeImages
from filterwatch.analysis.model_files import InputError, first_few
from filterwatch.analysis.model_loading import LoadedModel
from filterwatch.batches import find_logits
from filterwatch.datamodules import ImageDataset
from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    ProgressCallback,
    detect_anomaly_filters,
)

Filter = tuple[str, int]


@dataclass(frozen=True)
class Analysis:
    """What was found in one model.

    Attributes:
        model: The model.
        images: The probe.
        report: The anomaly filters.
        n_outputs: Number of classes that the model distinguishes; ``None`` if its output is not
            one number a class.
        predictions: The class that it gives each image, int64 [N], or ``None``.
        confidences: The softmax of that class, [N], or ``None``.
        output_names: Name of each output class; numbers where no names are known.
        seconds: How long it took.
    """

    model: LoadedModel
    images: ProbeImages
    report: AnomalyReport
    n_outputs: int | None
    predictions: Tensor | None
    confidences: Tensor | None
    output_names: list[str]
    seconds: float

    @property
    def labels_comparable(self) -> bool:
        """Whether a prediction can be right or wrong: the folder has the model's classes."""
        return self.images.labels is not None and self.n_outputs == len(self.images.class_names)

    @property
    def accuracy(self) -> float | None:
        """Share of the probe that is classified as labelled, where the two can be compared."""
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
    seed: int = 0,
    batch_size: int = 256,
    class_names: Sequence[str] | None = None,
    on_progress: ProgressCallback | None = None,
) -> Analysis:
    """Find the anomaly filters of a finished model, and its predictions on the probe.

    Args:
        model: The model; see `load_model`.
        images: The probe; see `sample_probe`.
        criteria: The thresholds. Default: `AnomalyCriteria()`.
        layers: Glob patterns over layer or module names. Default: see `detect_anomaly_filters`.
        max_clusters: Largest number of clusters tried.
        seed: Seed of everything random inside.
        batch_size: Images a forward pass, where the model does not fix it.
        class_names: Names of the model's outputs. Default: the folder's classes, where they are as
            many.
        on_progress: See `detect_anomaly_filters`.

    Raises:
        InputError: If the model does not take the images, or the names are not as many as outputs.
        ValueError: See `detect_anomaly_filters`.
    """
    start = time.perf_counter()
    n_samples = len(images)
    if model.fixed_batch_size is not None:
        batch_size = model.fixed_batch_size
        n_samples -= n_samples % batch_size
        if n_samples == 0:
            raise InputError(
                f"{model.path} was exported for batches of {batch_size} images, and the probe has "
                f"{len(images)}: take a larger --probe-size, or export a dynamic batch dimension"
            )
        images = images.first(n_samples)
    outputs = _Outputs(model, n_samples)
    # The position in the probe stands where training has the label.
    positions = torch.arange(n_samples)
    dataset = ImageDataset(images.source, positions, positions, positions, images.preprocessing)
    report = detect_anomaly_filters(
        model.module,
        # Not shuffled; the generator keeps the loader from drawing from the global one.
        DataLoader(dataset, batch_size=batch_size, generator=torch.Generator()),
        layers=layers,
        criteria=criteria,
        max_clusters=max_clusters,
        seed=seed,
        forward=outputs.forward,
        on_progress=on_progress,
    )
    predictions, confidences, n_outputs = outputs.predictions()
    return Analysis(
        model=model,
        images=images,
        report=report,
        n_outputs=n_outputs,
        predictions=predictions,
        confidences=confidences,
        output_names=_output_names(n_outputs, images, class_names),
        seconds=time.perf_counter() - start,
    )


class _Outputs:
    """Runs batches (images, positions) and keeps what the model makes of them."""

    def __init__(self, model: LoadedModel, n_samples: int) -> None:
        self._model = model
        self._n_samples = n_samples
        parameter = next(iter(model.module.parameters()), torch.zeros(()))
        self._device = parameter.device
        self._dtype = parameter.dtype if parameter.is_floating_point() else torch.float32
        self._logits: Tensor | None = None

    def forward(self, batch: Any) -> None:
        images, positions = batch
        rows = torch.arange(len(images))
        size = self._model.fixed_batch_size
        if size is not None:
            # The layers are found with two images; a program of fixed batches gets them repeated.
            rows = torch.arange(size) % len(images)
        try:
            output = self._model.module(images[rows].to(self._device, self._dtype))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise InputError(
                f"{self._model.name} refuses images of shape {list(images.shape[1:])} [channels, "
                f"height, width]: {error}. Set --image-size to what it was trained with"
            ) from error
        logits = find_logits(output, len(rows))
        if logits is None:
            return
        logits = logits[: len(images)].float().cpu()
        if self._logits is None:
            self._logits = logits.new_full((self._n_samples, logits.shape[1]), torch.nan)
        self._logits[positions] = logits

    def predictions(self) -> tuple[Tensor | None, Tensor | None, int | None]:
        if self._logits is None:
            return None, None, None
        confidences, predictions = self._logits.softmax(1).max(1)
        return predictions, confidences, self._logits.shape[1]


def _output_names(
    n_outputs: int | None, images: ProbeImages, class_names: Sequence[str] | None
) -> list[str]:
    if n_outputs is None:
        return []
    if class_names is not None:
        if len(class_names) != n_outputs:
            raise InputError(
                f"--class-names has {len(class_names)} names for {n_outputs} outputs of the model"
            )
        return list(class_names)
    if images.labels is not None and len(images.class_names) == n_outputs:
        return images.class_names
    return [str(number) for number in range(n_outputs)]


@dataclass(frozen=True)
class Comparison:
    """What changed from a first model to a second.

    Attributes:
        first: What was found in the first, on the layers that both have.
        second: What was found in the second, on the same layers.
        turned: Maps (layer, channel) that are anomalous in the second only, in forward order.
        ceased: Maps that are anomalous in the first only.
        kept: Maps that are anomalous in both.
        unmatched: Layers that are not compared because only one model has them, or has them with
            that number of channels.
    """

    first: Analysis
    second: Analysis
    turned: list[Filter]
    ceased: list[Filter]
    kept: list[Filter]
    unmatched: list[str]

    def isolated_by(self, filters: list[Filter], analysis: Analysis) -> dict[int, int]:
        """Return how many of some flagged filters isolate each image, most isolated first."""
        wanted = set(filters)
        counts = Counter(
            index
            for anomaly in analysis.report.anomalies
            if (anomaly.layer, anomaly.channel) in wanted
            for index in anomaly.outliers
        )
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


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
    if len(names) == len(report.layers):
        return analysis
    kept = replace(
        report,
        anomalies=[anomaly for anomaly in report.anomalies if anomaly.layer in names],
        layers={name: report.layers[name] for name in names},
    )
    return replace(analysis, report=kept)
