"""The arguments that every experiment's command shares, and the cells that they describe."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from reproduction.cells import DATASETS, NEEDS_GPU, REGIMES, Cell
from reproduction.networks import NETWORKS


@dataclass(frozen=True)
class Options:
    """Where an experiment reads and writes, and which cells it is about.

    Attributes:
        data: Folder of images.
        runs: Folder of trained cells and of cached probes.
        results: Folder of the results as JSON.
        models: Names of the networks.
        datasets: Names of the data sets.
        regimes: Names of the training regimes.
        seeds: Training seeds.
        epochs: Epochs of a run.
        batch_size: Images of a training step.
        train_size: Training images to keep; ``None`` keeps all.
        keep_every: Keep the weights of epochs divisible by this number.
        device: Where networks run.
        train: Whether cells that have not finished are trained.
        models_named: Whether the networks were named on the command line.
        command: The command line, for the record.
    """

    data: Path
    runs: Path
    results: Path
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    regimes: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    train_size: int | None
    keep_every: int
    device: str
    train: bool
    models_named: bool
    command: str

    def cells(self) -> list[Cell]:
        """Return the cells that the options describe, in a fixed order."""
        return [
            Cell(
                model=model,
                dataset=dataset,
                regime=regime,
                seed=seed,
                epochs=self.epochs,
                batch_size=self.batch_size,
                train_size=self.train_size,
            )
            for dataset in self.datasets
            for model in self.models
            for regime in self.regimes
            for seed in self.seeds
        ]

    def affordable(self, cell: Cell) -> bool:
        """Return whether a cell is trained without being asked for by name."""
        return self.models_named or self.device != "cpu" or cell.model not in NEEDS_GPU


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shared arguments to a command's parser."""
    where = parser.add_argument_group("where")
    where.add_argument(
        "--data",
        type=Path,
        default=Path("data"),
        help="folder of images: DATA/<dataset>/train/<class>, DATA/train/<class>, or torchvision's "
        "archives, downloaded where absent (default: data)",
    )
    where.add_argument(
        "--runs",
        type=Path,
        default=Path("logs/reproduce"),
        help="folder of trained cells; finished ones are kept (default: logs/reproduce)",
    )
    where.add_argument(
        "--results",
        type=Path,
        default=Path("docs/results"),
        help="folder of the results (default: docs/results)",
    )
    which = parser.add_argument_group("which cells")
    which.add_argument("--models", nargs="+", choices=NETWORKS)
    which.add_argument("--datasets", nargs="+", choices=DATASETS)
    which.add_argument("--regimes", nargs="+", choices=tuple(REGIMES))
    which.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    which.add_argument("--epochs", type=int, default=60)
    which.add_argument("--batch-size", type=int, default=64)
    which.add_argument("--train-size", type=int, help="training images to keep (default: all)")
    which.add_argument(
        "--keep-every",
        type=int,
        default=1,
        help="keep the weights of every n-th epoch, the best and the last (default: 1)",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
    how.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    how.add_argument(
        "--no-train",
        action="store_true",
        help="read what is there, and train nothing",
    )


def read_options(
    arguments: argparse.Namespace,
    command: str,
    *,
    models: tuple[str, ...],
    datasets: tuple[str, ...],
    regimes: tuple[str, ...],
) -> Options:
    """Turn parsed arguments into options.

    Args:
        arguments: What the parser returned.
        command: The command line, for the record.
        models: The experiment's own networks.
        datasets: The experiment's own data sets.
        regimes: The experiment's own regimes.
    """
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Options(
        data=arguments.data.expanduser(),
        runs=arguments.runs.expanduser(),
        results=arguments.results.expanduser(),
        models=tuple(arguments.models or models),
        datasets=tuple(arguments.datasets or datasets),
        regimes=tuple(arguments.regimes or regimes),
        seeds=tuple(arguments.seeds),
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        train_size=arguments.train_size,
        keep_every=arguments.keep_every,
        device=device,
        train=not arguments.no_train,
        models_named=arguments.models is not None,
        command=command,
    )
