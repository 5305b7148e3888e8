"""The simple CNN of the paper's experiments."""

from torch import Tensor, nn

from filterwatch.models._arguments import check_network_arguments


class SimpleCNN(nn.Module):
    """Three 3x3 convolutions of 32, 64 and 64 filters, two max-pools, a dense layer of 64.

    The paper (section 4, "Models") gives the filter configuration 32-64-64 and no more; the
    rest is the common form of that network. With ReLU and max-pool counted as layers it has
    (32 + 32 + 32) + (64 + 64 + 64) + (64 + 64) = 416 feature maps.

    Args:
        num_classes: Number of outputs.
        in_channels: Number of image channels.
        image_size: Side of the square images in pixels; sizes the dense layer. At least 4.

    Raises:
        ValueError: If an argument is too small.

    Example:
        >>> import torch
        >>> SimpleCNN(num_classes=100)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        check_network_arguments("SimpleCNN", num_classes, in_channels, image_size, 4)
        self.image_size = image_size

        self.conv1 = nn.Conv2d(in_channels, 32, kernel_size=3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)

        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)

        self.conv3 = nn.Conv2d(64, 64, kernel_size=3, padding=1)
        self.relu3 = nn.ReLU()

        positions = (image_size // 2 // 2) ** 2
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64 * positions, 64),
            nn.ReLU(),
            nn.Linear(64, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: ``[N, in_channels, image_size, image_size]``.

        Returns:
            Logits ``[N, num_classes]``.
        """
        maps = self.pool1(self.relu1(self.conv1(images)))
        maps = self.pool2(self.relu2(self.conv2(maps)))
        maps = self.relu3(self.conv3(maps))
        logits: Tensor = self.classifier(maps)
        return logits
