"""What `measure_memorization` found: how much each layer has memorized, and which samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from filterwatch._reports import Report, data_frame, visuals
from filterwatch._words import first_few

_FORMAT = 1
_NUMBERS = ("value", "standard_error", "training_accuracy", "held_out_accuracy")
_OF_SAMPLES = ("labels", "witness_labels", "predictions")


@dataclass(frozen=True)
class Sample:
    """One training sample whose label is in question.

    Attributes:
        index: Its position in the training samples that were measured.
        label: The label that it was given.
        witness_label: The label that the witness would give it.
        evidence: The witness's log posterior of the given label, in nats.
        confidence: The network's probability of the given label; NaN where it gives none.
        prediction: The label that the network gives it; -1 where it gives none.
    """

    index: int
    label: int
    witness_label: int
    evidence: float
    confidence: float
    prediction: int = -1

    @property
    def is_contradicted(self) -> bool:
        """Whether the witness, where it was heard, speaks against the given label."""
        return not math.isnan(self.evidence) and self.witness_label != self.label

    @property
    def is_memorized(self) -> bool:
        """Whether the network gives the label all the same."""
        return self.is_contradicted and self.prediction == self.label


@dataclass(frozen=True, eq=False)
class LayerMemorization:
    """How much more a layer knows of its training samples' labels than of new ones'.

    Attributes:
        kind: ``"convolution"``, ``"activation"`` or ``"linear"``; ``"joint"`` for all hidden layers
            together, ``"output"`` for the network itself.
        value: Mean evidence over the training samples less that over the held-out ones, in nats;
            held-out classes weigh as much as they do among the training samples.
        standard_error: Of ``value``, in nats.
        training_accuracy: Share of the training samples whose label the decoder finds.
        held_out_accuracy: Share of the held-out samples whose label it finds.
        evidence: Evidence for the label of each training sample, in nats, float32 [N]: -20 at the
            least, but for all hidden layers together; NaN for a sample that is not measured.
    """

    kind: str
    value: float
    standard_error: float
    training_accuracy: float
    held_out_accuracy: float
    evidence: Tensor = field(repr=False)

    @property
    def is_significant(self) -> bool:
        """Whether the value lies more than three standard errors from 0, above or below."""
        return abs(self.value) > 3 * self.standard_error


@dataclass(frozen=True, eq=False)
class MemorizationReport(Report):
    """How much each layer has memorized, and which training samples were learned by heart.

    ``print(report)`` shows the layers as a table.

    Attributes:
        layers: Name to `LayerMemorization`, in forward order: the hidden layers, all of them
            together, and last the network's own output, where it puts out logits.
        labels: Label of each training sample, int64 [N].
        witness: Name of the row whose word on labels is taken: all hidden layers together. None of
            them decodes a label as well, and what the last ones have memorized counts for little.
        witness_labels: The label that the witness would give each training sample, int64 [N].
        predictions: The label that the network gives each, int64 [N]; -1 where it gives none.
        memorized_samples: How many training samples are contradicted by the witness and given
            their label by the network all the same, beyond what held-out samples lead to expect. 0
            within ``memorized_error`` where nothing is memorized; NaN without an output.
        memorized_error: Its standard error.
        n_held_out: Number of held-out samples.
        left_out: Class to the reason why its samples are not measured.
        skipped: Layer name, or a number of training samples, to the reason why they are not
            measured.
    """

    layers: dict[str, LayerMemorization]
    labels: Tensor
    witness: str
    witness_labels: Tensor
    predictions: Tensor
    memorized_samples: float
    memorized_error: float
    n_held_out: int
    left_out: dict[int, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def hidden(self) -> dict[str, LayerMemorization]:
        """The hidden layers, one by one."""
        others = ("joint", "output")
        return {name: layer for name, layer in self.layers.items() if layer.kind not in others}

    @property
    def memorization(self) -> float:
        """Memorization of the deepest hidden layer, in nats."""
        return list(self.hidden.values())[-1].value

    @property
    def generalization_gap(self) -> float:
        """Mean log-probability of the label, in training less held-out; NaN without an output."""
        output = self._output
        return math.nan if output is None else output.value

    def contradicted(self, k: int | None = None) -> list[Sample]:
        """Return the training samples whose label the witness speaks against, worst first.

        Wrong labels are among the first. Others are hard: seldom seen, or hardly to be recognized.

        Args:
            k: How many at most; ``None`` returns all.
        """
        return list(islice((each for each in self._ranked() if each.is_contradicted), k))

    def memorized(self, k: int | None = None) -> list[Sample]:
        """Return the contradicted samples that the network gives their label, worst first.

        Args:
            k: How many at most; ``None`` returns all.
        """
        return list(islice((each for each in self._ranked() if each.is_memorized), k))

    @property
    def _output(self) -> LayerMemorization | None:
        last = list(self.layers.values())[-1]
        return last if last.kind == "output" else None

    def _ranked(self) -> Iterator[Sample]:
        """Yield every sample, that of the lowest evidence first, those without any last."""
        evidence, output = self.layers[self.witness].evidence, self._output
        unknown = torch.full_like(evidence, math.nan)
        confidence = unknown if output is None else output.evidence.exp()
        order = evidence.argsort(stable=True)
        values = (self.labels, self.witness_labels, evidence, confidence, self.predictions)
        columns = [value[order].tolist() for value in values]
        return map(Sample, order.tolist(), *columns)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain lists, numbers and strings, NaN as ``None``."""
        return {
            "format": _FORMAT,
            "memorization": _number(self.memorization),
            "generalization_gap": _number(self.generalization_gap),
            "memorized_samples": _number(self.memorized_samples),
            "memorized_error": _number(self.memorized_error),
            "witness": self.witness,
            "n_held_out": self.n_held_out,
            "layers": {
                name: {
                    "kind": layer.kind,
                    **{key: _number(getattr(layer, key)) for key in _NUMBERS},
                    "evidence": [_number(round(value, 4)) for value in layer.evidence.tolist()],
                }
                for name, layer in self.layers.items()
            },
            **{name: getattr(self, name).tolist() for name in _OF_SAMPLES},
            "left_out": {str(label): reason for label, reason in self.left_out.items()},
            "skipped": self.skipped,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MemorizationReport:
        """Return the report that `to_dict` described; ``ValueError`` if it is no such report."""
        known = isinstance(data, Mapping) and data.get("format") == _FORMAT
        if not known or "memorized_samples" not in data:
            raise ValueError(
                f"not a memorization report of format {_FORMAT}: write it again with this version "
                "of filterwatch"
            )
        return cls(
            layers={
                name: LayerMemorization(
                    kind=layer["kind"],
                    evidence=torch.tensor(
                        [_value(value) for value in layer["evidence"]], dtype=torch.float32
                    ),
                    **{key: _value(layer[key]) for key in _NUMBERS},
                )
                for name, layer in data["layers"].items()
            },
            witness=data["witness"],
            memorized_samples=_value(data["memorized_samples"]),
            memorized_error=_value(data["memorized_error"]),
            n_held_out=data["n_held_out"],
            left_out={int(label): reason for label, reason in data["left_out"].items()},
            skipped=dict(data["skipped"]),
            **{name: torch.tensor(data[name], dtype=torch.int64) for name in _OF_SAMPLES},
        )

    def to_pandas(self) -> Any:
        """Return the training samples as a ``pandas.DataFrame``, those most in question first.

        Its columns are those of `SampleScores.to_pandas`. ``ImportError`` if pandas is missing.
        """
        return data_frame(sample_columns(list(self._ranked())), "to_json")

    def plot(self) -> Any:
        """Return a matplotlib figure of the layers' memorization."""
        return visuals().memorization_figure(self)

    def __rich__(self) -> Table:
        table = Table(
            title=f"Memorization of {len(self.labels)} training samples, against "
            f"{self.n_held_out} held-out ones",
            caption=escape("\n".join(self._notes())) or None,
            caption_justify="left",
        )
        table.add_column("layer", overflow="fold")
        for heading in ("nats", "± 1 se", "", "label found: training", "held-out"):
            table.add_column(heading, justify="right")
        for name, layer in self.layers.items():
            table.add_row(
                escape(name),
                f"{layer.value:+.2f}",
                f"{layer.standard_error:.2f}",
                "*" if layer.is_significant else "",
                f"{layer.training_accuracy:.0%}",
                f"{layer.held_out_accuracy:.0%}",
                end_section=name == list(self.hidden)[-1],
            )
        return table

    def _notes(self) -> Iterator[str]:
        yield "*: more than three standard errors from 0"
        if not math.isnan(self.memorized_samples):
            worst = ", ".join(
                f"{sample.index} ({sample.label}, rather {sample.witness_label})"
                for sample in self.memorized(6)
            )
            yield (
                f"memorized samples: {self.memorized_samples:.0f} ± {self.memorized_error:.0f} "
                f"beyond chance; first (label, rather): {worst or 'none'}"
            )
        for reason, labels in _by_reason(self.left_out):
            yield f"not measured, {reason}: class {labels}"
        for reason, names in _by_reason(self.skipped):
            yield f"skipped, {reason}: {names}"

    def __repr__(self) -> str:
        return (
            f"<MemorizationReport: {self.memorization:+.2f} nats in the deepest hidden layer, "
            f"{self.generalization_gap:+.2f} at the output, {len(self.labels)} training samples>"
        )


def sample_columns(
    samples: Sequence[Sample],
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, list[Any]]:
    """Return samples as the columns of a table.

    Args:
        samples: The samples.
        names: Name of each sample of the training set: column ``file`` in the place of ``index``.
        class_names: Name of each class, in the place of its number.
    """
    classes = class_names or ()

    def named(label: int) -> int | str | None:
        if label < 0:
            return None
        return classes[label] if label < len(classes) else label

    return {
        "index" if names is None else "file": [
            each.index if names is None else names[each.index] for each in samples
        ],
        "label": [named(each.label) for each in samples],
        "witness_label": [named(each.witness_label) for each in samples],
        "evidence": [each.evidence for each in samples],
        "confidence": [each.confidence for each in samples],
        "prediction": [named(each.prediction) for each in samples],
        "contradicted": [each.is_contradicted for each in samples],
        "memorized": [each.is_memorized for each in samples],
    }


def _by_reason(reasons: Mapping[Any, str]) -> Iterator[tuple[str, str]]:
    """Yield each reason with a few of what it holds for."""
    for reason in dict.fromkeys(reasons.values()):
        names = [str(name) for name, other in reasons.items() if other == reason]
        yield reason, first_few(names, 8)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _value(number: float | None) -> float:
    return math.nan if number is None else number
