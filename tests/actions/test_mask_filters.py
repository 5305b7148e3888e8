"""`mask_filters`: a finished model, masked and given back."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from acted import TinyNet, bitwise_equal, dataset
from torch import nn

from filterwatch import AnomalyCriteria, detect_anomaly_filters, mask_filters
from filterwatch.observing import observe

IMAGES = dataset().tensors[0]
DETECTION: dict[str, Any] = {
    "max_clusters": 6,
    "criteria": AnomalyCriteria(small_cluster_size=6, small_cluster_ratio=0.0, ch_ratio=0.5),
}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    network = TinyNet().network
    for norm in (network[1], network[5]):
        nn.init.uniform_(norm.bias, 0.2, 1)
    return network.eval()


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_end_of_the_block_gives_filters_back(network: nn.Module) -> None:
    before, expected = copied(network), network(IMAGES)
    masked = mask_filters(network, [("0", 1), ("4", 2)])

    def fail() -> None:
        with masked:
            assert masked.filters == [("0", 1), ("4", 2)]
            assert not torch.equal(network(IMAGES), expected)
            assert (network[:3](IMAGES)[:, 1] == 0).all()
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert masked.filters == []
    assert bitwise_equal(network.state_dict(), before)


def test_the_handle_gives_filters_back(network: nn.Module) -> None:
    before = copied(network)
    handle = mask_filters(network, [("0", 1)])
    clone = copy.deepcopy(network)
    assert torch.equal(clone(IMAGES), network(IMAGES))
    handle.remove()
    handle.remove()  # twice does no harm
    assert bitwise_equal(network.state_dict(), before)


def test_weights_that_are_saved_meanwhile_behave_masked(network: nn.Module) -> None:
    with mask_filters(network, [("0", 1), ("4", 2)]):
        state, expected = copied(network), network(IMAGES)
    plain = TinyNet().network.eval()
    plain.load_state_dict(state)
    assert torch.equal(plain(IMAGES), expected)


@pytest.mark.parametrize("side", [8, 28, 48, 227])
def test_blank_images_of_some_size_show_the_way(side: int) -> None:
    """The linear layer takes images of one size only, and usual ones are tried."""
    features = nn.Sequential(nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    n_features = features(torch.zeros(1, 5, side, side)).numel()
    network = nn.Sequential(features, nn.Flatten(), nn.Linear(n_features, 2))
    before = copied(network)
    with mask_filters(network, [("0.0", 1)]) as masked:
        assert masked.filters == [("0.0", 1)]
    assert bitwise_equal(network.state_dict(), before)
    assert all(module.training for module in network.modules())


def test_images_of_an_unusual_size_are_asked_for() -> None:
    oblong = nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 2, 2))
    with pytest.raises(ValueError, match=r"Sequential took no blank images of any.*images="):
        mask_filters(oblong, [("0", 1)])
    with mask_filters(oblong, [("0", 1)], images=torch.rand(2, 5, 7, 4)) as masked:
        assert masked.filters == [("0", 1)]


@pytest.mark.parametrize("wanted", [[("0", 1), ("1", 0)], [("0", 1), ("0", 4)], [("nothing", 0)]])
def test_no_such_filter(network: nn.Module, wanted: list[tuple[str, int]]) -> None:
    before = copied(network)
    with pytest.raises(ValueError, match=r"cannot be masked: no such filter.*are 0, 4"):
        mask_filters(network, wanted)
    assert bitwise_equal(network.state_dict(), before)


def test_of_a_report_its_filters_are_masked(network: nn.Module) -> None:
    report = detect_anomaly_filters(network, IMAGES, **DETECTION)
    assert report.filters
    with mask_filters(network, report) as masked:
        assert masked.filters == report.filters
        found: dict[str, torch.Tensor] = {}
        observe(network, [IMAGES], lambda name, maps: found.update({name: maps.clone()}))
        for anomaly in report.anomalies:
            assert (found[anomaly.layer][:, anomaly.channel] == 0).all()


class Joined(nn.Module):
    """Two convolutions that share a normalization: filters of neither can be masked alone."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.left(images)) + self.norm(self.right(images))
        return self.last(maps.relu())


