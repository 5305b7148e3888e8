"""From features to evidence: decoders fitted on held-out samples, heard on others as they pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from filterwatch.memorization.decoder import (
    EVIDENCE_FLOOR,
    FEWEST_IN_HALF,
    Decoder,
    evidence_of,
    halve,
)
from filterwatch.memorization.features import BatchFeatures, DecodedLayer

# Names of the rows that belong to no single layer: all hidden ones together, and the network.
JOINT = "hidden layers"
OUTPUT = "output"


class UnmeasurableError(ValueError):
    """Samples by which memorization cannot be measured."""


@dataclass(frozen=True)
class Heard:
    """What one row says of N samples.

    Attributes:
        evidence: For each sample's own label, in nats, float32 [N], at least -20 of a single layer;
            NaN where it is not measured.
        answers: The label that it would give each, int64 [N].
        contradicted: Share of its decoders that would not give the sample its label, float32 [N].
            Held-out samples are heard by one decoder and others by both, which know better
            together: counts must go by this rather than by ``answers``.
    """

    evidence: Tensor
    answers: Tensor
    contradicted: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Heard]) -> Heard:
        """Return what is said of several batches as of one."""
        return cls(
            torch.cat([part.evidence for part in parts]),
            torch.cat([part.answers for part in parts]),
            torch.cat([part.contradicted for part in parts]),
        )

    @classmethod
    def silent(cls, labels: Tensor) -> Heard:
        """Return what nobody says of samples."""
        unknown = torch.full(labels.shape, torch.nan)
        return cls(unknown, torch.full_like(labels, -1), unknown)


@dataclass(frozen=True)
class HeldOut:
    """The held-out samples: what decoders have learned from each half, and say of the other.

    Attributes:
        layers: The hidden layers that have decoders, in forward order.
        decoders: For each, those of the first and of the second half.
        classes: The labels that they know, ascending, int64 [K].
        labels: Label of each held-out sample, int64 [M].
        heard: For each row, what it says of them; see `rows`.
        skipped: Layer name to the reason why it has no decoders.
    """

    layers: list[DecodedLayer]
    decoders: dict[str, tuple[Decoder, Decoder]]
    classes: Tensor
    labels: Tensor
    heard: dict[str, Heard]
    skipped: dict[str, str]

    @property
    def rows(self) -> dict[str, str]:
        """Name and kind of every row: the hidden layers, all together, the network if it can."""
        kinds = {layer.name: layer.kind for layer in self.layers}
        return kinds | {JOINT: "joint"} | ({OUTPUT: "output"} if OUTPUT in self.heard else {})

    @classmethod
    def fit(
        cls, layers: Sequence[DecodedLayer], features: BatchFeatures, *, seed: int = 0
    ) -> HeldOut:
        """Fit decoders on held-out samples.

        Args:
            layers: The hidden layers.
            features: Those of all held-out samples.
            seed: Seed of the division into halves.

        Raises:
            UnmeasurableError: If the samples have no class labels, there are fewer than two classes
                of at least ten samples, or no hidden layer can be decoded.
        """
        labels = checked_labels(features.labels)
        halves = halve(labels, torch.Generator().manual_seed(seed))
        members = [(halves == half).nonzero().flatten() for half in (0, 1)]
        decoders: dict[str, tuple[Decoder, Decoder]] = {}
        skipped: dict[str, str] = {}
        for layer in layers:
            values = features.layers.get(layer.name)
            reason = _unusable(values, layer, len(labels))
            if values is None or reason is not None:
                skipped[layer.name] = reason or ""
                continue
            first, second = (Decoder.fit(values[half], labels[half]) for half in members)
            decoders[layer.name] = first, second
        if not decoders:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
            raise UnmeasurableError(
                f"no hidden layer can be decoded ({reasons or 'there is none'})"
            )
        kept = [layer for layer in layers if layer.name in decoders]
        classes = labels[members[0]].unique()
        other = (halves == 0).unsqueeze(1)  # each sample is heard by the half that lacks it
        heard = {
            name: _heard(torch.where(other, second, first), classes, labels, name)
            for name, (first, second) in _posteriors(decoders, features.layers)
        }
        for row in heard.values():
            row.evidence[halves < 0] = torch.nan
        reason = _no_answer(features.logits, labels)
        if features.logits is None or reason is not None:
            skipped[OUTPUT] = reason or ""
        else:
            heard[OUTPUT] = _network(features.logits, labels)
        return cls(kept, decoders, classes, labels, heard, skipped)

    def hear(self, features: BatchFeatures) -> dict[str, Heard]:
        """Return what each row says of a batch of samples that no decoder was fitted on.

        Samples for which one row is missing or not finite are measured in none, so that all rows
        are about the same samples, and all of them together about the same layers.

        Raises:
            UnmeasurableError: If they have no class labels.
        """
        labels = class_labels(features.labels)
        layers = {
            name: _filled(features.layers.get(name), first, len(labels))
            for name, (first, _) in self.decoders.items()
        }
        heard = {}
        for name, (first, second) in _posteriors(self.decoders, layers):
            one, other = (_heard(each, self.classes, labels, name) for each in (first, second))
            heard[name] = Heard(
                (one.evidence + other.evidence) / 2,
                self.classes[(first + second).argmax(1)],
                (one.contradicted + other.contradicted) / 2,
            )
        if OUTPUT in self.heard:
            logits = features.logits
            heard[OUTPUT] = Heard.silent(labels) if logits is None else _network(logits, labels)
        unheard = torch.stack([row.evidence.isnan() for row in heard.values()]).any(0)
        unheard &= torch.isin(labels, self.classes)
        for row in heard.values():
            row.evidence[unheard] = torch.nan
        return heard


def class_labels(labels: Tensor | None, samples: str = "the samples") -> Tensor:
    """Return the labels [N] of samples; raises `UnmeasurableError` where there are none."""
    if labels is None:
        raise UnmeasurableError(
            f"{samples}: no class labels, integers [N], beside the images. Memorization is about "
            "what layers know of classes, not of real-valued, soft, or several targets"
        )
    return labels


def checked_labels(labels: Tensor | None) -> Tensor:
    """Return held-out labels [N]; raises `UnmeasurableError` where they are too few to decode."""
    found = class_labels(labels)
    counts = found[found >= 0].unique(return_counts=True)[1]
    n_classes = int((counts >= 2 * FEWEST_IN_HALF).sum())
    if len(counts) == len(found) > 2:
        raise UnmeasurableError(
            f"{len(found)} held-out samples with a label of its own each, as an index would be: "
            "pass batches of (images, labels), or of a mapping with 'image' and 'label'"
        )
    if n_classes < 2:
        raise UnmeasurableError(
            f"{len(found)} held-out samples of {len(counts)} classes: {n_classes} of them have the "
            f"{2 * FEWEST_IN_HALF} samples that a decoder needs, and two are wanted: take more "
            "held-out samples"
        )
    return found


def log_probabilities(logits: Tensor) -> Tensor:
    """Return the log probabilities [N, K] that a network's output [N, K] stands for.

    Logits, their log-softmax, probabilities that add up to 1, and a single logit or probability
    [N, 1] of the second of two classes are all understood; a single one is taken for a probability
    where none lies outside of 0 to 1.
    """
    values = logits.double()
    if values.shape[1] == 1:
        single = values[~values.isnan()]
        if bool(((single >= 0) & (single <= 1)).all()):
            values = torch.cat([1 - values, values], 1)
        else:
            values = torch.cat([torch.zeros_like(values), values], 1)
    known = values[~values.isnan().any(1)]
    adds_up = (known.sum(1) - 1).abs() < 0.01  # as exactly as half precision allows
    if bool((known >= 0).all()) and bool(adds_up.all()):
        values = values.log()
    return values.log_softmax(1)


def _posteriors(
    decoders: Mapping[str, tuple[Decoder, Decoder]], features: Mapping[str, Tensor]
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Yield the log posteriors [N, K] of each layer by each half, and of all layers together.

    Together they say the mean of what each of them says.
    """
    sums: list[Tensor] = []
    for name, halves in decoders.items():
        values = features[name]
        first, second = (decoder.log_posterior(values) for decoder in halves)
        sums = [first, second] if not sums else [sums[0] + first, sums[1] + second]
        yield name, (first, second)
    first, second = ((total / len(decoders)).log_softmax(1) for total in sums)
    yield JOINT, (first, second)


