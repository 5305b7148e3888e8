"""The experiments' networks: those of the package, and a ResNet-18 that a processor can train."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torchvision.models.resnet import BasicBlock

from filterwatch.models import NETWORKS as BUNDLED
from filterwatch.models import build_network

_WIDTHS = (16, 32, 64, 128)


class NarrowResNet18(nn.Sequential):
    """ResNet-18 with a quarter of its filters, and the stem for small images.

    Args:
        num_classes: Number of outputs.
        in_channels: Number of image channels.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, _WIDTHS[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        for stage, (width_before, width) in enumerate(pairwise((_WIDTHS[0], *_WIDTHS)), start=1):
            stride = 1 if stage == 1 else 2
            first = BasicBlock(width_before, width, stride, _shortcut(width_before, width, stride))
            self.add_module(f"layer{stage}", nn.Sequential(first, BasicBlock(width, width)))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTHS[-1], num_classes)
        )


def _shortcut(width_before: int, width: int, stride: int) -> nn.Module | None:
    if stride == 1:
        return None
    shrink = nn.Conv2d(width_before, width, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(shrink, nn.BatchNorm2d(width))


def build(name: str, num_classes: int, in_channels: int, image_size: int | None) -> nn.Module:
    """Build one of `NETWORKS`; the arguments are those of `filterwatch.models.build_network`."""
    if name == "narrow_resnet18":
        return NarrowResNet18(num_classes, in_channels)
    return build_network(name, num_classes, in_channels, image_size)


NETWORKS = (*BUNDLED, "narrow_resnet18")
