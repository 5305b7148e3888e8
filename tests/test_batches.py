"""Batches of every kind: what is in them is found, and they are cut, split and joined alike."""

from __future__ import annotations

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from filterwatch.batches import (
    _contents,
    as_batches,
    as_tensor,
    channels_last_remedy,
    count_samples,
    describe,
    find_images,
    find_labels,
    find_logits,
    first_samples,
    join_samples,
    logit_candidates,
    split_batch,
)

IMAGES = torch.rand(5, 3, 4, 4)
LABELS = torch.arange(5)
MASKS = torch.zeros(5, 1, 4, 4)

Pair = namedtuple("Pair", ["label", "image"])


@dataclass
class Batch:
    label: Tensor
    pixels: Tensor


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, LABELS),
        [LABELS, IMAGES],
        {"label": LABELS, "image": IMAGES},
        {"label": LABELS, "anything": IMAGES},
        {"heat": MASKS, "pixel_values": IMAGES},  # the usual names go first
        {"meta": {"mask": MASKS}, "x": IMAGES},
        ((LABELS, {"inputs": IMAGES}), "name"),
        {"image": {"left": IMAGES}},
        Pair(LABELS, IMAGES),
        Batch(LABELS, IMAGES),
        [None, "name", b"bytes", 3, IMAGES],
    ],
)
def test_found(batch: Any) -> None:
    assert find_images(batch) is IMAGES or torch.equal(find_images(batch), IMAGES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_precision(dtype: torch.dtype) -> None:
    assert find_images([IMAGES.to(dtype)]).dtype == dtype


@pytest.mark.parametrize(
    ("batch", "described"),
    [
        (LABELS, r"torch.int64 tensor \[5\]"),
        ({"x": LABELS, "name": "a"}, r"\{'x': torch.int64 tensor \[5\], 'name': str\}"),
        ((1, 2, 3, 4, 5, 6), r"tuple\(int, int, int, int, …\)"),
        (np.zeros((5, 3)), r"float64 array \[5, 3\]"),
        (None, "NoneType"),
        ("image", "str"),
    ],
)
def test_what_was_found_instead_is_described(batch: Any, described: str) -> None:
    with pytest.raises(ValueError, match=rf"in a batch of {described}: convert the images to"):
        find_images(batch)


@dataclass
class Fields:
    image: Any
    label: Any
    words: Any
    logits: Any
    origin: Any


@dataclass(frozen=True)
class FrozenFields:
    image: Any
    label: Any
    words: Any
    logits: Any
    origin: Any


class Named(NamedTuple):
    image: Any
    label: Any
    words: Any
    logits: Any
    origin: Any


class BatchEncoding(UserDict[str, Any]):
    """A mapping that is no dict, whose entries are attributes too, as a processor returns it."""

    def __getattr__(self, name: str) -> Any:
        return self.data[name]


class Own:
    """A batch class of one's own."""

    def __init__(self, **entries: Any) -> None:
        vars(self).update(entries)

    def to(self, device: Any) -> Own:
        return self


def parts(n_samples: int = 5) -> dict[str, Any]:
    return {
        "image": IMAGES[:n_samples],
        "label": LABELS[:n_samples],
        "words": list("abcde")[:n_samples],
        "logits": IMAGES[:n_samples].mean((2, 3)),
        "origin": {"from": None},
    }


def encoding(**entries: Any) -> BatchEncoding:
    entries["pixel_values"], entries["labels"] = entries.pop("image"), entries.pop("label")
    return BatchEncoding(entries)


def nested(**entries: Any) -> dict[str, Any]:
    image, label = entries.pop("image"), entries.pop("label")
    return {"sample": {"data": image, "truth": {"target": label}}, "extra": entries}


KINDS: dict[str, Any] = {
    "tuple": lambda **entries: tuple(entries.values()),
    "list": lambda **entries: list(entries.values()),
    "dict": dict,
    "ordered dict": OrderedDict,
    "nested dict": nested,
    "dict in a list": lambda **entries: [nested(**entries), "name"],
    "named tuple": Named,
    "dataclass": Fields,
    "frozen dataclass": FrozenFields,
    "batch encoding": encoding,
    "own class": Own,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


def words_of(batch: Any) -> Any:
    """Return the words in a batch of any kind, or the word in a sample."""
    for _, entry in _contents(batch) or []:
        words = isinstance(entry, str) or (isinstance(entry, list) and isinstance(entry[0], str))
        if words and entry != "name":
            return entry
        if (found := words_of(entry)) is not None:
            return found
    return None


def same(batch: Any, n_samples: int) -> None:
    assert torch.equal(find_images(batch), IMAGES[:n_samples])
    labels = find_labels(batch, n_samples)
    assert labels is not None
    assert torch.equal(labels, LABELS[:n_samples])
    assert count_samples(batch) == n_samples
    assert words_of(batch) == list("abcde")[:n_samples]


def test_images_and_labels_are_found_in_every_kind(kind: Any) -> None:
    same(kind(**parts()), 5)


def test_logits_are_found_in_every_kind_with_names(kind: Any) -> None:
    output = kind(**parts())
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        output = type(output)([parts()["logits"], *output])  # which has the first word
    found = find_logits(output, 5)
    assert found is not None
    assert torch.equal(found, parts()["logits"])


def test_every_kind_is_cut_to_its_first_samples(kind: Any) -> None:
    batch = kind(**parts())
    cut = first_samples(batch, 2)
    assert type(cut) is type(batch)
    same(cut, 2)
    same(batch, 5)


def test_every_kind_is_split_and_joined_again(kind: Any) -> None:
    batch = kind(**parts())
    samples = list(split_batch(batch))
    assert len(samples) == 5
    assert all(type(sample) is type(batch) for sample in samples)
    assert [words_of(sample) for sample in samples] == list("abcde")
    joined = join_samples(samples)
    assert type(joined) is type(batch)
    same(joined, 5)
    same(join_samples(samples[:3]), 3)
    same(batch, 5)


def test_a_tensor_is_a_batch_too() -> None:
    assert torch.equal(first_samples(IMAGES, 2), IMAGES[:2])
    assert torch.equal(join_samples(list(split_batch(IMAGES))), IMAGES)
    assert find_labels(IMAGES, 5) is None
    assert find_logits(IMAGES.mean((2, 3)), 5) is not None


@pytest.mark.parametrize(
    "batch",
    [
        {"image": IMAGES, "index": LABELS},  # integers too, and no labels
        {"image": IMAGES, "meta": [LABELS]},
        {"image": IMAGES, "label": LABELS.float()},
        {"image": IMAGES, "label": LABELS.view(5, 1)},
        {"image": IMAGES, "label": LABELS[:4]},
        (IMAGES, LABELS.double()),
    ],
)
def test_what_is_no_label_is_not_taken_for_one(batch: Any) -> None:
    assert find_labels(batch, 5) is None


@pytest.mark.parametrize(
    "output",
    [
        IMAGES,
        LABELS,
        {"scores": IMAGES.mean((2, 3))},  # may be anything
        (IMAGES.mean((2, 3))[:4],),
        {"logits": LABELS},
    ],
)
def test_what_is_no_logits_is_not_taken_for_them(output: Any) -> None:
    assert find_logits(output, 5) is None


def test_maps_before_logits_are_passed_over() -> None:
    logits = IMAGES.mean((2, 3))
    assert find_logits((IMAGES, logits), 5) is logits
    assert find_logits({"features": logits + 1, "out": (IMAGES, logits)}, 5) is logits


@pytest.mark.parametrize("name", ["target_class", "fine_label", "y", "class_id"])
def test_usual_names_of_labels(name: str) -> None:
    found = find_labels({"id": LABELS + 7, name: LABELS, "image": IMAGES}, 5)
    assert found is not None
    assert torch.equal(found, LABELS)


def test_values_that_are_no_data_become_lists() -> None:
    assert join_samples([None, None]) == [None, None]
    assert join_samples([{"a": None}, {"a": None}]) == {"a": [None, None]}


# -- What users have in their hands --------------------------------------------------------------


def test_an_array_is_as_good_as_a_tensor() -> None:
    images, labels = IMAGES.numpy().astype("float64"), LABELS.numpy().astype("uint8")
    found = find_images({"x": images})
    assert found.dtype == torch.float32
    assert torch.equal(found, IMAGES)
    assert find_labels((images, labels), 5).tolist() == LABELS.tolist()  # type: ignore[union-attr]
    cut = first_samples((images, labels, np.array(list("abcde"))), 2)
    assert [len(part) for part in cut] == [2, 2, 2]
    assert describe(images) == "float64 array [5, 3, 4, 4]"


def test_an_array_of_any_layout_in_memory_becomes_a_tensor() -> None:
    images = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)[..., ::-1]
    images.flags.writeable = False
    assert as_tensor(images).tolist() == images.tolist()
    assert as_tensor("word") == "word"
    assert isinstance(as_tensor(np.array(["word"])), np.ndarray)


@pytest.mark.parametrize(
    "samples",
    [
        (IMAGES, LABELS),
        [IMAGES.numpy(), LABELS.numpy()],
        TensorDataset(IMAGES, LABELS),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=3),
        [(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])],
    ],
    ids=["pair", "arrays", "data set", "loader", "batches"],
)
def test_samples_come_in_batches_whatever_they_are(samples: Any) -> None:
    state = torch.random.get_rng_state()
    batches = list(as_batches(samples, 3, "probe"))
    drawn_by_a_loader = isinstance(samples, DataLoader)
    assert drawn_by_a_loader or torch.equal(torch.random.get_rng_state(), state)
    assert [count_samples(batch) for batch in batches] == [3, 2]
    assert torch.equal(torch.cat([find_images(batch) for batch in batches]), IMAGES)
    assert torch.equal(torch.cat([batch[1] for batch in batches]), LABELS)


