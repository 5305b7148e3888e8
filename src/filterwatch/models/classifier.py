"""The LightningModule around a network: loss, accuracy, optimizer."""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from filterwatch.batches import find_images
from filterwatch.models.networks import build_network


class ImageClassifier(LightningModule):
    """Trains a network to classify images with cross entropy and Adam, as the paper does.

    Logs, once an epoch: ``train_loss``, ``train_accuracy``, ``val_loss``, ``val_accuracy``, and
    ``test_loss``, ``test_accuracy`` of ``trainer.test``. They go to the progress bar too, and are
    reduced over all processes. A batch is ``(images [N, C, H, W], labels [N])``.

    A checkpoint of a named network holds what rebuilds it, so
    ``ImageClassifier.load_from_checkpoint(path)`` is enough; one of an ``nn.Module`` wants the same
    module again: ``ImageClassifier.load_from_checkpoint(path, network=module)``.

    Args:
        network: ``"simple_cnn"``, ``"lenet5"``, ``"alexnet"`` or ``"resnet18"``, or any
            ``nn.Module`` that turns images ``[N, C, H, W]`` into logits ``[N, num_classes]``.
        num_classes: Number of classes.
        in_channels: Number of image channels, for a named network.
        image_size: Side of the square images in pixels, for a named network; ``None`` is 227 for
            AlexNet and 32 for the others.
        learning_rate: Adam's learning rate.
        weight_decay: Adam's L2 penalty.

    Raises:
        TypeError: If ``network`` is neither a name nor a module.
        ValueError: If a number is out of range, or `build_network` raises.
    """

    def __init__(
        self,
        network: str | nn.Module,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(network, str | nn.Module):
            raise TypeError(f"network must be a name or an nn.Module, got {type(network).__name__}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {learning_rate}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must not be negative, got {weight_decay}")
        self.num_classes = num_classes
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.image_shape: tuple[int, int, int] | None = None  # [C, H, W] where known
        if isinstance(network, str):
            self.save_hyperparameters()
            bundled = build_network(network, num_classes, in_channels, image_size)
            self.network: nn.Module = bundled
            self.image_shape = (in_channels, bundled.image_size, bundled.image_size)
        else:
            # Its weights are in the state dict already, and a pickled module in the
            # hyperparameters would lock the checkpoint against `weights_only=True`.
            self.save_hyperparameters(ignore=["network"])
            self.network = network
        for stage in ("train", "val", "test"):
            # The labels' range is checked in `_step`, once for loss and accuracy.
            accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
            self.add_module(f"{stage}_accuracy", accuracy)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``[N, num_classes]`` of images ``[N, C, H, W]``, normalized before.

        Raises:
            ValueError: If a named network was built for images of another shape.
        """
        if self.image_shape is not None and images.shape[1:] != self.image_shape:
            raise ValueError(
                f"{type(self.network).__name__} was built for images [channels, height, width] = "
                f"{list(self.image_shape)}, got {list(images.shape[1:])}: "
                "set in_channels and image_size of the model to those of the data"
            )
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one training batch."""
        return self._step("train", batch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy of one validation batch."""
        self._step("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss and accuracy of one test batch."""
        self._step("test", batch)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Logits ``[N, num_classes]`` of a batch of images, with or without labels beside them."""
        logits: Tensor = self(find_images(batch))
        return logits

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        return torch.optim.Adam(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )

    def _step(self, stage: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        accuracy: MulticlassAccuracy = getattr(self, f"{stage}_accuracy")
        images, labels = batch
        logits = self(images)
        self._check(logits, labels)
        loss = F.cross_entropy(logits, labels)
        accuracy(logits, labels)
        self.log_dict(
            {f"{stage}_loss": loss, f"{stage}_accuracy": accuracy},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=len(labels),
        )
        return loss

    def _check(self, logits: object, labels: Tensor) -> None:
        # PyTorch reports these as an index error on the CPU and as a device assertion, without
        # any value, on a GPU.
        expected = [len(labels), self.num_classes]
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found != expected:
            raise ValueError(
                f"{type(self.network).__name__} must return logits [batch, num_classes] = "
                f"{expected}, got {found}: set num_classes to the network's number of outputs"
            )
        lowest, highest = (int(label) for label in torch.aminmax(labels))
        if lowest < 0 or highest >= self.num_classes:
            raise ValueError(
                f"Labels must lie in 0 to {self.num_classes - 1}, got {lowest} to {highest}: "
                f"set num_classes, now {self.num_classes}, to that of the data"
            )
