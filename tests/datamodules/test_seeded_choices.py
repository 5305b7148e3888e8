import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from filterwatch.datamodules.seeded_choices import (
    add_label_noise,
    class_balanced_subset,
    seeded_generator,
    stratified_split,
)

labels_strategy = st.lists(st.integers(0, 5), min_size=1, max_size=120).map(torch.tensor)


@given(labels=labels_strategy, data=st.data())
@settings(deadline=None, max_examples=60)
def test_split_is_a_permutation_in_proportion(labels, data):
    n = len(labels)
    first = data.draw(st.integers(0, n))
    parts = stratified_split(labels, [first, n - first], seeded_generator(0))

    assert [len(part) for part in parts] == [first, n - first]
    assert torch.cat(parts).sort().values.equal(torch.arange(n))
    shares = labels.bincount(minlength=6) / n
    taken = labels[parts[0]].bincount(minlength=6)
    # One image of rounding, and what the rounding of all six classes can shift the cut by.
    assert ((taken - first * shares).abs() <= 1 + 3 * shares).all()


def test_equal_classes_are_split_equally():
    labels = torch.arange(10).repeat_interleave(50)
    first, second, rest = stratified_split(labels, [100, 30, 370], seeded_generator(3))
    assert labels[first].bincount().tolist() == [10] * 10
    assert labels[second].bincount().tolist() == [3] * 10
    assert labels[rest].bincount().tolist() == [37] * 10


def test_a_part_does_not_depend_on_what_follows():
    labels = torch.arange(300) % 3
    one, _ = stratified_split(labels, [60, 240], seeded_generator(0))
    other, _, _ = stratified_split(labels, [60, 40, 200], seeded_generator(0))
    assert one.equal(other)


def test_the_start_of_a_part_is_stratified():
    labels = torch.arange(10).repeat_interleave(50)
    part, _ = stratified_split(labels, [200, 300], seeded_generator(0))
    assert labels[part[:20]].bincount().tolist() == [2] * 10


@pytest.mark.parametrize("sizes", [[1, 1], [5, 6], [-1, 11]])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match=r"add up to the 10 samples"):
        stratified_split(torch.zeros(10, dtype=torch.int64), sizes, seeded_generator(0))


def test_subset_is_balanced_where_the_classes_are_not():
    labels = torch.tensor([0] * 100 + [1] * 30 + [2] * 5)
    subset = class_balanced_subset(labels, 45, seeded_generator(0))
    assert labels[subset].bincount().tolist() == [20, 20, 5]
    assert len(set(subset.tolist())) == 45


def test_larger_subsets_contain_smaller_ones():
    labels = torch.arange(200) % 7
    subsets = [set(class_balanced_subset(labels, n, seeded_generator(1)).tolist()) for n in (9, 80)]
    assert subsets[0] < subsets[1]


@pytest.mark.parametrize("size", [0, 11])
def test_subset_size_is_checked(size):
    with pytest.raises(ValueError, match=f"size={size} must be between 1 and the 10"):
        class_balanced_subset(torch.arange(10), size, seeded_generator(0))


@given(labels=labels_strategy, fraction=st.floats(0, 0.99))
@settings(deadline=None, max_examples=60)
def test_noise_changes_the_share_asked_for(labels, fraction):
    before = labels.clone()
    noisy = add_label_noise(labels, fraction, 6, seeded_generator(0))
    assert int((noisy != labels).sum()) == round(fraction * len(labels))
    assert 0 <= noisy.min() <= noisy.max() <= 5
    assert labels.equal(before)


def test_noise_draws_every_wrong_class_alike():
    labels = torch.full((9000,), 2)
    noisy = add_label_noise(labels, 0.5, 4, seeded_generator(0))
    wrong = noisy[noisy != labels].bincount(minlength=4)
    assert wrong[2] == 0
    # 1500 each, standard deviation about 32.
    assert ((wrong[[0, 1, 3]] - 1500).abs() < 160).all()


def test_more_noise_contains_less():
    labels = torch.arange(500) % 10
    less = add_label_noise(labels, 0.1, 10, seeded_generator(0))
    more = add_label_noise(labels, 0.4, 10, seeded_generator(0))
    changed = less != labels
    assert more[changed].equal(less[changed])


@pytest.mark.parametrize(
    ("fraction", "num_classes", "message"),
    [(1.0, 3, "fraction=1.0"), (-0.1, 3, "fraction=-0.1"), (0.5, 1, "num_classes=1")],
)
def test_noise_arguments_are_checked(fraction, num_classes, message):
    labels = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        add_label_noise(labels, fraction, num_classes, seeded_generator(0))


def test_generators_differ_by_every_number_of_the_key():
    draws = {
        key: torch.rand(1, generator=seeded_generator(*key)).item()
        for key in [(0, 0), (0, 1), (1, 0), (0, 0, 1), (2**64 - 1, 0)]
    }
    assert len(set(draws.values())) == len(draws)
    assert torch.rand(1, generator=seeded_generator(0, 1)).item() == draws[0, 1]


def test_global_random_state_is_neither_read_nor_moved():
    labels = torch.arange(50) % 5
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = [
        *stratified_split(labels, [20, 30], seeded_generator(0)),
        class_balanced_subset(labels, 7, seeded_generator(0)),
        add_label_noise(labels, 0.3, 5, seeded_generator(0)),
    ]
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(1)
    second = [
        *stratified_split(labels, [20, 30], seeded_generator(0)),
        class_balanced_subset(labels, 7, seeded_generator(0)),
        add_label_noise(labels, 0.3, 5, seeded_generator(0)),
    ]
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
