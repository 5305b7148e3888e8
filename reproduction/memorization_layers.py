"""Where: single layers set back to an earlier epoch, and what that does to validation accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch.memorization import OUTPUT, MemorizationReport, find_decoded_layers
from filterwatch.observing import Operation, observed, undisturbed
from reproduction.cell_training import evaluate, read_batch
from reproduction.memorization_features import first
from reproduction.rank_correlations import spearman
from reproduction.trained_cells import TrainedCell

# Validation images: enough for half a percent, few enough for twenty layers of a ResNet.
N_IMAGES = 2000


def layers_set_back(trained: TrainedCell, report: MemorizationReport) -> dict[str, Any] | None:
    """Set each layer of the last epoch's network back to the epoch of lowest validation loss.

    Args:
        trained: A run.
        report: Memorization in its last epoch.

    Returns:
        Validation accuracy of both epochs' networks; for each row with weights of its own, its
        memorization and the accuracy and loss that setting it back gains; the row that gains most
        and the one that has memorized most; and Spearman's rank correlation over the rows. ``None``
        where the last epoch is the best one.
    """
    if trained.last == trained.well_trained:
        return None
    network = trained.network(trained.last)
    dataset = first(trained.datamodule.val_dataset, N_IMAGES)
    device = trained.session.options.device
    late, early = (trained.folder.weights(at) for at in (trained.last, trained.well_trained))
    groups = weights_of_rows(network, read_batch(dataset, torch.arange(2))[0].to(device))
    loss, accuracy = evaluate(network, dataset, device=device)
    network.load_state_dict(early)
    best_loss, best_accuracy = evaluate(network, dataset, device=device)
    rows = {}
    for name, modules in groups.items():
        network.load_state_dict(set_back(late, early, modules))
        loss_there, accuracy_there = evaluate(network, dataset, device=device)
        rows[name] = {
            "memorization": report.layers[name].value,
            "accuracy_gain": accuracy_there - accuracy,
            "loss_gain": loss - loss_there,
        }
    values = {key: [row[key] for row in rows.values()] for key in next(iter(rows.values()))}
    return {
        "accuracy": {"best": best_accuracy, "last": accuracy},
        "loss": {"best": best_loss, "last": loss},
        "rows": rows,
        "most_memorized": max(rows, key=lambda name: rows[name]["memorization"]),
        "most_gained": max(rows, key=lambda name: rows[name]["accuracy_gain"]),
        "spearman": spearman(values["memorization"], values["accuracy_gain"]),
        "spearman_loss": spearman(values["memorization"], values["loss_gain"]),
    }


def weights_of_rows(network: nn.Module, images: Tensor) -> dict[str, list[str]]:
    """Return the modules whose weights belong to each row: its layer, and a normalization behind.

    An activation's row has the layers before it that have no row of their own; the output has the
    last layer. Rows without weights, such as an activation behind a sum, are left out.

    Args:
        network: The network.
        images: Two or more, on its device.
    """
    names = {layer.name for layer in find_decoded_layers(network, images)}
    groups: dict[str, list[str]] = {}
    without_row: list[list[str]] = []
    newest: list[str] = []

    def remember(operation: Operation) -> None:
        nonlocal newest
        name = operation.layer_name
        if operation.kind in ("convolution", "linear"):
            newest = [operation.module_name]
            if name in names:
                groups[name] = newest
            else:
                without_row.append(newest)
        elif operation.kind == "normalization":
            newest.append(operation.module_name)
        elif name in names and without_row:
            groups[name] = [module for group in without_row for module in group]
            without_row.clear()

    with undisturbed(network, seed=0), observed(network, remember, units=True):
        network(images)
    groups[OUTPUT] = [module for group in without_row for module in group]
    return groups


def set_back(
    late: Mapping[str, Tensor], early: Mapping[str, Tensor], modules: Sequence[str]
) -> dict[str, Tensor]:
    """Return the later weights, those of some modules replaced by the earlier ones."""
    return {
        key: early[key] if key.rpartition(".")[0] in modules else value
        for key, value in late.items()
    }
