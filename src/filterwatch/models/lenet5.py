"""LeNet-5 with today's activations and pools."""

from torch import Tensor, nn

from filterwatch.models._arguments import check_network_arguments


class LeNet5(nn.Module):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pool, the layers that the paper looks at.

    With ReLU and max-pool counted as layers it has 3 * 6 + 3 * 16 = 66 feature maps.

    Args:
        num_classes: Number of outputs.
        in_channels: Number of image channels.
        image_size: Side of the square images in pixels; sizes the dense layers. At least 16.

    Raises:
        ValueError: If an argument is too small.

    Example:
        >>> import torch
        >>> LeNet5(in_channels=1)(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__()
        check_network_arguments("LeNet5", num_classes, in_channels, image_size, 16)
        self.image_size = image_size

        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)

        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)

        side = ((image_size - 4) // 2 - 4) // 2  # each 5x5 convolution takes four pixels
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * side**2, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
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
        logits: Tensor = self.classifier(maps)
        return logits
