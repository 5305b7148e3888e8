"""One real run, watched: the paper's Figure 4 as a user's own training gives it.

    python -m benchmarks.curve --data FOLDER [--epochs 20] [--seed 0] \
        [--output docs/results/simple_cnn_cifar10.json]

FOLDER holds CIFAR-10 as train/<class> and test/<class>. Trains the simple CNN with Adam through
ImageFolderDataModule, the callback at its defaults, and writes each epoch's values with a figure
beside them. One seed: it shows what a run looks like, and proves nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.engine import processor
from benchmarks.setting import quiet_trainer, versions
from filterwatch.callbacks import AnomalyFilterCallback, EpochTable
from filterwatch.datamodules import ImageFolderDataModule
from filterwatch.models import ImageClassifier
from filterwatch.visuals.figures_history import training_figure

_CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


class Curves(Callback):
    """Keeps what is logged in each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read this epoch's values; standing behind the callback in the list, its too."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.epochs.append({"epoch": trainer.current_epoch, **values})


def main() -> None:
    """Train, watch and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.curve", description=__doc__)
    parser.add_argument("--data", required=True, help="folder with CIFAR-10's train and test")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("docs/results/simple_cnn_cifar10.json"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    seed_everything(arguments.seed, verbose=False)
    datamodule = ImageFolderDataModule(root=arguments.data, image_size=32, seed=arguments.seed)
    watch, curves = AnomalyFilterCallback(pictures=False), Curves()
    trainer = quiet_trainer(
        max_epochs=arguments.epochs,
        callbacks=[watch, EpochTable([*_CURVES, "anomaly_filters"]), curves],
    )
    trainer.fit(ImageClassifier("simple_cnn"), datamodule=datamodule)
    result = {
        "command": f"python -m benchmarks.curve --data FOLDER --epochs {arguments.epochs} "
        f"--seed {arguments.seed}",
        "data": "CIFAR-10 through ImageFolderDataModule: "
        f"{len(datamodule.train_dataset)} training, {len(datamodule.val_dataset)} validation, "
        f"{len(datamodule.probe_dataset)} probe images",
        "seed": arguments.seed,
        "duration_seconds": round(time.perf_counter() - started, 1),
        "processor": processor(),
        "versions": versions(),
        "epochs": curves.epochs,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    by_name = {
        name: [(int(epoch["epoch"]), epoch[name]) for epoch in curves.epochs] for name in _CURVES
    }
    figure = training_figure(
        watch.history,
        {name: curve for name, curve in by_name.items() if name.endswith("accuracy")},
        {name: curve for name, curve in by_name.items() if name.endswith("loss")},
    )
    FigureCanvasAgg(figure)
    figure.savefig(arguments.output.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
