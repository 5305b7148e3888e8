"""The paper's networks, a ResNet-18, and the LightningModule that trains them."""

from typing import TYPE_CHECKING

from filterwatch._lazy import lazy_names

if TYPE_CHECKING:
    from filterwatch.models.classifier import ImageClassifier as ImageClassifier
    from filterwatch.models.networks import NETWORKS as NETWORKS
    from filterwatch.models.networks import AlexNet as AlexNet
    from filterwatch.models.networks import LeNet5 as LeNet5
    from filterwatch.models.networks import ResNet18 as ResNet18
    from filterwatch.models.networks import SimpleCNN as SimpleCNN
    from filterwatch.models.networks import build_network as build_network
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        classifier=["ImageClassifier"],
        networks=["NETWORKS", "AlexNet", "LeNet5", "ResNet18", "SimpleCNN", "build_network"],
    )
