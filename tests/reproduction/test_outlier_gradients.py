import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reproduction.outlier_gradients import compare_gradients, mean_absolute_gradients


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).train()


def one_by_one(network, images, labels):
    """The same by backward passes: mean over each layer's parameters, then over the layers."""
    network.eval()
    found = []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        network.zero_grad()
        F.cross_entropy(network(image), label).backward()
        layers = [
            torch.cat([p.grad.abs().flatten() for p in layer.parameters()]).mean()
            for layer in network
            if list(layer.parameters())
        ]
        found.append(torch.stack(layers).mean())
    network.zero_grad()
    return torch.stack(found).double()


@pytest.mark.parametrize("chunk_size", [None, 3, 7])
def test_gradients_are_those_of_single_backward_passes(network, chunk_size):
    images, labels = torch.randn(7, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    found = mean_absolute_gradients(network, images, labels, chunk_size=chunk_size)
    assert network.training
    torch.testing.assert_close(found, one_by_one(network, images, labels), rtol=1e-4, atol=1e-8)


def test_outliers_against_the_others_by_hand():
    found = compare_gradients(torch.tensor([1.0, 2.0, 3.0, 6.0, 2.0]).double(), [1, 3])
    assert found["n_outliers"] == 2
    assert found["outlier"] == 4.0
    assert found["normal"] == 2.0
    assert found["ratio"] == 2.0
    # 2 is above one of (1, 3, 2) and level with another; 6 is above all.
    assert found["rank"] == pytest.approx((0.5 + 1.0) / 2)


def test_without_outliers_there_is_no_ratio():
    found = compare_gradients(torch.ones(3), [])
    assert found["n_outliers"] == 0
    assert found["ratio"] != found["ratio"]  # NaN, written as null
