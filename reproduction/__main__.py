"""``python -m reproduction NAME``: one command for each experiment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NamedTuple

from reproduction.cells import COMMAND, REGIMES
from reproduction.options import Options, add_arguments, read_options

_FOLDERS = {"--data": "DATA", "--runs": "RUNS", "--results": "RESULTS"}
_PAPER_MODELS = ("simple_cnn", "alexnet", "lenet5")
_PAPER_DATASETS = ("cifar10", "cifar100", "fashion_mnist")


class Experiment(NamedTuple):
    """One subcommand.

    Attributes:
        summary: The line that ``--help`` shows.
        target: ``module:function``, imported when it is called; it takes the `Options`.
        models: Its networks.
        datasets: Its data sets.
        regimes: Its training regimes.
    """

    summary: str
    target: str
    models: tuple[str, ...] = _PAPER_MODELS
    datasets: tuple[str, ...] = _PAPER_DATASETS
    regimes: tuple[str, ...] = ("overfit",)


EXPERIMENTS = {
    "train": Experiment(
        "train cells and keep every epoch's weights; the others do so too where they need them",
        "reproduction.trained_cells:train",
    ),
    "fig4": Experiment(
        "training curve and number of anomaly filters, epoch by epoch",
        "reproduction.counts:fig4",
        models=("simple_cnn",),
        datasets=("cifar10",),
        regimes=("overfit", "regularised"),
    ),
    "table2": Experiment(
        "anomaly filters of well-trained and overfit networks",
        "reproduction.counts:table2",
    ),
    "table3": Experiment(
        "gradients of outlier samples and of normal ones",
        "reproduction.outlier_gradients:table3",
        datasets=("cifar10", "cifar100"),
    ),
    "table4": Experiment(
        "single-filter masking: training accuracy down, test accuracy up",
        "reproduction.masking_experiments:table4",
        datasets=("cifar10", "cifar100"),
    ),
    "table5": Experiment(
        "single-filter masking: accuracy change against random filters",
        "reproduction.masking_experiments:table5",
        datasets=("cifar10", "cifar100"),
    ),
    "table6": Experiment(
        "predictions of outlier samples with all anomaly filters masked",
        "reproduction.masking_experiments:table6",
        datasets=("cifar10", "cifar100"),
    ),
    "evidence": Experiment(
        "controls, rivals, lead time and the choice of defaults",
        "reproduction.evidence:evidence",
        models=("simple_cnn", "lenet5"),
        datasets=("cifar10",),
        regimes=("overfit", "regularised"),
    ),
    "memorization": Experiment(
        "whether, where, when, and because of which samples networks overfit",
        "reproduction.memorization:memorization",
        models=("simple_cnn", "lenet5", "narrow_resnet18"),
        datasets=("cifar10",),
        regimes=tuple(REGIMES),
    ),
    "render": Experiment(
        "docs/results.md and its figures, from the results alone",
        "reproduction.results_page:render",
    ),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run an experiment.

    Args:
        args: Its name and its arguments; ``None`` takes those of the process.
    """
    args = sys.argv[1:] if args is None else list(args)
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Train the cells that an experiment needs, and make its table of them. "
        "Finished cells are kept; interrupted ones go on from their last epoch.",
    )
    commands = parser.add_subparsers(metavar="NAME", dest="name", required=True)
    for name, experiment in EXPERIMENTS.items():
        add_arguments(commands.add_parser(name, help=experiment.summary))
    arguments = parser.parse_args(args)
    experiment = EXPERIMENTS[arguments.name]
    options = read_options(
        arguments,
        recorded_command(args),
        models=experiment.models,
        datasets=experiment.datasets,
        regimes=experiment.regimes,
    )
    module, name = experiment.target.split(":")
    function: Callable[[Options], None] = getattr(import_module(module), name)
    try:
        function(options)
    except ValueError as error:
        sys.exit(f"{COMMAND} {arguments.name}: {error}")


def recorded_command(args: Sequence[str]) -> str:
    """Return a command line for the record: folders, which differ elsewhere, by their names."""
    words = [COMMAND]
    folder = None
    for word in args:
        option, equals, _ = word.partition("=")
        if folder is not None:
            words.append(folder)
            folder = None
        elif option in _FOLDERS and equals:
            words.append(f"{option}={_FOLDERS[option]}")
        else:
            words.append(word)
            folder = _FOLDERS.get(word)
    return " ".join(words)


if __name__ == "__main__":
    main()
