from collections import Counter

import torch

from filterwatch.datamodules import seeded_generator
from filterwatch.experiments.discarding import confusion, draw_controls, proportions


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
