"""The paper's networks, a ResNet-18, and the LightningModule that trains them."""

from filterwatch.models.alexnet import AlexNet
from filterwatch.models.classifier import ImageClassifier
from filterwatch.models.lenet5 import LeNet5
from filterwatch.models.registry import NETWORKS, build_network
from filterwatch.models.resnet18 import ResNet18
from filterwatch.models.simple_cnn import SimpleCNN

__all__ = [
    "NETWORKS",
    "AlexNet",
    "ImageClassifier",
    "LeNet5",
    "ResNet18",
    "SimpleCNN",
    "build_network",
]
