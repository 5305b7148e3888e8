"""The decoder against scikit-learn, its invariances, and what it makes of a network's output."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from filterwatch.memorization import EVIDENCE_FLOOR, Decoder, halve, log_probabilities
from filterwatch.memorization.decoder import _leading_directions, evidence_of, shrunk_covariance


def clouds(n: int = 120, n_features: int = 6, n_classes: int = 3, seed: int = 0) -> tuple:
    """Return features around a center for each class, correlated, and unevenly many labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator).square() * n_classes).long()
    labels[: 2 * n_classes] = torch.arange(2 * n_classes) % n_classes
    centers = torch.randn(n_classes, n_features, generator=generator)
    mixing = torch.randn(n_features, n_features, generator=generator)
    noise = torch.randn(n, n_features, generator=generator) @ mixing
    return centers[labels] + noise, labels


@pytest.mark.parametrize(("n", "n_features"), [(200, 5), (30, 60), (50, 50)])
def test_shrinkage_is_that_of_scikit_learn(n: int, n_features: int) -> None:
    points, _ = clouds(n, n_features)
    points = (points - points.mean(0)).double()
    expected, intensity = ledoit_wolf(points.numpy(), assume_centered=True)
    assert 0.005 < intensity < 1
    torch.testing.assert_close(shrunk_covariance(points), torch.from_numpy(expected), rtol=1e-6,
                               atol=1e-8)  # fmt: skip


class Within(BaseEstimator):
    """Gives scikit-learn, class by class, the covariance common to all classes."""

    def __init__(self, covariance: object = None) -> None:
        self.covariance = covariance

    def fit(self, points: object) -> Within:
        self.covariance_ = self.covariance
        return self


def test_the_posterior_is_that_of_scikit_learn() -> None:
    features, labels = clouds()
    standard = ((features - features.mean(0)) / features.std(0, correction=0)).double()
    means = torch.stack([standard[labels == label].mean(0) for label in range(3)])
    within = shrunk_covariance(standard - means[labels]) * 120 / 117
    reference = LinearDiscriminantAnalysis(
        solver="lsqr", covariance_estimator=Within(within.numpy())
    ).fit(standard.numpy(), labels.numpy())
    expected = torch.from_numpy(reference.predict_log_proba(standard.numpy()))
    found = Decoder.fit(features, labels).log_posterior(features)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert 0.5 < float((found.argmax(1) == labels).double().mean()) < 1


@settings(max_examples=10, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 1000), st.sampled_from([6, 90, 200]))
def test_scales_shifts_and_orders_make_no_difference(seed: int, n_features: int) -> None:
    features, labels = clouds(n_features=n_features, seed=seed)
    other, _ = clouds(n_features=n_features, seed=seed + 1)
    expected = Decoder.fit(features, labels).log_posterior(other)
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (6 * torch.rand(n_features, generator=generator, dtype=torch.float64) - 3)
    shift = 10 * torch.randn(n_features, generator=generator, dtype=torch.float64) * scale
    places = torch.randperm(n_features, generator=generator)
    samples = torch.randperm(len(labels), generator=generator)

    def changed(values: Tensor) -> Tensor:
        return (values.double() * scale + shift)[:, places]

    found = Decoder.fit(changed(features)[samples], labels[samples]).log_posterior(changed(other))
    assert float((found - expected).abs().max()) < (1e-4 if n_features == 6 else 0.02)


def test_classes_have_any_names() -> None:
    features, labels = clouds()
    names = torch.tensor([70, 3, 100_000_000_000])
    found = Decoder.fit(features, names[labels])
    assert found.classes.tolist() == [3, 70, 100_000_000_000]
    expected = Decoder.fit(features, labels).log_posterior(features)[:, [1, 0, 2]]
    torch.testing.assert_close(found.log_posterior(features), expected)


def test_constant_and_repeated_features_add_nothing() -> None:
    features, labels = clouds()
    expected = Decoder.fit(features, labels).log_posterior(features)
    constant = torch.full((len(labels), 2), 1e6) * (1 + 1e-7 * torch.rand(len(labels), 2))
    found = Decoder.fit(torch.cat([features, constant], 1), labels)
    assert float(found.weights[6:].abs().max()) == 0
    torch.testing.assert_close(
        found.log_posterior(torch.cat([features, constant], 1)), expected, rtol=0, atol=1e-6
    )
    repeated = torch.cat([features] * 30, 1)  # of rank 6 among 180
    answers = Decoder.fit(repeated, labels).log_posterior(repeated).argmax(1)
    assert float((answers == expected.argmax(1)).double().mean()) > 0.85


