"""`FilterWatch`: anomaly filters and memorization as training goes on, in a loop of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from filterwatch._checks import check_integer
from filterwatch._reports import Shown, visuals
from filterwatch.batches import Samples, count_samples, few_samples, find_labels
from filterwatch.detection import (
    PCA,
    AnomalyCriteria,
    AnomalyReport,
    Plan,
    Workspace,
    check_detection,
    check_probe_size,
    detect_as_planned,
    plan_detection,
)
from filterwatch.memorization import (
    METRICS,
    LabeledSamples,
    MemorizationReport,
    RepeatedMeasurement,
    UnmeasurableError,
    checked_labels,
    class_labels,
    find_decoded_layers,
    logged_values,
)
from filterwatch.observing import Forward
from filterwatch.watching.entries import probe_entry
from filterwatch.watching.samples import take_samples

_SHOWN = 10  # probes


class FilterWatch(Shown):
    """Watches a network in a training loop of one's own, as the callback does in Lightning's.

    `step` looks at the network, once an epoch, and leaves no trace: training goes on bit by bit as
    it would without. ``print(watch)`` shows what was found so far.

    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> images, labels = torch.rand(80, 1, 8, 8, generator=generator), torch.arange(80) % 2
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2)
    ... )
    >>> watch = FilterWatch(images[:40], labels=labels[:40], training=(images[40:], labels[40:]))
    >>> for epoch in range(2):
    ...     entry = watch.step(model)  # after an epoch of training
    >>> len(watch.history), sorted(entry["memorization"])
    (2, ['1', 'output'])

    Args:
        images: Held-out images [N, C, H, W], as a tensor or NumPy array; (images, labels); a data
            set; or a DataLoader or another iterable of batches. Read once.
        labels: Class of each, int64 [N], where ``images`` is a tensor or an array.
        training: Training images with labels, in any of these forms, as evaluation sees them,
            without augmentation. Default: memorization is not measured.
        probe_size: How many samples to take of ``images``, chosen at random, classes in proportion
            where the labels are known; of ``training`` as many of each class, where it has them.
        layers: See `detect_anomaly_filters`, and so for all that follow.
        criteria: The thresholds.
        max_clusters: Largest number of clusters tried.
        pca: Components of each filter, or common to a layer.
        votes: How many quarters of the probe vote.
        seed: Seed of the choice of samples, and of what the network draws.
        batch_size: Samples in a forward pass.
        memory_budget: Bytes that feature maps may take.
        forward: How a batch goes through the model. It returns the logits.

    Attributes:
        history: For each step the entry that it returned.
        report: The newest `AnomalyReport`, ``None`` before the first.
        memorization: The newest `MemorizationReport`, likewise.
        probe_indices: Where the samples that reports number from 0 stand in ``images``; ``None``
            for a stream of batches.
        training_probe_indices: Likewise in ``training``.

    Raises:
        TypeError: If an argument has the wrong type.
        UnmeasurableError: A ``ValueError``, if ``training`` is given and there are no labels, or
            too few images of a class.
        ValueError: If there are too few images, or an argument is out of range.
    """

    def __init__(
        self,
        images: Samples,
        *,
        labels: Tensor | None = None,
        training: LabeledSamples | None = None,
        probe_size: int = 1000,
        layers: Sequence[str] | None = None,
        criteria: AnomalyCriteria | None = None,
        max_clusters: int = 14,
        pca: PCA = "filter",
        votes: int = 0,
        seed: int = 0,
        batch_size: int = 64,
        memory_budget: int = 2**30,
        forward: Forward | None = None,
    ) -> None:
        check_integer("probe_size", probe_size, 1)
        check_detection(layers, criteria, max_clusters, pca, votes, seed, batch_size, memory_budget)
        self.history: list[dict[str, Any]] = []
        self.report: AnomalyReport | None = None
        self.memorization: MemorizationReport | None = None
        self._criteria = criteria or AnomalyCriteria()
        self._settings: dict[str, Any] = {
            "criteria": self._criteria,
            "max_clusters": max_clusters,
            "pca": pca,
            "votes": votes,
            "seed": seed,
        }
        self._layers = layers
        self._seed = seed
        self._memory_budget = memory_budget
        self._forward = forward
        self._plan: Plan | None = None
        self._measurement: RepeatedMeasurement | None = None
        given: Any = images if labels is None else (images, labels)
        take = partial(take_samples, size=probe_size, batch_size=batch_size, seed=seed)
        self._batches, self.probe_indices = take(given, name="images")
        check_probe_size(sum(map(count_samples, self._batches)), max_clusters, self._criteria)
        self._training: list[Any] | None = None
        self.training_probe_indices: list[int] | None = None
        if training is not None:
            held_out = checked_labels(_labels_of(self._batches, "images"))
            self._training, self.training_probe_indices = take(
                training, name="training", like=held_out
            )
            _labels_of(self._training, "training")

    def step(self, model: nn.Module, *, epoch: int | None = None) -> dict[str, Any]:
        """Look at a network, and append what was found to the history.

        Args:
            model: The network. It comes back exactly as it went in.
            epoch: The number of the epoch. Default: one more than the last, from 0.

        Returns:
            ``epoch``; ``count``, the flagged maps; ``distinct``, the convolution filters behind
            them; ``by_layer``; ``outlier_samples``; and with ``training`` values of memorization in
            nats by layer, the output's last: ``memorization``, ``memorization_errors``,
            ``memorized_samples``. Nothing, with a warning, for a network of which no layer can be
            judged, because its feature maps are not finite for instance.

        Raises:
            ValueError: If the model has no 2-D convolution, does not take the images, or a pattern
                of ``layers`` matches nothing.
        """
        if epoch is None:
            epoch = self.history[-1]["epoch"] + 1 if self.history else 0
        plan = self._planned(model)
        report = detect_as_planned(
            model,
            self._batches,
            plan,
            **self._settings,
            forward=self._forward,
            listener=None if self._measurement is None else self._measurement.listener(),
        )
        if not report.layers:  # a count of 0 would look like the best network there is
            warnings.warn(
                f"FilterWatch: no layer can be judged in epoch {epoch}: {report.skipped}",
                stacklevel=2,
            )
            return {}
        memorization = None
        if self._measurement is not None:
            try:
                memorization = self._measurement.measure(model, self._forward)
            except UnmeasurableError as error:
                warnings.warn(
                    f"FilterWatch: no memorization in epoch {epoch}: {error}", stacklevel=2
                )
        self.report, self.memorization = report, memorization or self.memorization
        self.history.append(probe_entry(epoch, report, memorization))
        return self.history[-1]

    def to_html(self, path: str | Path, *, class_names: Sequence[str] = ()) -> None:
        """Write the newest reports as a page with the images; see `AnomalyReport.to_html`.

        Args:
            path: The file to write.
            class_names: Names of the classes.

        Raises:
            ValueError: If there was no step yet.
        """
        if self.report is None:
            raise ValueError("there is nothing to show yet: call watch.step(model) first")
        visuals().write_report_page(
            path,
            self.report,
            self._batches,
            class_names=class_names,
            memorization=self.memorization,
            training=self._training,
            history=self.history,
        )

    def _planned(self, model: nn.Module) -> Plan:
        """Find the layers of the network and plan memory, at the first step."""
        if self._plan is not None:
            return self._plan
        first = few_samples(self._batches[0])
        self._plan = plan_detection(
            model,
            first,
            sum(map(count_samples, self._batches)),
            layers=self._layers,
            forward=self._forward,
            seed=self._seed,
            memory_budget=self._memory_budget,
            in_one_batch=len(self._batches) == 1,
            workspace=Workspace(),
        )
        if self._plan.warning is not None:
            warnings.warn(f"FilterWatch: {self._plan.warning}", stacklevel=3)
        if self._training is not None:
            found = find_decoded_layers(model, first, forward=self._forward, seed=self._seed)
            self._measurement = RepeatedMeasurement(
                self._batches, first, self._training, found, shared=True, seed=self._seed
            )
        return self._plan

    def __repr__(self) -> str:
        n_samples = sum(map(count_samples, self._batches))
        return f"<FilterWatch: {len(self.history)} steps on {n_samples} samples>"

    def __rich__(self) -> Table:
        table = Table(title=f"FilterWatch: {len(self.history)} steps")
        names = ["epoch", "anomaly filters", "distinct", "outlier samples"]
        forms = dict(zip(METRICS, ("+.2f", "+.2f", ".0f"), strict=True))
        if self._training is not None:
            names += ["memorization", "gap", "memorized samples"]
        for name in names:
            table.add_column(name, justify="right")
        left_out = len(self.history) - _SHOWN
        for place, entry in enumerate(self.history):
            if 0 < place <= left_out:
                continue
            cells = [str(entry[key]) for key in ("epoch", "count", "distinct", "outlier_samples")]
            values = logged_values(entry)
            if self._training is not None:
                cells += [
                    format(values[name], form) if name in values else "-"
                    for name, form in forms.items()
                ]
            table.add_row(*cells, end_section=place == 0 < left_out)
        return table


def _labels_of(batches: Sequence[Any], name: str) -> Tensor:
    """Return the labels of all batches; raises `UnmeasurableError` where there are none."""
    found = [find_labels(batch, count_samples(batch)) for batch in batches]
    known = [labels for labels in found if labels is not None]
    return class_labels(torch.cat(known) if len(known) == len(found) > 0 else None, name)
