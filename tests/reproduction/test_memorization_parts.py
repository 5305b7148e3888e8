"""Rivals, rows, rules and goals by hand."""

import pytest
import torch

from filterwatch.memorization import BatchFeatures
from filterwatch.models import SimpleCNN
from reproduction.lead_time import Run
from reproduction.memorization_alarms import SIGNALS, compare_memorization_alarms
from reproduction.memorization_goals import goals, ratios
from reproduction.memorization_layers import set_back, weights_of_rows
from reproduction.memorization_null import summarized
from reproduction.memorization_rivals import neighbors_disagree, network_loss
from reproduction.memorization_suspects import judged
from reproduction.networks import NarrowResNet18


def test_neighbors_disagree_with_the_label_that_is_wrong():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    centers = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    features = centers[labels] + 0.1 * torch.randn(40, 2, generator=generator)
    labels[0] = 1
    shares = neighbors_disagree(features, labels, n_neighbors=5)
    assert shares[0] == 1
    assert shares[1::2].max() <= 0.2
    assert shares.argmax() == 0


def test_loss_is_cross_entropy():
    features = BatchFeatures({}, torch.tensor([[0.0, 0.0], [0.0, 100.0]]), torch.tensor([0, 1]))
    assert network_loss(features).tolist() == pytest.approx([0.693147, 0.0], abs=1e-5)


def test_scores_are_judged_by_what_comes_first():
    wrong = torch.tensor([True, False, True, False])
    found = judged(wrong, {"right": torch.tensor([3.0, 1, 4, 0]), "blind": torch.zeros(4)})
    assert found["right"] == {"auroc": 1.0, "precision": 0.5}
    assert found["blind"]["auroc"] == 0.5


def test_rows_of_a_plain_network_have_the_layer_before_them():
    network = SimpleCNN(image_size=8).eval()
    assert weights_of_rows(network, torch.zeros(2, 3, 8, 8)) == {
        "relu1": ["conv1"],
        "relu2": ["conv2"],
        "relu3": ["conv3"],
        "classifier.2": ["classifier.1"],
        "output": ["classifier.3"],
    }


def test_rows_of_a_residual_network_have_their_normalization_and_leave_nothing_out():
    network = NarrowResNet18(4, 3).eval()
    groups = weights_of_rows(network, torch.zeros(2, 3, 8, 8))
    assert groups["relu"] == ["conv1", "bn1"]
    assert groups["layer2.0.downsample.0"] == ["layer2.0.downsample.0", "layer2.0.downsample.1"]
    named = [module for group in groups.values() for module in group]
    with_weights = {name.rpartition(".")[0] for name in network.state_dict()}
    assert sorted(named) == sorted(with_weights)


def test_setting_back_takes_a_modules_weights_and_statistics():
    early, late = (
        {
            key: torch.full_like(value, fill)
            for key, value in NarrowResNet18(4, 3).state_dict().items()
        }
        for fill in (1, 2)
    )
    mixed = set_back(late, early, ["conv1", "bn1"])
    taken = {key for key, value in mixed.items() if bool((value == 1).all())}
    assert taken == {key for key in late if key.startswith(("conv1.", "bn1."))}


def test_ratios_are_counted_over_all_draws():
    rows = summarized({("a", "x"): [[1.0, -4.0], [1.0]], ("b", "x"): [[2.0]]})
    assert rows[0]["draws"] == 2
    assert rows[0]["ratios"] == 3
    assert rows[0]["beyond_three"] == pytest.approx(1 / 3)
    assert rows[-1]["mean"] == 0
    assert rows[-1]["draws"] == 3


FALLING = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
RISING = [9.0, 8.0, 7.0, 6.0, 7.0, 8.0]  # lowest in epoch 3


def run(seed, overfits, values):
    losses = RISING if overfits else FALLING
    rows = [
        {"epoch": epoch, "val_loss": loss, "gap": float(epoch)}
        | dict.fromkeys(SIGNALS, value)
        | dict.fromkeys(SIGNALS.values(), 0.1)
        for epoch, (loss, value) in enumerate(zip(losses, values, strict=True))
    ]
    return Run(seed, overfits, rows)


def test_rules_are_set_on_the_other_seeds():
    runs = [
        run(0, True, [0.0, 0.0, 0.7, 0.8, 0.9, 1.0]),
        run(0, False, [0.0, 0.0, 0.2, 0.2, 0.2, 0.6]),
        run(1, True, [0.0, 0.0, 0.5, 0.8, 0.9, 1.0]),
        run(1, False, [0.0, 0.0, 0.0, 0.0, 0.0, 0.2]),
    ]
    found = compare_memorization_alarms(runs)
    level = found["memorization:level"]
    assert level["set_to"] == [0.2, 0.6]  # by seed 1 for seed 0, by seed 0 for seed 1
    assert level["lead_times"] == [1, 0]
    assert level["false_alarm_rate"] == 0.5  # seed 0 exceeds what seed 1 knew
    significant = found["memorization:significant"]
    assert significant["lead_times"] == [1, 1]
    assert found["early_stopping"]["lead_times"] == [-1, -1]


def entry(seed, regime, gap):
    rows = {"deepest": [2 * gap, 0.1], "output": [gap, 0.1]}
    there = {"deepest": "deepest", "rows": rows}
    return {
        "model": "lenet5",
        "regime": regime,
        "seed": seed,
        "best": there,
        "last": there,
        "where": None,
    }


def test_misses_come_first_and_small_values_count_as_their_error():
    result = {
        "runs": [
            entry(0, "overfit", 1.0),
            entry(0, "regularised", 0.01),
            entry(1, "overfit", 1.0),
            entry(1, "regularised", 0.4),
        ],
        "null": summarized({("lenet5", "untrained"): [[1.0, -1.0]]}),
        "alarms": {},
        "retraining": [],
    }
    assert ratios(result, "lenet5", "generalization_gap") == pytest.approx({0: 10.0, 1: 2.5})
    outcomes = {goal.text.partition(":")[0] + goal.found: goal.outcome for goal in goals(result)}
    assert outcomes["2. Whether10.0, 2.5 (seeds 0, 1)"] == "met in part"
    assert outcomes["2. Whether20.0, 2.5 (seeds 0, 1)"] == "met"
    order = ["missed", "met in part", "met", "no data"]
    found = [goal.outcome for goal in goals(result)]
    assert found == sorted(found, key=order.index)
