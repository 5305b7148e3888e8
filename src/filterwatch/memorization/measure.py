"""`measure_memorization`: what each layer knows of training labels, beyond those of new images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch._checks import check_integer, check_patterns, check_seed
from filterwatch.batches import (
    Samples,
    as_batches,
    as_tensor,
    count_samples,
    describe,
    few_samples,
    find_labels,
)
from filterwatch.memorization.contrast import Contrast
from filterwatch.memorization.evidence import (
    JOINT,
    OUTPUT,
    Heard,
    HeldOut,
    UnmeasurableError,
    class_labels,
)
from filterwatch.memorization.features import (
    BatchFeatures,
    DecodedLayer,
    FeatureListener,
    find_decoded_layers,
    joined,
)
from filterwatch.memorization.report import LayerMemorization, MemorizationReport
from filterwatch.observing import Forward, observe, preserved_random_state

LabeledSamples = tuple[Tensor, Tensor] | Samples


def measure_memorization(
    model: nn.Module,
    training: LabeledSamples,
    held_out: LabeledSamples,
    *,
    layers: Sequence[str] | None = None,
    forward: Forward | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> MemorizationReport:
    """Measure how much more each layer knows of its training images' labels than of new ones'.

    A layer that generalizes knows as much of a new image as of a training image. So a decoder of
    the label is fitted on held-out images alone, from mean and maximum of each of the layer's maps,
    and the *evidence* that it finds for the labels of training images is compared with that for
    other held-out images. Where nothing has been memorized, the difference is 0 within its standard
    error, by construction. It is below 0 where training labels are wrong more often than held-out
    ones, and the layer says so.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> generator = torch.Generator().manual_seed(0)
        >>> images, labels = torch.rand(80, 1, 8, 8, generator=generator), torch.arange(80) % 2
        >>> report = measure_memorization(
        ...     model, (images[:40], labels[:40]), (images[40:], labels[40:])
        ... )
        >>> list(report.layers)
        ['1', 'hidden layers', 'output']

    Args:
        model: Any network with 2-D convolutions. It comes back exactly as it went in.
        training: Training images [N, C, H, W] and their labels, int64 [N], tensors or NumPy arrays;
            a data set; or an iterable of batches (a DataLoader) that hold both. As evaluation sees
            them, without augmentation: an augmented image is a new one, and the network has
            memorized less of it. They are gone through once, in the order of the data set; kept is
            a number a sample and layer.
        held_out: Images that the network was not trained on, likewise. Ten of a class, at the
            least; classes with fewer are not measured.
        layers: Glob patterns over layer or module names. Default: every convolution, dense layer
            and activation behind one; an activation that follows directly speaks for its layer.
        forward: How a batch goes through the model; called as ``forward(batch)``, it returns the
            logits. Default: the batch's images, on the model's device.
        batch_size: Images per forward pass, where they are given as tensors.
        seed: Seed of the division of held-out images into halves, and of whatever the model draws.

    Raises:
        TypeError: If an argument has the wrong type.
        UnmeasurableError: A ``ValueError``, if the labels are no class indices; fewer than two
            classes have ten held-out images; or there are no training images.
        ValueError: If a pattern of ``layers`` matches nothing, or an argument is out of range.
    """
    fitted = fit_held_out(
        model, held_out, layers=layers, forward=forward, batch_size=batch_size, seed=seed
    )
    record = TrainingRecord(fitted)
    hear_training(
        model, training, fitted, record.add, forward=forward, batch_size=batch_size, seed=seed
    )
    return record.report()


def fit_held_out(
    model: nn.Module,
    held_out: LabeledSamples,
    *,
    layers: Sequence[str] | None = None,
    forward: Forward | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> HeldOut:
    """Fit the decoders of a model's hidden layers on held-out images; see `measure_memorization`.

    Raises:
        TypeError: If an argument has the wrong type.
        UnmeasurableError: See `HeldOut.fit`.
        ValueError: If a pattern of ``layers`` matches nothing, or an argument is out of range.
    """
    check_integer("batch_size", batch_size, 1)
    check_seed(seed)
    check_patterns("layers", layers)
    with preserved_random_state(seed):  # which iterating a DataLoader draws from
        first, batches = _begun(held_out, batch_size, "held_out")
        found = find_decoded_layers(
            model, few_samples(first), layers=layers, forward=forward, seed=seed
        )
        features = read_features(model, batches, found, forward=forward, seed=seed)
        return HeldOut.fit(found, features, seed=seed)


def hear_training(
    model: nn.Module,
    training: LabeledSamples,
    held_out: HeldOut,
    consume: Callable[[BatchFeatures], None],
    *,
    forward: Forward | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> None:
    """Send training images through a model once, and hand over the features of each batch.

    Args:
        model: The network that ``held_out`` was fitted on.
        training: See `measure_memorization`.
        held_out: Its layers are those whose features are wanted.
        consume: Called with the features of each batch: `TrainingRecord.add`, for instance.
        forward: How a batch goes through the model.
        batch_size: Images per forward pass, where they are given as tensors.
        seed: Seed of whatever the model draws.
    """
    with preserved_random_state(seed):
        _, batches = _begun(training, batch_size, "training")
        _follow(model, batches, held_out.layers, consume, forward=forward, seed=seed)


@dataclass
class TrainingRecord:
    """What is heard of training samples, batch by batch.

    Args:
        held_out: What hears them.
    """

    held_out: HeldOut
    _labels: list[Tensor] = field(default_factory=list)
    _heard: list[dict[str, Heard]] = field(default_factory=list)

    def add(self, features: BatchFeatures) -> None:
        """Hear a batch; raises `UnmeasurableError` where it has no class labels."""
        self._labels.append(class_labels(features.labels))
        self._heard.append(self.held_out.hear(features))

    def report(self) -> MemorizationReport:
        """Return the report of all samples; raises `UnmeasurableError` if none can be measured."""
        if not any(map(len, self._labels)):
            raise UnmeasurableError("there are no training samples")
        held_out, labels = self.held_out, torch.cat(self._labels)
        rows = {
            name: Heard.joined([batch[name] for batch in self._heard]) for name in held_out.rows
        }
        contrast = Contrast.of(labels, held_out.labels, held_out.classes)
        skipped = held_out.skipped | _unheard(rows[JOINT], contrast)
        layers = {}
        for name, kind in held_out.rows.items():
            here, there = rows[name], held_out.heard[name]
            value, standard_error = contrast.difference(here.evidence, there.evidence)
            layers[name] = LayerMemorization(
                kind=kind,
                value=value,
                standard_error=standard_error,
                training_accuracy=_share_found(here, contrast.training),
                held_out_accuracy=_share_found(there, contrast.held_out),
                evidence=here.evidence.where(contrast.training, torch.nan),
            )
        memorized, error = count_memorized(contrast, rows, labels, held_out)
        return MemorizationReport(
            layers=layers,
            labels=labels,
            witness=JOINT,
            witness_labels=rows[JOINT].answers,
            predictions=rows[OUTPUT].answers if OUTPUT in rows else torch.full_like(labels, -1),
            memorized_samples=memorized,
            memorized_error=error,
            n_held_out=len(held_out.labels),
            left_out=contrast.left_out,
            skipped=skipped,
        )


def count_memorized(
    contrast: Contrast, rows: Mapping[str, Heard], labels: Tensor, held_out: HeldOut
) -> tuple[float, float]:
    """Return how many training samples are memorized beyond chance, and the standard error.

    Args:
        contrast: Which samples are measured.
        rows: What the joint row and the output say of the training samples.
        labels: Label of each of them, [N].
        held_out: The held-out samples.

    Returns:
        NaN, twice, without an output.
    """
    if OUTPUT not in rows:
        return math.nan, math.nan
    share, error = contrast.difference(
        _learned_by_heart(rows, labels), _learned_by_heart(held_out.heard, held_out.labels)
    )
    n_measured = int(contrast.training.sum())
    return share * n_measured, error * n_measured


def _learned_by_heart(rows: Mapping[str, Heard], labels: Tensor) -> Tensor:
    """Return how far the witness speaks against labels that the network gives, 0 to 1, [N].

    NaN for samples that were not heard.
    """
    learned = rows[JOINT].contradicted * (rows[OUTPUT].answers == labels)
    return learned.where(~rows[JOINT].evidence.isnan(), torch.nan)


def _unheard(joint: Heard, contrast: Contrast) -> dict[str, str]:
    """Return, as `MemorizationReport.skipped` does, that some training samples were not heard."""
    missing = int((joint.evidence.isnan() & contrast.training).sum())
    reason = "a layer did not run for them as for held-out samples, or its output is not finite"
    if missing == int(contrast.training.sum()):
        raise UnmeasurableError(
            f"none of {missing} training samples can be measured: {reason}; leave it out with "
            "`layers`"
        )
    return {f"{missing} training samples": reason} if missing else {}


def _share_found(row: Heard, measured: Tensor) -> float:
    heard = measured & ~row.evidence.isnan()
    return 1 - float(row.contradicted[heard].double().mean())


def read_features(
    model: nn.Module,
    batches: Iterable[Any],
    layers: Sequence[DecodedLayer],
    *,
    forward: Forward | None = None,
    seed: int = 0,
) -> BatchFeatures:
    """Send batches through a model, and return the features of all of them.

    Args:
        model: The network. It comes back exactly as it went in.
        batches: What goes through it.
        layers: The layers to read, as `find_decoded_layers` returns them.
        forward: How a batch goes through the model.
        seed: Seed of whatever the model draws.
    """
    gathered: list[BatchFeatures] = []
    _follow(model, batches, layers, gathered.append, forward=forward, seed=seed)
    return joined(gathered)


def _follow(
    model: nn.Module,
    batches: Iterable[Any],
    layers: Sequence[DecodedLayer],
    consume: Callable[[BatchFeatures], None],
    *,
    forward: Forward | None = None,
    seed: int = 0,
) -> None:
    listener = FeatureListener({layer.name for layer in layers}, consume)
    observe(model, batches, _ignore, layers=(), forward=forward, seed=seed, listener=listener)


def _ignore(name: str, maps: Tensor) -> None:
    """Take feature maps that nobody wants."""


def _begun(samples: LabeledSamples, batch_size: int, name: str) -> tuple[Any, Iterator[Any]]:
    """Return the first batch, and an iterator over all of them."""
    if isinstance(as_tensor(samples), Tensor):
        raise TypeError(
            f"{name} is a tensor without labels: pass (images, labels), or batches that hold both"
        )
    batches = as_batches(samples, batch_size, name)
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise UnmeasurableError(f"{name} holds no batches")
    n_samples = None
    with suppress(ValueError):  # of images that only `forward` finds
        n_samples = count_samples(first)
    if n_samples is not None:
        class_labels(find_labels(first, n_samples), f"{name}, a batch of {describe(first)}")
    return first, chain([first], iterator)
