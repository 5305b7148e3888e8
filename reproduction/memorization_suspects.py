"""Which: how well wrong labels are found, by the witness and by its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from filterwatch.datamodules import Stream, seeded_generator
from filterwatch.memorization import JOINT, BatchFeatures
from reproduction.cells import REGIMES
from reproduction.memorization_features import Features, measured
from reproduction.memorization_rivals import (
    area_under_margin,
    neighbors_disagree,
    network_loss,
)
from reproduction.trained_cells import TrainedCell

# Names of the scores, and what tables call them.
SCORES = {
    "witness": "witness",
    "witness_default": "witness, 1,000",
    "witness_noisy": "witness, noisy",
    "deepest": "deepest layer",
    "best_layer": "best layer",
    "loss": "network's loss",
    "aum": "AUM",
    "neighbors": "neighbors",
    "cleanlab": "cleanlab",
}
N_DEFAULT = 1000
N_FIRST = 100


def find_wrong_labels(trained: TrainedCell, epoch: int, features: Features) -> dict[str, Any]:
    """Return how well each score finds the wrong labels among all training images.

    Args:
        trained: A run with wrong labels.
        epoch: The epoch that is judged.
        features: Of its training images and of the held-out pool, in that epoch.

    Returns:
        For each of `SCORES` but cleanlab's, which is the same in every epoch: area under the ROC
        curve, and precision among the first hundred.
    """
    wrong = trained.datamodule.train_dataset.is_mislabelled
    training = features.training
    labels = training.labels
    assert labels is not None
    report = features.report()
    noisy = measured(features.layers, training, _noisy(trained, features))
    hidden = {name: -layer.evidence for name, layer in report.hidden.items()}
    best = max(hidden, key=lambda name: _auroc(wrong, hidden[name]))
    deepest = list(hidden)[-1]
    scores = {
        "witness": -report.layers[JOINT].evidence,
        "witness_default": -features.report(N_DEFAULT).layers[JOINT].evidence,
        "witness_noisy": -noisy.layers[JOINT].evidence,
        "deepest": hidden[deepest],
        "best_layer": hidden[best],
        "loss": network_loss(training),
        "aum": area_under_margin(trained, epoch),
        "neighbors": neighbors_disagree(training.layers[deepest], labels),
    }
    return {
        "epoch": epoch,
        "wrong": int(wrong.sum()),
        "best_layer": best,
        "scores": judged(wrong, scores),
    }


def judged(wrong: Tensor, scores: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return area under the ROC curve and precision among the first hundred of each score [N].

    Args:
        wrong: Which labels are wrong, bool [N].
        scores: Name to scores; the highest are the first suspects, ties in the order of samples.
    """
    found = {}
    for name, score in scores.items():
        order = score.argsort(descending=True, stable=True)
        found[name] = {
            "auroc": _auroc(wrong, score),
            "precision": float(wrong[order[:N_FIRST]].float().mean()),
        }
    return found


def _auroc(wrong: Tensor, score: Tensor) -> float:
    return float(roc_auc_score(wrong.numpy(), score.numpy()))


def _noisy(trained: TrainedCell, features: Features) -> BatchFeatures:
    """Return held-out samples of whose labels as many are wrong, by chance, as in training."""
    held_out = features.held_out
    assert held_out.labels is not None
    generator = seeded_generator(trained.cell.seed, Stream.LABEL_NOISE)
    n_classes = trained.datamodule.num_classes
    n_wrong = round(REGIMES[trained.cell.regime].wrong_labels * len(held_out.labels))
    positions = torch.randperm(len(held_out.labels), generator=generator)[:n_wrong]
    labels = held_out.labels.clone()
    shift = torch.randint(1, n_classes, (n_wrong,), generator=generator)
    labels[positions] = (labels[positions] + shift) % n_classes
    return replace(held_out, labels=labels)
