"""Does acting on it help? Training again without the first suspects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from filterwatch.memorization import JOINT
from reproduction.cell_training import evaluate
from reproduction.kept_probes import load_network
from reproduction.memorization_features import Features, kept
from reproduction.memorization_partial_runs import partial_run
from reproduction.memorization_rivals import area_under_margin
from reproduction.run_folder import RunFolder
from reproduction.trained_cells import TrainedCell

EPOCHS = 15
N_HELD_OUT = 4000


def retraining(trained: TrainedCell) -> dict[str, Any]:
    """Return test accuracies of a run, and of runs without as many images as labels are wrong.

    Returns:
        ``n``, how many were left out; and for each way to choose them: the share of wrong labels
        among them, and test accuracy in the epoch of the lowest validation loss and in the last.
        Ways whose run is missing are left out.
    """
    wrong = trained.datamodule.train_dataset.is_mislabelled
    n = int(wrong.sum())
    found: dict[str, Any] = {"seed": trained.cell.seed, "n": n, "epochs": EPOCHS}
    found["nothing"] = _accuracies(trained, trained.folder, _best(trained.folder))
    for name, scores in _ways(trained, wrong).items():
        run = partial_run(trained, f"without-{name}", partial(_first, scores, n), EPOCHS)
        if run is not None:
            found[name] = {
                "precision": float(wrong[run.left_out].float().mean()) if n else None,
                **_accuracies(trained, run.folder, run.best),
            }
    return found


def _first(scores: Callable[[], Tensor], n: int) -> list[int]:
    order = scores().argsort(descending=True, stable=True)
    first: list[int] = order[:n].tolist()
    return first


def _ways(trained: TrainedCell, wrong: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the ways to choose images; each gives every one a number, the highest go first."""

    def witness() -> Tensor:
        features = Features.of(trained, trained.last, n_training=len(wrong), n_held_out=N_HELD_OUT)
        return -features.report().layers[JOINT].evidence

    def by_chance() -> Tensor:
        generator = torch.Generator().manual_seed(trained.cell.seed)
        return torch.rand(len(wrong), generator=generator)

    return {
        "witness": witness,
        "random": by_chance,
        "aum": lambda: area_under_margin(trained, trained.last),
        "wrong": wrong.float,
    }


def _best(folder: RunFolder) -> int:
    curves = folder.curves()[:EPOCHS]
    return int(min(curves, key=lambda row: row["val_loss"])["epoch"])


def _accuracies(trained: TrainedCell, folder: RunFolder, best: int) -> dict[str, Any]:
    found: dict[str, Any] = kept(
        trained,
        f"accuracies-{EPOCHS}-{folder.path.name}",
        partial(_measured_accuracies, trained, folder, best),
    )
    return found


def _measured_accuracies(trained: TrainedCell, folder: RunFolder, best: int) -> dict[str, float]:
    datamodule = trained.datamodule
    datamodule.setup("test")
    last = min(EPOCHS, len(folder.curves())) - 1
    return {
        name: evaluate(load_network(folder, epoch, datamodule), datamodule.test_dataset)[1]
        for name, epoch in (("best", best), ("last", last))
    }
