"""`score_samples`: every sample of a training set, those whose label is most in question first."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from filterwatch._reports import data_frame
from filterwatch.memorization.contrast import Contrast
from filterwatch.memorization.evidence import (
    JOINT,
    OUTPUT,
    Heard,
    HeldOut,
    UnmeasurableError,
    class_labels,
)
from filterwatch.memorization.features import BatchFeatures
from filterwatch.memorization.measure import (
    LabeledSamples,
    count_memorized,
    fit_held_out,
    hear_training,
)
from filterwatch.memorization.report import Sample, sample_columns
from filterwatch.observing import Forward

_AT_ONCE = 65536  # samples that become Python objects together


@dataclass(frozen=True, eq=False)
class SampleScores(Sequence[Sample]):
    """Every sample of a training set as a `Sample`, that of the lowest evidence first.

    Samples of classes that are not measured come last; their evidence is NaN. The attributes are in
    the order of the training set.

    Attributes:
        labels: Label of each sample, int64 [N].
        witness_labels: The label that the witness would give each, int64 [N].
        predictions: The label that the network gives each, int64 [N]; -1 where it gives none.
        evidence: The witness's log posterior of each label, in nats, float32 [N].
        confidences: The network's probability of each label, float32 [N]; NaN where it gives none.
        memorized_samples: How many samples are memorized beyond what held-out samples lead to
            expect; NaN where the network gives no labels.
        memorized_error: Its standard error.
        left_out: Class to the reason why its samples are not measured.
    """

    labels: Tensor
    witness_labels: Tensor
    predictions: Tensor
    evidence: Tensor
    confidences: Tensor
    memorized_samples: float
    memorized_error: float
    left_out: dict[int, str]

    @cached_property
    def order(self) -> Tensor:
        """Position of each sample in the training set, worst first, int64 [N]."""
        return self.evidence.argsort(stable=True)  # NaN last

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...

    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return self._samples(self.order[place])
        if not -len(self) <= place < len(self):
            raise IndexError(f"place {place} of {len(self)} samples")
        [sample] = self._samples(self.order[place].reshape(1))
        return sample

    def __iter__(self) -> Iterator[Sample]:
        for positions in self.order.split(_AT_ONCE):
            yield from self._samples(positions)

    def __repr__(self) -> str:
        return (
            f"<SampleScores: {len(self)} training samples, {self.n_contradicted} contradicted, "
            f"{self.n_memorized} of them memorized>"
        )

    @property
    def n_contradicted(self) -> int:
        """Number of samples whose label the witness speaks against."""
        return int(self._contradicted.sum())

    @property
    def n_memorized(self) -> int:
        """Number of those that the network gives their label, chance included."""
        return int((self._contradicted & (self.predictions == self.labels)).sum())

    @property
    def _contradicted(self) -> Tensor:
        return ~self.evidence.isnan() & (self.witness_labels != self.labels)

    def to_csv(
        self,
        path: str | Path,
        names: Sequence[str] | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Write a table of all samples, worst first; what is not known is left empty.

        Args:
            path: The file to write.
            names: Name of each sample in the order of the training set, a file's for instance:
                column ``file`` in the place of ``index``.
            class_names: Name of each class, to be written in the place of its number.

        Raises:
            ValueError: If there are not as many names as samples.
        """
        self._check_names(names)  # before a file that is there is overwritten
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            for at, positions in enumerate(self.order.split(_AT_ONCE)):
                columns = self._columns(positions, names, class_names)
                if at == 0:
                    writer.writerow(columns)
                writer.writerows(map(_printed, row) for row in zip(*columns.values(), strict=True))

    def to_pandas(
        self, names: Sequence[str] | None = None, *, class_names: Sequence[str] | None = None
    ) -> Any:
        """Return the table that `to_csv` writes as a ``pandas.DataFrame``.

        Raises:
            ImportError: If pandas is not installed.
            ValueError: If there are not as many names as samples.
        """
        return data_frame(self._columns(self.order, names, class_names), "to_csv")

    def _samples(self, positions: Tensor) -> list[Sample]:
        fields = (self.labels, self.witness_labels, self.evidence, self.confidences)
        columns = [values[positions].tolist() for values in (*fields, self.predictions)]
        return [Sample(*row) for row in zip(positions.tolist(), *columns, strict=True)]

    def _check_names(self, names: Sequence[str] | None) -> None:
        if names is not None and len(names) != len(self):
            raise ValueError(f"names has {len(names)} entries for {len(self)} samples")

    def _columns(
        self, positions: Tensor, names: Sequence[str] | None, class_names: Sequence[str] | None
    ) -> dict[str, list[Any]]:
        self._check_names(names)
        return sample_columns(self._samples(positions), names, class_names)


