"""A whole training set, worst first."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from filterwatch import SampleScores, measure_memorization, score_samples
from filterwatch.memorization import UnmeasurableError

N_TRAINING = 250
N_WRONG = 25
Digits = tuple[Tensor, Tensor]


class Network(nn.Module):
    def __init__(self, *, with_head: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.dense = nn.Linear(16 * 9, 64)
        self.head = nn.Linear(64, 4) if with_head else None

    def forward(self, images: Tensor) -> Tensor | None:
        maps = functional.max_pool2d(functional.relu(self.conv(images)), 2)
        units = functional.relu(self.dense(maps.flatten(1)))
        return None if self.head is None else self.head(units)


def zeros_to_threes() -> tuple[Digits, Digits]:
    """Return training images, the first `N_WRONG` with wrong labels, and held-out ones."""
    bunch = load_digits(n_class=4)
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(bunch.target).long()
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    training, held_out = shuffled[:N_TRAINING], shuffled[N_TRAINING:]
    given = labels[training]
    given[:N_WRONG] = (given[:N_WRONG] + 1) % 4
    return (images[training], given), (images[held_out], labels[held_out])


@pytest.fixture(scope="module")
def digits() -> tuple[Digits, Digits]:
    return zeros_to_threes()


@pytest.fixture(scope="module")
def network(digits: tuple[Digits, Digits]) -> Network:
    """One that has learned the training labels by heart, wrong ones included."""
    (images, labels), _ = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Network()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert torch.equal(model(images).argmax(1), labels)
    return model.eval()


@pytest.fixture(scope="module")
def scores(network: Network, digits: tuple[Digits, Digits]) -> SampleScores:
    return score_samples(network, *digits)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_wrong_labels_that_were_learned_by_heart_come_first(scores: SampleScores) -> None:
    assert len(scores) == N_TRAINING
    first = scores[:N_WRONG]
    assert sum(sample.index < N_WRONG for sample in first) >= 0.9 * N_WRONG
    assert sum(sample.is_memorized for sample in first) >= 0.9 * N_WRONG
    assert abs(scores.memorized_samples - N_WRONG) < 4 * scores.memorized_error
    assert "250 training samples" in repr(scores)


def test_it_says_what_the_report_says(
    network: Network, digits: tuple[Digits, Digits], scores: SampleScores
) -> None:
    report = measure_memorization(network, *digits)
    assert torch.equal(scores.evidence, report.layers[report.witness].evidence)
    assert torch.equal(scores.witness_labels, report.witness_labels)
    assert torch.equal(scores.predictions, report.predictions)
    assert (scores.memorized_samples, scores.memorized_error) == (
        report.memorized_samples,
        report.memorized_error,
    )
    contradicted = [sample for sample in scores if sample.is_contradicted]
    memorized = [sample for sample in scores if sample.is_memorized]
    expected = report.contradicted()
    for ours, theirs in zip(contradicted, expected, strict=True):
        assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-5)
    assert [each.index for each in contradicted] == [each.index for each in expected]
    assert [each.index for each in memorized] == [each.index for each in report.memorized()]
    assert (scores.n_contradicted, scores.n_memorized) == (len(contradicted), len(memorized))


def test_batches_are_let_go_as_they_pass(
    network: Network, digits: tuple[Digits, Digits], scores: SampleScores
) -> None:
    (images, labels), held_out = digits
    asked: list[int] = []

    def batches() -> Iterator[Digits]:
        for rows in torch.arange(N_TRAINING).split(40):
            asked.append(len(rows))
            yield images[rows], labels[rows]

    streamed = score_samples(network, batches(), held_out)
    assert sum(asked) == N_TRAINING  # once through
    assert torch.allclose(streamed.evidence, scores.evidence, atol=1e-4)
    # A handful of numbers a sample, whatever the number of layers.
    kept = [value for value in vars(streamed).values() if isinstance(value, Tensor)]
    assert sum(value.nbytes for value in kept) <= 40 * N_TRAINING


def test_it_is_a_sequence(scores: SampleScores) -> None:
    samples = list(scores)
    assert [sample.evidence for sample in samples] == sorted(each.evidence for each in samples)
    assert sorted(sample.index for sample in samples) == list(range(N_TRAINING))
    assert scores[3] == samples[3]
    assert scores[-1] == samples[-1]
    assert scores[2:5] == samples[2:5]
    with pytest.raises(IndexError, match="place 250 of 250"):
        scores[N_TRAINING]


def test_the_table(scores: SampleScores, tmp_path: Path) -> None:
    scores.to_csv(tmp_path / "plain.csv")
    rows = rows_of(tmp_path / "plain.csv")
    assert [int(row["index"]) for row in rows] == scores.order.tolist()
    for row, sample in zip(rows, scores, strict=True):
        assert int(row["label"]) == sample.label
        assert int(row["witness_label"]) == sample.witness_label
        assert float(row["evidence"]) == pytest.approx(sample.evidence, rel=1e-3)
        assert float(row["confidence"]) == pytest.approx(sample.confidence, rel=1e-3)
        assert int(row["prediction"]) == sample.prediction
        assert row["contradicted"] == str(sample.is_contradicted)
        assert row["memorized"] == str(sample.is_memorized)


def test_names_stand_in_the_place_of_numbers(scores: SampleScores, tmp_path: Path) -> None:
    files = [f'cats, "and" dogs/{position}.png' for position in range(N_TRAINING)]
    path = tmp_path / "named.csv"
    scores.to_csv(path, files, class_names=["ö", "one", "two", "three"])
    first, worst = rows_of(path)[0], scores[0]
    assert "index" not in first
    assert first["file"] == files[worst.index]
    assert first["label"] == ["ö", "one", "two", "three"][worst.label]
    with pytest.raises(ValueError, match="names has 1 entries for 250 samples"):
        scores.to_csv(path, ["one.png"])


def test_a_class_without_held_out_samples_comes_last(
    network: Network, digits: tuple[Digits, Digits], tmp_path: Path
) -> None:
    training, (images, labels) = digits
    known = labels != 2
    scores = score_samples(network, training, (images[known], labels[known]))
    n_unknown = int((training[1] == 2).sum())
    assert scores.left_out == {2: "no held-out samples"}
    assert {sample.label for sample in scores[-n_unknown:]} == {2}
    assert not any(sample.is_contradicted for sample in scores[-n_unknown:])
    assert 2 not in {sample.label for sample in scores[:-n_unknown]}
    scores.to_csv(tmp_path / "scores.csv")
    assert rows_of(tmp_path / "scores.csv")[-1]["evidence"] == ""


def test_a_network_without_logits_has_a_witness_all_the_same(
    digits: tuple[Digits, Digits], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    scores = score_samples(Network(with_head=False), *digits)
    assert sum(sample.index < N_WRONG for sample in scores[:N_WRONG]) > 0.7 * N_WRONG
    assert scores.n_memorized == 0
    assert scores.memorized_samples != scores.memorized_samples  # NaN
    scores.to_csv(tmp_path / "scores.csv")
    row = rows_of(tmp_path / "scores.csv")[0]
    assert (row["confidence"], row["prediction"]) == ("", "")


def test_a_data_frame_where_pandas_is_there(
    scores: SampleScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    table = scores.to_pandas(class_names=["a", "b", "c", "d"])
    assert table["index"] == scores.order.tolist()
    assert table["evidence"] == [sample.evidence for sample in scores]
    assert set(table["label"]) == {"a", "b", "c", "d"}
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas, or write a file with to_csv"):
        scores.to_pandas()


def test_samples_that_cannot_be_scored_are_refused(
    network: Network, digits: tuple[Digits, Digits]
) -> None:
    (images, labels), held_out = digits
    with pytest.raises(UnmeasurableError, match="no class labels"):
        score_samples(network, [(images, labels.float())], held_out)
    with pytest.raises(UnmeasurableError, match="same classes, numbered alike"):
        score_samples(network, (images, labels + 100), held_out)
    with pytest.raises(UnmeasurableError, match="training holds no batches"):
        score_samples(network, [], held_out)