def test_a_loader_that_shuffles_is_read_in_the_order_of_its_data_set() -> None:
    samples, generator = TensorDataset(IMAGES, LABELS), torch.Generator().manual_seed(4)
    state = generator.get_state()
    loader = DataLoader(samples, batch_size=2, shuffle=True, generator=generator, drop_last=True)
    labels = [label for _, part in as_batches(loader, 3, "probe") for label in part.tolist()]
    assert labels == LABELS.tolist()
    assert torch.equal(generator.get_state(), state)
    some = DataLoader(samples, sampler=RandomSampler(samples, num_samples=2))
    assert as_batches(some, 3, "probe") is some


@pytest.mark.parametrize("samples", [None, 3, "images/", {"x": IMAGES}, torch.nn.ReLU()])
def test_what_is_no_data_is_refused(samples: Any) -> None:
    with pytest.raises(TypeError, match=r"held_out=.* is no data: pass images \[N, C, H, W\] or"):
        as_batches(samples, 3, "held_out")


@pytest.mark.parametrize(
    ("batch", "remedy"),
    [
        (IMAGES.byte(), r"scale integers as in training, .*: images\.float\(\) / 255"),
        (
            torch.zeros(5, 32, 32, 3, dtype=torch.uint8),
            r"images\.permute\(0, 3, 1, 2\)\.float\(\) / 255",
        ),
        (np.zeros((5, 32, 32, 3), dtype="uint8"), r"images\.permute\(0, 3, 1, 2\)\.float\(\)"),
        (IMAGES[0], r"torch\.stack\(images\)"),
        (Image.new("RGB", (4, 4)), r"torch\.stack\(\[transform\(picture\) for picture in"),
        ([Image.new("RGB", (4, 4))], r"torch\.stack\(\[transform\(picture\) for picture in"),
    ],
)
def test_what_makes_images_of_it_is_said(batch: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        find_images(batch)


@pytest.mark.parametrize(
    ("shape", "is_last"),
    [
        ((5, 32, 32, 3), True),
        ((5, 28, 20, 1), True),
        ((5, 3, 32, 32), False),
        ((5, 16, 4, 4), False),  # few pixels
        ((5, 1, 32, 3), False),
        ((5, 32, 32, 32), False),
    ],
)
def test_channels_that_come_last_are_recognized(shape: tuple[int, ...], is_last: bool) -> None:
    assert (channels_last_remedy(torch.zeros(shape)) is not None) == is_last


def test_an_index_before_the_images_is_no_label() -> None:
    index = LABELS + 40
    for batch in ((index, IMAGES, LABELS), (IMAGES, LABELS, index), (LABELS, IMAGES)):
        found = find_labels(batch, 5)
        assert found is not None
        assert torch.equal(found, LABELS)


def test_features_beside_logits_are_not_taken_for_them() -> None:
    logits, features = torch.rand(5, 4), torch.rand(5, 16)
    assert find_logits((features, logits), 5) is None  # nothing tells which
    assert find_logits((logits, logits + 1), 5) is logits
    assert find_logits({"features": features, "logits": logits}, 5) is logits
    assert logit_candidates((features, logits), 5) == [features, logits]
