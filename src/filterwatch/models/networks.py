"""The bundled networks: three of the paper's and a ResNet-18, for any classes and channels.

Each takes the number of classes, of image channels, and the side of its square images in pixels.
"""

from collections import OrderedDict
from typing import ClassVar, TypeAlias

import torchvision.models
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class SimpleCNN(nn.Sequential):
    """Three 3x3 convolutions of 32, 64 and 64 filters, two max-pools, a dense layer of 64.

    The paper (section 4, "Models") gives the filter configuration 32-64-64 and no more; the
    rest is the common form of that network. With ReLU and max-pool counted as layers it has
    (32 + 32 + 32) + (64 + 64 + 64) + (64 + 64) = 416 feature maps.
    """

    smallest_image: ClassVar[int] = 4

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        positions = (image_size // 2 // 2) ** 2
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 32, kernel_size=3, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(32, 64, kernel_size=3, padding=1),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(64, 64, kernel_size=3, padding=1),
                relu3=nn.ReLU(),
                classifier=nn.Sequential(
                    nn.Flatten(),
                    nn.Linear(64 * positions, 64),
                    nn.ReLU(),
                    nn.Linear(64, num_classes),
                ),
            )
        )
        self.image_size = image_size


class LeNet5(nn.Sequential):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pool, the layers that the paper looks at.

    With ReLU and max-pool counted as layers it has 3 * 6 + 3 * 16 = 66 feature maps.
    """

    smallest_image: ClassVar[int] = 16

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        side = ((image_size - 4) // 2 - 4) // 2  # each 5x5 convolution takes four pixels
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 6, kernel_size=5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, kernel_size=5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                classifier=nn.Sequential(
                    nn.Flatten(),
                    nn.Linear(16 * side**2, 120),
                    nn.ReLU(),
                    nn.Linear(120, 84),
                    nn.ReLU(),
                    nn.Linear(84, num_classes),
                ),
            )
        )
        self.image_size = image_size


class AlexNet(torchvision.models.AlexNet):  # type: ignore[misc]  # torchvision ships no types
    """AlexNet (Krizhevsky et al. 2012) as torchvision has it, on images of 227x227 pixels.

    The size that the paper enlarges its images to (section 4, "Datasets"). torchvision's form is
    the one-column variant of 64, 192, 384, 256 and 256 filters; with ReLU and max-pool counted as
    layers it has 2816 feature maps. Its head averages to 6x6 positions: other sizes work too.
    """

    smallest_image: ClassVar[int] = 63

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 227) -> None:
        super().__init__(num_classes=num_classes)
        self.image_size = image_size
        if in_channels != 3:
            self.features[0] = nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2)


class ResNet18(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """ResNet-18 (He et al. 2016) with the stem for CIFAR: a 3x3 convolution and no first max-pool.

    torchvision's shrinks images fourfold before its first block, which leaves little of 32x32
    pixels; everything behind the stem is torchvision's. Its head averages: larger images work too.
    """

    smallest_image: ClassVar[int] = 8

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        self.image_size = image_size
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.maxpool = nn.Identity()


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
    """Build a bundled network from the name that configs use.

    Args:
        name: ``"simple_cnn"``, ``"lenet5"``, ``"alexnet"`` or ``"resnet18"``.
        num_classes: Number of outputs.
        in_channels: Number of image channels.
        image_size: Side of the square images in pixels; ``None`` is the network's own default.

    Raises:
        ValueError: If the name is unknown or an argument is too small for the network.
    """
    if name not in NETWORKS:
        raise ValueError(
            f"Unknown network {name!r}: pass one of {', '.join(NETWORKS)}, or an nn.Module"
        )
    network = NETWORKS[name]
    needs = f"{network.__name__} needs"
    if num_classes < 1:
        raise ValueError(f"{needs} at least one class, got num_classes={num_classes}")
    if in_channels < 1:
        raise ValueError(
            f"{needs} at least one image channel, got in_channels={in_channels}: "
            "pass 1 for grey images, 3 for colour"
        )
    if image_size is None:
        return network(num_classes, in_channels)
    if image_size < network.smallest_image:
        raise ValueError(
            f"{needs} images of at least {network.smallest_image} pixels a side, got "
            f"image_size={image_size}: enlarge the images or take another network"
        )
    return network(num_classes, in_channels, image_size)
