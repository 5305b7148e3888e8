"""`StopTraining` on two networks that really train: one that overfits, and its regularised twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from acted import trainer, watch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from filterwatch import AnomalyCriteria, StopTraining
from filterwatch.models import ImageClassifier

SIDE = 16
N_CLASSES = 8
EPOCHS = 48


def patches() -> tuple[Tensor, Tensor]:
    """Return patches [N, 3, 16, 16] of two photographs, and which quarter of which each is from."""
    images, labels = [], []
    for number, photograph in enumerate(load_sample_images().images):
        pixels = torch.from_numpy(np.array(photograph)).float().permute(2, 0, 1)
        pixels = (pixels - pixels.mean((1, 2), keepdim=True)) / pixels.std((1, 2), keepdim=True)
        grid = pixels.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)
        rows, columns = grid.shape[1:3]
        images.append(grid.permute(1, 2, 0, 3, 4).flatten(0, 1))
        below = torch.arange(rows) >= rows // 2
        right = torch.arange(columns) >= columns // 2
        labels.append((4 * number + 2 * below[:, None] + right[None, :]).flatten())
    return torch.cat(images), torch.cat(labels)


class Shifted(Dataset[Any]):
    """Patches that are mirrored and moved at random."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        right, down = torch.randint(5, (2,)).tolist()
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
        return padded[:, down : down + SIDE, right : right + SIDE], self.labels[index]


class Losses(Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.losses.append(float(trainer.callback_metrics["val_loss"]))


def train(seed: int, *, regularised: bool) -> tuple[StopTraining, list[int], list[float]]:
    """Train the simple CNN: on 200 patches, half of them mislabelled; or on 900 with right labels,
    augmented, and with weight decay. Probe and validation are the same for both.

    Returns:
        The action; the counts, one in 3 epochs; and the validation loss of each epoch.
    """
    images, labels = patches()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    probe, validation, training = order.split([800, 300, len(order) - 1100])
    if regularised:
        training = training[:900]
        train_set: Any = Shifted(images[training], labels[training])
    else:
        training = training[:200]
        wrong = torch.rand(200, generator=generator) < 0.5
        others = labels[training] + 1 + torch.randint(7, (200,), generator=generator)
        noisy = torch.where(wrong, others % N_CLASSES, labels[training])
        train_set = TensorDataset(images[training], noisy)
    seed_everything(seed, verbose=False)
    module = ImageClassifier(
        "simple_cnn",
        num_classes=N_CLASSES,
        image_size=SIDE,
        in_channels=3,
        learning_rate=3e-3,
        weight_decay=1e-3 if regularised else 0.0,
    )
    action = StopTraining(start_epoch=6, rise=1.4, min_rise=5, patience=2, window=5)
    callback = watch(
        probe=images[probe],
        probe_size=800,
        max_clusters=20,
        criteria=AnomalyCriteria(),
        every_n_epochs=3,
        action=action,
    )
    losses = Losses()
    trainer(callback, losses, max_epochs=EPOCHS).fit(
        module,
        DataLoader(train_set, batch_size=32, shuffle=True),
        DataLoader(TensorDataset(images[validation], labels[validation]), batch_size=300),
    )
    return action, [entry["count"] for entry in callback.history], losses.losses
