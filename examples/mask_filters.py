"""Mask flagged filters while a network trains, without the command line.

    python examples/mask_filters.py

A small CNN overfits scikit-learn's digits, a fifth of them with wrong labels. Filters that isolate
a few samples are silenced if that does not raise the loss on held-out digits, and given back when
they no longer do; training stops if the count of such filters rises all the same. At the end the
same is done to the finished network by hand. One to two minutes on two CPU cores.
"""

from __future__ import annotations

import argparse

import torch
from lightning.pytorch import Trainer, seed_everything
from torchmetrics.functional.classification import multiclass_accuracy

from filterwatch import (
    AnomalyCriteria,
    MaskFilters,
    StopTraining,
    detect_anomaly_filters,
    mask_filters,
)
from filterwatch.callbacks import AnomalyFilterCallback, EpochTable
from filterwatch.datamodules import DigitsDataModule
from filterwatch.models import ImageClassifier


def main(max_epochs: int = 20) -> None:
    seed_everything(0)
    digits = DigitsDataModule(train_size=300, label_noise=0.2, batch_size=32)
    classifier = ImageClassifier("simple_cnn", in_channels=1)
    criteria = AnomalyCriteria(small_cluster_size=0.05)
    masking = MaskFilters(start_epoch=3, patience=2, verify=True, release=True)
    watching = AnomalyFilterCallback(
        criteria=criteria,
        max_clusters=20,
        action=[masking, StopTraining(start_epoch=3)],
        pictures=False,
    )
    columns = ["train_loss", "val_loss", "val_accuracy", "anomaly_filters", "masked_filters"]
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        callbacks=[watching, EpochTable(columns)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, digits)

    # A finished network, without a Trainer: flagged filters are silenced while the block lasts.
    network = classifier.network.eval()
    report = detect_anomaly_filters(
        network, digits.probe_dataloader(), criteria=criteria, max_clusters=20
    )
    before = accuracy(network, digits)
    with mask_filters(network, report):
        masked = accuracy(network, digits)
    print(
        f"validation accuracy {before:.1%}; with the {len(report.filters)} flagged filters of the "
        f"finished network masked {masked:.1%}; given back {accuracy(network, digits):.1%}"
    )


@torch.no_grad()
def accuracy(network: torch.nn.Module, digits: DigitsDataModule) -> float:
    logits, labels = zip(*((network(x), y) for x, y in digits.val_dataloader()), strict=True)
    return float(
        multiclass_accuracy(torch.cat(logits), torch.cat(labels), num_classes=10, average="micro")
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    main(parser.parse_args().epochs)