def test_of_a_report_what_cannot_be_masked_is_said_once() -> None:
    torch.manual_seed(0)
    network = Joined().eval()
    images = torch.rand(40, 1, 8, 8)
    report = detect_anomaly_filters(network, images, **DETECTION)
    filters = [("left", 1), ("right", 2), ("last", 3)]
    anomalies = [
        dataclasses.replace(report.anomalies[0], source_layer=layer, source_channel=channel)
        for layer, channel in [*filters, (None, None)]
    ]
    report = dataclasses.replace(report, anomalies=anomalies)
    expected = network(images).detach()
    with pytest.warns(UserWarning, match="mask_filters masks") as warned:
        masked = mask_filters(network, report)
    (warning,) = warned
    said = str(warning.message)
    assert masked.filters == [("last", 3)]
    assert list(masked.unmaskable) == [("left", 1), ("right", 2)]
    for layer, channel in masked.unmaskable:
        assert f"{channel} of {layer}" in said
    assert all(reason in said for reason in masked.unmaskable.values())
    assert "1 flagged maps with no single filter behind them" in said
    masked.remove()
    assert torch.equal(network(images), expected)
    (layer, channel), reason = next(iter(masked.unmaskable.items()))
    with pytest.raises(ValueError, match=f"filter {channel} of '{layer}' cannot be masked"):
        mask_filters(network, [(layer, channel)])
    assert reason


def test_a_report_of_another_network_is_refused(network: nn.Module) -> None:
    report = detect_anomaly_filters(network, IMAGES, **DETECTION)
    with pytest.raises(ValueError, match="cannot be masked: no such filter"):
        mask_filters(nn.Sequential(nn.Identity(), *network), report)


def test_nothing_to_mask(network: nn.Module) -> None:
    with mask_filters(network, []) as masked:
        assert masked.filters == []


def test_masked_filters_are_judged_as_they_would_be_unmasked(network: nn.Module) -> None:
    plain = detect_anomaly_filters(network, IMAGES, **DETECTION)
    first_layer = [filter_ for filter_ in plain.filters if filter_[0] == "0"]
    assert first_layer
    with mask_filters(network, first_layer) as masks:
        before = copied(network)
        naive = detect_anomaly_filters(network, IMAGES, **DETECTION)
        judged = detect_anomaly_filters(network, IMAGES, masks=masks, **DETECTION)
        assert bitwise_equal(network.state_dict(), before)
    # Nothing lies upstream of the first convolution: its layers are as if nothing were masked.
    for layer in ("0", "2", "3"):
        assert torch.equal(judged.layers[layer].ch_index, plain.layers[layer].ch_index)
        assert torch.equal(judged.layers[layer].is_anomaly, plain.layers[layer].is_anomaly)
        assert torch.equal(judged.layers[layer].activation, plain.layers[layer].activation)
    # Filters that are not masked are judged in the network as it is.
    for layer in ("4", "6"):
        assert torch.equal(judged.layers[layer].ch_index, naive.layers[layer].ch_index)
        assert not torch.equal(judged.layers[layer].ch_index, plain.layers[layer].ch_index)
    # Where the masked ones are judged as they are, they are dead and never flagged.
    assert not set(first_layer) & set(naive.filters)
    assert set(first_layer) <= set(judged.filters)


def test_judged_in_several_batches(network: nn.Module) -> None:
    with mask_filters(network, [("0", 1), ("4", 0)]) as masks:
        whole = detect_anomaly_filters(network, IMAGES, masks=masks, **DETECTION)
        parts = detect_anomaly_filters(network, IMAGES, masks=masks, batch_size=16, **DETECTION)
    for name, layer in whole.layers.items():
        torch.testing.assert_close(parts.layers[name].activation, layer.activation)
        assert torch.equal(parts.layers[name].is_anomaly, layer.is_anomaly)