def score_samples(
    model: nn.Module,
    training: LabeledSamples,
    held_out: LabeledSamples,
    *,
    layers: Sequence[str] | None = None,
    forward: Forward | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> SampleScores:
    """Rank a whole training set by how much the witness speaks against each sample's label.

    The measurement is that of `measure_memorization`. Only what the witness and the network say is
    kept of a sample, some forty bytes, so that the training set may be as large as it likes.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> images, labels = torch.rand(80, 1, 8, 8), torch.arange(80) % 2
        >>> scores = score_samples(model, (images[:40], labels[:40]), (images[40:], labels[40:]))
        >>> len(scores), scores[0].evidence <= scores[-1].evidence
        (40, True)

    Args:
        model: Any network with 2-D convolutions. It comes back exactly as it went in.
        training: The training set; see `measure_memorization`. It is gone through once, in its
            order, which a shuffling loader does not keep.
        held_out: Images that the network was not trained on, likewise.
        layers: See `measure_memorization`; the witness is all of these layers together.
        forward: See `measure_memorization`.
        batch_size: Images per forward pass, where they are given as tensors.
        seed: Seed of the division of held-out images into halves, and of whatever the model draws.

    Raises:
        TypeError, UnmeasurableError, ValueError: See `measure_memorization`.
    """
    fitted = fit_held_out(
        model, held_out, layers=layers, forward=forward, batch_size=batch_size, seed=seed
    )
    record = SampleRecord(fitted)
    hear_training(
        model, training, fitted, record.add, forward=forward, batch_size=batch_size, seed=seed
    )
    return record.scores()


@dataclass
class SampleRecord:
    """What the witness and the network say of training samples, batch by batch.

    Args:
        held_out: What hears them.
    """

    held_out: HeldOut
    _labels: list[Tensor] = field(default_factory=list)
    _witness: list[Heard] = field(default_factory=list)
    _network: list[Heard] = field(default_factory=list)

    def add(self, features: BatchFeatures) -> None:
        """Hear a batch; raises `UnmeasurableError` where it has no class labels."""
        self._labels.append(class_labels(features.labels))
        heard = self.held_out.hear(features)
        self._witness.append(heard[JOINT])
        if OUTPUT in heard:
            self._network.append(heard[OUTPUT])

    def scores(self) -> SampleScores:
        """Return the scores of all samples; raises `UnmeasurableError` if none can be measured."""
        if not any(map(len, self._labels)):
            raise UnmeasurableError("there are no training samples")
        labels = torch.cat(self._labels)
        rows = {JOINT: Heard.joined(self._witness)}
        if self._network:
            rows[OUTPUT] = Heard.joined(self._network)
        network = rows.get(OUTPUT, Heard.silent(labels))
        contrast = Contrast.of(labels, self.held_out.labels, self.held_out.classes)
        memorized, error = count_memorized(contrast, rows, labels, self.held_out)
        return SampleScores(
            labels=labels,
            witness_labels=rows[JOINT].answers,
            predictions=network.answers,
            evidence=rows[JOINT].evidence.where(contrast.training, torch.nan),
            confidences=network.evidence.exp(),
            memorized_samples=memorized,
            memorized_error=error,
            left_out=contrast.left_out,
        )


def _printed(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
