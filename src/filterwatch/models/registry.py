"""The bundled networks by the names that configs use."""

from typing import TypeAlias

from filterwatch.models.alexnet import AlexNet
from filterwatch.models.lenet5 import LeNet5
from filterwatch.models.resnet18 import ResNet18
from filterwatch.models.simple_cnn import SimpleCNN

BundledNetwork: TypeAlias = SimpleCNN | LeNet5 | AlexNet | ResNet18

NETWORKS: dict[str, type[BundledNetwork]] = {
    "simple_cnn": SimpleCNN,
    "lenet5": LeNet5,
    "alexnet": AlexNet,
    "resnet18": ResNet18,
}


def build_network(
    name: str, num_classes: int = 10, in_channels: int = 3, image_size: int | None = None
) -> BundledNetwork:
    """Build a bundled network from its name.

    Args:
        name: ``"simple_cnn"``, ``"lenet5"``, ``"alexnet"`` or ``"resnet18"``.
        num_classes: Number of outputs.
        in_channels: Number of image channels.
        image_size: Side of the square images in pixels; ``None`` is the network's own default,
            227 for AlexNet and 32 for the others.

    Returns:
        The network with fresh weights, drawn from PyTorch's global generator as usual.

    Raises:
        ValueError: If the name is unknown or an argument is too small for the network.
    """
    if name not in NETWORKS:
        raise ValueError(
            f"Unknown network {name!r}: pass one of {', '.join(NETWORKS)}, or an nn.Module"
        )
    if image_size is None:
        return NETWORKS[name](num_classes, in_channels)
    return NETWORKS[name](num_classes, in_channels, image_size)
