from collections import Counter

import pytest
import torch
from torch import nn

from filterwatch.datamodules.sampling import seeded_generator
from filterwatch.experiments.discarding import confusion, draw_controls, proportions
from filterwatch.experiments.masking import mask_filters


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3, bias=False))


def test_masked_filters_are_silent_and_come_back(network):
    images = torch.randn(2, 1, 8, 8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with mask_filters(network, [("0", 1), ("2", 0), ("2", 0)]):
        maps = network[0](images)
        assert torch.equal(maps[:, 1], torch.zeros_like(maps[:, 1]))
        assert maps[:, 0].abs().sum() > 0
        assert network(images)[:, 0].abs().sum() == 0
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_filters_come_back_after_a_failure(network):
    before = network[0].weight.clone()
    with (
        pytest.raises(ValueError, match="'1' is no convolution"),
        mask_filters(network, [("0", 0), ("1", 0)]),
    ):
        pass
    assert torch.equal(network[0].weight, before)


def test_proportions_by_hand():
    changes = [(-0.1, 0.2), (-0.1, -0.2), (0.0, 0.1), (0.1, 0.0)]
    masked = [{"train_change": train, "test_change": test} for train, test in changes]
    assert proportions(masked) == {"filters": 4, "train_down": 2, "test_up": 2, "both": 1}


def test_confusion_by_hand():
    before = torch.tensor([1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
    after = torch.tensor([1, 0, 0, 1, 0, 0, 0], dtype=torch.bool)
    assert confusion(before, after) == {
        "kept_right": 1,
        "became_wrong": 2,
        "became_right": 1,
        "stayed_wrong": 3,
    }


def test_controls_are_live_unflagged_and_of_the_same_layers():
    live = [(layer, index) for layer in ("a", "b", "c") for index in range(6)]
    flagged = [("a", 0), ("a", 1), ("b", 5)]
    wanted = Counter({"a": 2, "b": 1})
    drawn = draw_controls(live, flagged, wanted, 2, seeded_generator(0))
    assert Counter(layer for layer, _ in drawn) == {"a": 4, "b": 2}
    assert not set(drawn) & set(flagged)
    assert set(drawn) <= set(live)
    assert len(set(drawn)) == 6
    assert drawn == draw_controls(live, flagged, wanted, 2, seeded_generator(0))