def _heard(posterior: Tensor, classes: Tensor, labels: Tensor, name: str) -> Heard:
    # Samples are ranked by what all layers say together: a floor would make the worst ones alike.
    floor = -torch.inf if name == JOINT else EVIDENCE_FLOOR
    evidence = evidence_of(posterior, classes, labels, floor=floor).float()
    answers = classes[posterior.argmax(1)]
    return Heard(evidence, answers, (answers != labels).float())


def _network(logits: Tensor, labels: Tensor) -> Heard:
    posterior = log_probabilities(logits)
    return _heard(posterior, torch.arange(posterior.shape[1]), labels, OUTPUT)


def _no_answer(logits: Tensor | None, labels: Tensor) -> str | None:
    """Return the reason why a network's output says nothing of labels; ``None`` if it does."""
    if logits is None:
        return (
            "the forward pass returns no logits [N, classes], or other numbers [N, K] beside them: "
            "return the logits alone (`forward`, or `probe_step` of the callback)"
        )
    n_classes = max(logits.shape[1], 2)
    if n_classes <= int(labels.max()):
        return f"{n_classes} outputs for labels up to {int(labels.max())}"
    if bool(log_probabilities(logits).isnan().any()):  # a class may be ruled out, at minus infinity
        return "the outputs are not finite"
    return None


def _filled(values: Tensor | None, decoder: Decoder, n_samples: int) -> Tensor:
    """Return features as they are; NaN in the place of those that do not fit their decoder."""
    expected = (n_samples, len(decoder.weights))
    return torch.full(expected, torch.nan) if values is None or values.shape != expected else values


def _unusable(values: Tensor | None, layer: DecodedLayer, n_samples: int) -> str | None:
    if values is None:
        return "it does not put out the same numbers, one row a sample, for every batch"
    if len(values) != n_samples:
        return f"it put out {len(values)} values for {n_samples} samples"
    if values.shape[1] not in (layer.n_channels, 2 * layer.n_channels):
        return f"it has {layer.n_channels} channels for some samples, and other numbers for all"
    if not bool(values.isfinite().all()):
        return "its output is not finite"
    if bool((values == values[0]).all()):
        return "its output is the same for every sample"
    return None
