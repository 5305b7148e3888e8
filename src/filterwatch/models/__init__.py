"""The paper's networks, a ResNet-18, and the LightningModule that trains them."""

from typing import TYPE_CHECKING

from filterwatch._lazy import lazy_names

if TYPE_CHECKING:
    from filterwatch.models.classifier import ImageClassifier
    from filterwatch.models.networks import (
        NETWORKS,
        AlexNet,
        LeNet5,
        ResNet18,
        SimpleCNN,
        build_network,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        classifier=["ImageClassifier"],
        networks=["NETWORKS", "AlexNet", "LeNet5", "ResNet18", "SimpleCNN", "build_network"],
    )

__all__ = [
    "NETWORKS",
    "AlexNet",
    "ImageClassifier",
    "LeNet5",
    "ResNet18",
    "SimpleCNN",
    "build_network",
]
