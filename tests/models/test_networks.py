"""The bundled networks: shapes, the paper's counts of feature maps, and clear refusals."""

import pytest
import torch
from torch import Tensor, nn

from filterwatch.models import AlexNet, LeNet5, ResNet18, SimpleCNN, build_network

NAMES = ("simple_cnn", "lenet5", "alexnet", "resnet18")


def count_maps(network: nn.Module, images: Tensor) -> int:
    """Count the channels of all convolutions, ReLUs and max-pools on image-shaped maps."""
    channels = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ReLU | nn.MaxPool2d):
            module.register_forward_hook(
                lambda _module, _inputs, maps: channels.append(maps.shape[1] * (maps.ndim == 4))
            )
    network.eval()
    with torch.no_grad():
        network(images)
    return sum(channels)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("num_classes", [2, 100])
@pytest.mark.parametrize(("network_class", "side"), [(SimpleCNN, 32), (LeNet5, 32), (ResNet18, 32)])
def test_logits_for_every_number_of_classes_and_channels(
    network_class: type[nn.Module], side: int, num_classes: int, in_channels: int
) -> None:
    network = network_class(num_classes=num_classes, in_channels=in_channels)
    assert network(torch.randn(2, in_channels, side, side)).shape == (2, num_classes)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_alexnet_takes_the_papers_227_pixels(in_channels: int) -> None:
    network = AlexNet(num_classes=7, in_channels=in_channels).eval()
    with torch.no_grad():
        assert network(torch.randn(1, in_channels, 227, 227)).shape == (1, 7)
        assert network(torch.randn(1, in_channels, 63, 63)).shape == (1, 7)  # the least it accepts
    assert network.features[0].in_channels == in_channels


@pytest.mark.parametrize(
    ("network", "side", "expected"),
    [
        (SimpleCNN(), 32, 3 * 32 + 3 * 64 + 2 * 64),
        (LeNet5(), 32, 3 * 6 + 3 * 16),
        (AlexNet(), 63, 3 * 64 + 3 * 192 + 2 * 384 + 2 * 256 + 3 * 256),
    ],
    ids=["simple_cnn", "lenet5", "alexnet"],
)
def test_feature_maps_number_as_in_the_paper(network: nn.Module, side: int, expected: int) -> None:
    assert count_maps(network, torch.randn(1, 3, side, side)) == expected


@pytest.mark.parametrize("network_class", [SimpleCNN, LeNet5])
@pytest.mark.parametrize("side", [16, 28, 33, 64])
def test_dense_layers_fit_other_image_sizes(network_class: type[nn.Module], side: int) -> None:
    network = network_class(in_channels=1, image_size=side)
    assert network(torch.randn(2, 1, side, side)).shape == (2, 10)


def test_resnet18_keeps_small_images_large() -> None:
    network = ResNet18()
    maps = []
    network.layer1.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    network(torch.randn(2, 3, 32, 32))
    assert maps[0].shape == (2, 64, 32, 32)


@pytest.mark.parametrize("name", NAMES)
def test_build_network_by_name(name: str) -> None:
    network = build_network(name, num_classes=5, in_channels=1, image_size=64)
    assert network.eval()(torch.randn(1, 1, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = build_network(name, image_size=64)
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_build_network_keeps_each_networks_own_image_size() -> None:
    assert build_network("alexnet").image_size == 227
    assert build_network("simple_cnn").image_size == 32


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'vgg'.*simple_cnn, lenet5, alexnet, resnet18"):
        build_network("vgg")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("simple_cnn", {"num_classes": 0}, "SimpleCNN.*num_classes=0"),
        ("lenet5", {"in_channels": 0}, "LeNet5.*in_channels=0"),
        ("simple_cnn", {"image_size": 3}, "at least 4 pixels.*image_size=3"),
        ("lenet5", {"image_size": 15}, "at least 16 pixels.*image_size=15"),
        ("alexnet", {"image_size": 32}, "at least 63 pixels.*image_size=32"),
        ("resnet18", {"image_size": 7}, "at least 8 pixels.*image_size=7"),
    ],
)
def test_impossible_arguments_are_named(name: str, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(name, **arguments)
