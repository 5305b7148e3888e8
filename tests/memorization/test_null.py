"""Where nothing is memorized the value is 0 within its standard error; where something is, not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from filterwatch.memorization import (
    JOINT,
    OUTPUT,
    BatchFeatures,
    DecodedLayer,
    HeldOut,
    MemorizationReport,
    TrainingRecord,
)

WIDTHS = {"narrow": 8, "wide": 150}  # the wide one is projected
LAYERS = [DecodedLayer(name, "activation", width) for name, width in WIDTHS.items()]


def centers(n_classes: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(n_classes, width, generator=generator)
            for name, width in WIDTHS.items()}  # fmt: skip


def drawn(n: int, generator: torch.Generator, *, n_classes: int, signal: float) -> BatchFeatures:
    """Return features that know a little of the labels."""
    labels = torch.arange(n) % n_classes
    layers = {
        name: torch.randn(n, len(center.T), generator=generator) + signal * center[labels]
        for name, center in centers(n_classes).items()
    }
    logits = torch.randn(n, n_classes, generator=generator)
    logits[torch.arange(n), labels] += signal
    return BatchFeatures(layers, logits, labels)


def measured(training: BatchFeatures, held_out: BatchFeatures, seed: int) -> MemorizationReport:
    record = TrainingRecord(HeldOut.fit(LAYERS, held_out, seed=seed))
    record.add(training)
    return record.report()


# Fitted on what it judges, a decoder would put the ratio's mean far below 0. Where layers know
# next to nothing, what each half finds by chance helps or harms both alike: a spread of up to 1.25.
@pytest.mark.parametrize(("n_classes", "signal"), [(2, 0.1), (4, 0.15), (10, 0.2)])
def test_the_ratio_to_the_standard_error_is_that_of_chance(n_classes: int, signal: float) -> None:
    generator = torch.Generator().manual_seed(n_classes)
    ratios, memorized = [], []
    for seed in range(100):
        training = drawn(150, generator, n_classes=n_classes, signal=signal)
        held_out = drawn(200, generator, n_classes=n_classes, signal=signal)
        report = measured(training, held_out, seed)
        ratios.append([layer.value / layer.standard_error for layer in report.layers.values()])
        memorized.append(report.memorized_samples / report.memorized_error)
    found = torch.tensor(ratios)
    assert list(report.layers) == ["narrow", "wide", JOINT, OUTPUT]
    for row in [*found.T, torch.tensor(memorized)]:
        assert abs(float(row.mean())) < 0.35
        assert 0.8 < float(row.std()) < 1.3
    assert float((found.abs() > 3).double().mean()) <= 0.02


def test_a_layer_that_knows_its_training_labels_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    held_out = drawn(200, generator, n_classes=4, signal=0.3)
    training = drawn(150, generator, n_classes=4, signal=0.3)
    before = measured(training, held_out, 0)
    assert training.labels is not None
    training.layers["wide"] += 0.3 * centers(4)["wide"][training.labels]
    report = measured(training, held_out, 0)
    assert report.layers["wide"].is_significant
    assert report.layers["wide"].value > 0.05
    assert report.memorization == report.layers["wide"].value
    assert not report.layers["narrow"].is_significant
    assert report.layers["narrow"].value == before.layers["narrow"].value
    assert report.layers[JOINT].is_significant


def test_samples_learned_by_heart_are_counted_and_ranked() -> None:
    generator = torch.Generator().manual_seed(0)
    held_out = drawn(400, generator, n_classes=4, signal=1.0)
    training = drawn(200, generator, n_classes=4, signal=1.0)
    assert training.labels is not None
    assert training.logits is not None
    wrong = torch.arange(0, 200, 5)
    true = training.labels[wrong].clone()
    training.labels[wrong] = (true + 1) % 4
    honest = measured(training, held_out, 0)
    assert abs(honest.memorized_samples) < 4 * honest.memorized_error
    assert honest.layers["wide"].value < -3 * honest.layers["wide"].standard_error
    training.logits[wrong] = 0.0
    training.logits[wrong, training.labels[wrong]] = 20.0
    report = measured(training, held_out, 0)
    assert abs(report.memorized_samples - 40) < 4 * report.memorized_error
    worst = report.memorized(30)
    assert {sample.index for sample in worst} <= set(wrong.tolist())
    assert [sample.evidence for sample in worst] == sorted(sample.evidence for sample in worst)
    sample = worst[0]
    assert sample.label == int(training.labels[sample.index])
    assert sample.witness_label == (sample.label - 1) % 4
    assert sample.confidence == pytest.approx(1, abs=1e-4)


def test_samples_in_any_batches_and_order_give_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    held_out = drawn(200, generator, n_classes=4, signal=0.3)
    training = drawn(150, generator, n_classes=4, signal=0.3)
    expected = measured(training, held_out, 0)
    order = torch.randperm(150, generator=generator)
    record = TrainingRecord(HeldOut.fit(LAYERS, held_out, seed=0))
    assert training.labels is not None
    assert training.logits is not None
    for part in order.split(17):
        layers = {name: values[part] for name, values in training.layers.items()}
        record.add(BatchFeatures(layers, training.logits[part], training.labels[part]))
    found = record.report()
    for name, layer in found.layers.items():
        assert layer.value == pytest.approx(expected.layers[name].value, abs=1e-6)
        assert layer.standard_error == pytest.approx(expected.layers[name].standard_error, abs=1e-6)
        torch.testing.assert_close(layer.evidence, expected.layers[name].evidence[order])