def test_features_that_vary_in_the_other_half_alone_say_nothing() -> None:
    labels = torch.arange(20) % 2
    decoder = Decoder.fit(torch.ones(20, 3), labels)
    torch.testing.assert_close(decoder.log_posterior(torch.randn(5, 3)).exp(),
                               torch.full((5, 2), 0.5).double())  # fmt: skip


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("n_samples", "n_features", "least"), [(300, 200, 1), (200, 700, 1), (700, 650, 0.88)]
)
def test_directions_hold_the_variance_of_the_leading_components(
    n_samples: int, n_features: int, least: float, decay: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.arange(1, n_features + 1, dtype=torch.float64) ** -decay
    points = torch.randn(n_samples, n_features, generator=generator, dtype=torch.float64) * spread
    basis = _leading_directions(points, 100)
    assert basis is not None
    basis = basis.double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(100).double(), rtol=0, atol=0.01)
    held = float((points @ basis).square().sum())
    most = float(torch.linalg.svdvals(points)[:100].square().sum())
    assert (least - 1e-4) * most < held < most * (1 + 1e-4)


@pytest.mark.parametrize(("n_samples", "n_features"), [(100, 300), (610, 605)])
def test_wide_layers_are_decoded_alike_on_any_number_of_threads(
    n_samples: int, n_features: int
) -> None:
    features, labels = clouds(n_samples, n_features)
    threads = torch.get_num_threads()
    try:
        one = Decoder.fit(features, labels).log_posterior(features)
        torch.set_num_threads(2)
        two = Decoder.fit(features, labels).log_posterior(features)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, Decoder.fit(features, labels).log_posterior(features))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_a_thousand_classes_of_ten_samples() -> None:
    labels = torch.arange(5000) % 1000
    features = torch.randn(1000, 40)[labels] + 0.1 * torch.randn(5000, 40)
    posterior = Decoder.fit(features, labels).log_posterior(features)
    assert posterior.shape == (5000, 1000)
    assert float((posterior.argmax(1) == labels).double().mean()) > 0.95


def test_halves_are_even_in_each_class() -> None:
    labels = torch.tensor([0] * 10 + [1] * 9 + [5] * 23 + [-1] * 30)
    halves = halve(labels, torch.Generator().manual_seed(0))
    assert halves[:10].sum() == 5
    assert set(halves[10:19].tolist()) == {-1}
    assert halves[19:42].sum() in (11, 12)
    assert set(halves[42:].tolist()) == {-1}
    assert torch.equal(halves, halve(labels, torch.Generator().manual_seed(0)))
    assert not torch.equal(halves, halve(labels, torch.Generator().manual_seed(1)))


def test_evidence_is_floored_and_unknown_for_other_classes() -> None:
    posterior = torch.tensor([[-0.1, -30.0], [-torch.inf, 0.0], [torch.nan, torch.nan], [-1, -1]])
    found = evidence_of(posterior, torch.tensor([2, 7]), torch.tensor([7, 2, 2, 3]))
    assert found[:2].tolist() == [EVIDENCE_FLOOR] * 2
    assert found[2:].isnan().all()
    below, above = torch.tensor([-100, 2]), torch.tensor([9, 7])
    assert evidence_of(posterior[:2], torch.tensor([2, 7]), below).isnan().tolist() == [True, False]
    assert evidence_of(posterior[:2], torch.tensor([2, 7]), above).isnan().tolist() == [True, False]


def test_outputs_of_any_kind_are_understood() -> None:
    logits = torch.randn(20, 4, dtype=torch.float64)
    expected = logits.log_softmax(1)
    for given_ in (logits, logits + 7, expected, logits.softmax(1)):
        torch.testing.assert_close(log_probabilities(given_), expected)
    half = log_probabilities(logits.softmax(1).bfloat16())
    torch.testing.assert_close(half, expected, rtol=0.02, atol=0.02)
    with_nan = logits.softmax(1)
    with_nan[3] = torch.nan
    torch.testing.assert_close(log_probabilities(with_nan)[:3], expected[:3])
    assert log_probabilities(with_nan)[3].isnan().all()


def test_one_logit_is_that_of_the_second_of_two_classes() -> None:
    logit = torch.tensor([[2.0], [-3.0], [0.0]], dtype=torch.float64)
    expected = torch.cat([(-logit).sigmoid(), logit.sigmoid()], 1).log()
    torch.testing.assert_close(log_probabilities(logit), expected)
