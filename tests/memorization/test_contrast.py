"""Training against held-out samples, class by class: by hand and by simulation."""

from __future__ import annotations

import math

import pytest
import torch

from filterwatch.memorization import UnmeasurableError
from filterwatch.memorization.contrast import Contrast

CLASSES = torch.tensor([0, 1])


def test_by_hand() -> None:
    training = torch.tensor([0, 0, 0, 1])
    held_out = torch.tensor([0, 0, 1, 1, 1, 1])
    contrast = Contrast.of(training, held_out, CLASSES)
    value, error = contrast.difference(
        torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.tensor([0.0, 2.0, 4.0, 4.0, 8.0, 8.0])
    )
    assert value == pytest.approx(3 / 4 * (2 - 1) + 1 / 4 * (10 - 6))
    within, other = 2 / (4 - 2), (2 + 16) / (6 - 2)
    assert error**2 == pytest.approx(within / 4 + other * (0.75**2 / 2 + 0.25**2 / 4))


def test_another_mix_of_classes_makes_no_difference() -> None:
    training = torch.tensor([0] * 90 + [1] * 10)
    held_out = torch.tensor([0] * 20 + [1] * 80)
    contrast = Contrast.of(training, held_out, CLASSES)
    evidence = torch.tensor([-0.1, -5.0])  # one class is hard
    assert contrast.difference(evidence[training], evidence[held_out]) == (pytest.approx(0), 0)


def test_the_standard_error_is_that_of_a_simulation() -> None:
    generator = torch.Generator().manual_seed(0)
    training = torch.tensor([0] * 30 + [1] * 10 + [2] * 60)
    held_out = torch.tensor([0] * 20 + [1] * 40 + [2] * 15)
    contrast = Contrast.of(training, held_out, torch.arange(3))
    means = torch.tensor([0.0, -3.0, 2.0])
    found = torch.tensor(
        [
            contrast.difference(
                means[training] + torch.randn(100, generator=generator),
                means[held_out] + 3 * torch.randn(75, generator=generator),
            )
            for _ in range(500)
        ]
    )
    assert abs(float(found[:, 0].mean())) < 0.1
    assert 0.9 < float(found[:, 0].std() / found[:, 1].mean()) < 1.1


def test_samples_that_are_left_out_have_their_reason() -> None:
    training = torch.tensor([0, 0, 1, 2, 4, -100])
    held_out = torch.tensor([0, 0, 1, 3, 4, -100])
    contrast = Contrast.of(training, held_out, torch.tensor([0, 1]))
    assert contrast.training.tolist() == [True, True, True, False, False, False]
    assert contrast.held_out.tolist() == [True, True, True, False, False, False]
    assert contrast.left_out == {
        -100: "not a class",
        2: "no held-out samples",
        3: "no training samples",
        4: "fewer than 10 held-out samples",
    }
    everything = [0.0] * 5
    value, _ = contrast.difference(
        torch.tensor([1.0, 1.0, 1.0, *[torch.nan] * 3]), torch.tensor([*everything, 9.0])
    )
    assert value == pytest.approx(1)


def test_unheard_training_samples_do_not_count() -> None:
    training, held_out = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    values, others = torch.tensor([1.0, 3.0, torch.nan, 5.0, 6.0]), torch.tensor([0.0, 1.0, 2.0, 4])
    heard = torch.tensor([0, 1, 3, 4])
    expected = Contrast.of(training[heard], held_out, CLASSES).difference(values[heard], others)
    assert Contrast.of(training, held_out, CLASSES).difference(values, others) == expected
    values[3:] = torch.nan  # a whole class
    value, error = Contrast.of(training, held_out, CLASSES).difference(values, others)
    assert value == pytest.approx(2 - 0.5)
    assert error > 0


def test_one_sample_of_each_class_has_no_error_to_be_had() -> None:
    contrast = Contrast.of(CLASSES, torch.tensor([0, 0, 1, 1]), CLASSES)
    value, error = contrast.difference(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0, 0, 1]))
    assert value == pytest.approx(0.5)
    assert math.isnan(error)


def test_no_class_in_common_is_refused() -> None:
    with pytest.raises(UnmeasurableError, match=r"training samples \(7, 8\) .* classes 0, 1\)"):
        Contrast.of(torch.tensor([7, 8]), torch.tensor([0, 1] * 10), CLASSES)
