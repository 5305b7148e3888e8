"""AlexNet for any number of classes and image channels."""

import torchvision.models
from torch import nn

from filterwatch.models._arguments import check_network_arguments


class AlexNet(torchvision.models.AlexNet):  # type: ignore[misc]  # torchvision ships no types
    """AlexNet (Krizhevsky et al. 2012) as torchvision has it, on images of 227x227 pixels.

    The paper enlarges its images to 227x227 by bicubic interpolation for this network
    (section 4, "Datasets"). torchvision's form is the one-column variant of 64, 192, 384, 256
    and 256 filters; with ReLU and max-pool counted as layers it has 2816 feature maps. Its head
    averages to 6x6 positions, so other sizes from 63 pixels on work too.

    Args:
        num_classes: Number of outputs.
        in_channels: Number of image channels.
        image_size: Side of the square images in pixels. At least 63.

    Raises:
        ValueError: If an argument is too small.

    Example:
        >>> import torch
        >>> AlexNet()(torch.zeros(2, 3, 227, 227)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 227) -> None:
        check_network_arguments("AlexNet", num_classes, in_channels, image_size, 63)
        super().__init__(num_classes=num_classes)
        self.image_size = image_size
        if in_channels != 3:
            self.features[0] = nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2)
