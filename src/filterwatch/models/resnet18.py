"""ResNet-18 for small images."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from filterwatch.models._arguments import check_network_arguments


class ResNet18(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """ResNet-18 (He et al. 2016) with the stem for CIFAR: a 3x3 convolution and no first max-pool.

    torchvision's ResNet-18 shrinks images fourfold before its first block, which leaves little
    of 32x32 pixels; everything behind the stem is torchvision's. Its head averages over all
    positions, so larger images work without further change.

    Args:
        num_classes: Number of outputs.
        in_channels: Number of image channels.
        image_size: Side of the square images in pixels. At least 8.

    Raises:
        ValueError: If an argument is too small.

    Example:
        >>> import torch
        >>> ResNet18()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        check_network_arguments("ResNet18", num_classes, in_channels, image_size, 8)
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        self.image_size = image_size
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.maxpool = nn.Identity()
