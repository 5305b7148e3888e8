"""Which samples a probe takes of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from filterwatch.watching import (
    choose_samples,
    dataset_labels,
    reservoir,
    sample_pool,
)


class Unreadable(Dataset[Any]):
    """A data set with labels, whose images nobody should read to learn them."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        raise AssertionError(f"image {index} was read")


def test_classes_keep_their_proportions_whatever_their_order() -> None:
    labels = np.repeat(["cat", "dog", "eel"], [600, 300, 100])
    chosen = choose_samples(range(1000), labels, 50, seed=0)
    assert Counter(labels[chosen].tolist()) == {"cat": 30, "dog": 15, "eel": 5}
    assert chosen == sorted(set(chosen))
    assert chosen != choose_samples(range(1000), labels, 50, seed=1)
    assert chosen == choose_samples(range(1000), labels, 50, seed=0)


def test_without_labels_samples_come_from_everywhere() -> None:
    chosen = choose_samples(range(1000), None, 100, seed=0)
    assert len(set(chosen)) == 100
    assert all(min(abs(index - place) for index in chosen) < 60 for place in range(0, 1000, 100))


def test_a_pool_that_is_too_small_is_taken_whole() -> None:
    assert choose_samples([7, 3, 5], None, 10, seed=0) == [3, 5, 7]


@pytest.mark.parametrize(
    "attributes",
    [
        {"targets": [0, 0, 1, 1, 2, 2]},
        {"targets": torch.tensor([0, 0, 1, 1, 2, 2])},
        {"labels": np.array([0, 0, 1, 1, 2, 2])},
        {"targets": None, "labels": (0, 0, 1, 1, 2, 2)},
    ],
)
def test_labels_are_found_without_reading_images(attributes: dict[str, Any]) -> None:
    labels = dataset_labels(Unreadable(**attributes))
    assert labels is not None
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"targets": [0.5, 0.1, 0.2, 0.3, 0.4, 0.9]},
        {"targets": [0, 1]},
        {"targets": [[0], [0, 1], [2], [1], [0], [0]]},
        {"targets": torch.zeros(6, 2)},
        {"labels": ["a", None, "b", "a", "b", "a"]},
    ],
)
def test_what_is_not_one_class_a_sample_is_no_label(attributes: dict[str, Any]) -> None:
    assert dataset_labels(Unreadable(**attributes)) is None


def test_labels_of_nested_data_sets() -> None:
    data = TensorDataset(torch.randn(4, 1, 2, 2), torch.tensor([3, 2, 1, 0]))
    subset = Subset(Subset(data, [3, 1, 0]), [0, 2])
    labels = dataset_labels(ConcatDataset([subset, Unreadable(targets=range(6))]))
    assert labels is not None
    assert labels.tolist() == [0, 3, 0, 1, 2, 3, 4, 5]
    assert dataset_labels(ConcatDataset([subset, Unreadable()])) is None
    assert dataset_labels(TensorDataset(torch.randn(4, 1, 2, 2))) is None


def test_a_reservoir_gives_every_item_the_same_chance() -> None:
    drawn = Counter(
        item for seed in range(600) for item in reservoir(range(30), 10, seed=seed, limit=100)
    )
    # 600 draws at a probability of 1/3: 200 each, with a standard deviation of 11.5.
    assert set(drawn) == set(range(30))
    assert 150 < min(drawn.values()) <= max(drawn.values()) < 250


def test_a_reservoir_ends_with_the_stream_or_before() -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield (number := number + 1)

    assert reservoir(iter([1, 2]), 5, seed=0, limit=100) == [1, 2]
    assert max(reservoir(endless(), 5, seed=0, limit=40)) <= 40


DATA = TensorDataset(torch.randn(12, 1, 2, 2))


class EvenBatches:
    """A batch sampler that knows nothing of samplers."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[4, 2], [0, 4]])

    def __len__(self) -> int:
        return 2


def shards(sampler: Any) -> list[DistributedSamplerWrapper]:
    """Return what Lightning makes of a sampler on each of two processes."""
    return [DistributedSamplerWrapper(sampler, num_replicas=2, rank=rank) for rank in range(2)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(12)),
        ({"shuffle": True}, range(12)),
        ({"batch_sampler": BatchSampler(range(12), 5, drop_last=True)}, range(12)),
        ({"sampler": DistributedSampler(DATA, num_replicas=2, rank=1)}, range(12)),
        ({"sampler": SubsetRandomSampler([9, 1, 5])}, [1, 5, 9]),
        ({"sampler": shards(SubsetRandomSampler([9, 1, 5]))[0]}, [1, 5, 9]),
        ({"sampler": shards(SubsetRandomSampler([9, 1, 5]))[1]}, [1, 5, 9]),
        ({"sampler": WeightedRandomSampler([0.0] * 10 + [1.0, 1.0], 50)}, [10, 11]),
        ({"batch_sampler": EvenBatches()}, [0, 2, 4]),
    ],
)
def test_the_pool_is_what_the_sampler_may_draw_on_any_process(options: Any, expected: Any) -> None:
    assert list(sample_pool(DataLoader(DATA, **options))) == list(expected)


def test_looking_at_a_sampler_does_not_advance_it() -> None:
    generator = torch.Generator().manual_seed(0)
    sampler = WeightedRandomSampler([1.0] * 12, 5, generator=generator)
    before = generator.get_state()
    sample_pool(DataLoader(DATA, sampler=sampler))
    assert torch.equal(generator.get_state(), before)
