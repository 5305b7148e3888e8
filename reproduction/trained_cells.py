"""Trained cells: from disk where they have finished, else by training; and what is read off them.

A trained cell has curves, chosen epochs, and counts of anomaly filters under any reading.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from filterwatch import AnomalyCriteria
from filterwatch.datamodules import ImageDataModule
from reproduction.cell_images import Images
from reproduction.cell_training import check_settings, run_folder, train_cell
from reproduction.cells import Cell
from reproduction.kept_probes import Configuration, load_network, probed
from reproduction.options import Options
from reproduction.points_and_verdicts import CHReference, Probed, Verdict, verdict_of
from reproduction.result_files import describe
from reproduction.run_folder import RunFolder

_REMEMBERED = 64  # probes of a simple CNN take 10 MB each


@dataclass(frozen=True)
class Reading:
    """One way to read the paper's settings.

    Attributes:
        title: How tables call it.
        configuration: How networks are probed.
        criteria: The thresholds.
        ch_reference: See `reproduction.points_and_verdicts.verdict_of`.
    """

    title: str
    configuration: Configuration
    criteria: AnomalyCriteria
    ch_reference: CHReference = "mean"


# The paper says neither how large its probe was nor of how many samples lambda = 100 is.
READINGS = {
    "default": Reading(
        "this package's defaults, on 1,000 held-out images", Configuration(), AnomalyCriteria()
    ),
    "paper": Reading(
        "the paper's row 1 to the letter, λ = 100 of 1,000 held-out images",
        Configuration(),
        AnomalyCriteria.paper(1),
    ),
}


class Session:
    """One command's images and cells.

    Args:
        options: The command's options.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._images: dict[str, Images] = {}
        self._probed: OrderedDict[tuple[str, int, Configuration], Probed] = OrderedDict()

    def probed(self, trained: TrainedCell, epoch: int, configuration: Configuration) -> Probed:
        """Return what a probe finds at an epoch; those asked for last stay in memory."""
        key = (trained.cell.name, epoch, configuration)
        if key not in self._probed:
            self._probed[key] = probed(
                trained.folder,
                epoch,
                lambda: trained.datamodule,
                configuration,
                device=self.options.device,
            )
        self._probed.move_to_end(key)
        if len(self._probed) > _REMEMBERED:
            self._probed.popitem(last=False)
        return self._probed[key]

    def images(self, dataset: str) -> Images:
        """Return a data set, loaded when it is first asked for.

        Raises:
            RuntimeError: If it is not there and cannot be downloaded.
        """
        if dataset not in self._images:
            self._images[dataset] = Images(dataset, self.options.data)
        return self._images[dataset]

    def trained(self, cell: Cell) -> RunFolder | str:
        """Return a cell's finished run, or the reason why there is none.

        Raises:
            ValueError: If the cell's folder holds a run of other settings.
        """
        folder = run_folder(self.options.runs, cell)
        check_settings(folder, cell.settings())
        if len(folder.curves()) >= cell.epochs:
            return folder
        if not self.options.affordable(cell):
            return "needs a GPU, or to be named (--models)"
        if not self.options.train:
            return "not trained"
        try:
            images = self.images(cell.dataset)
        except RuntimeError as error:
            return f"no images: {str(error).splitlines()[0]}"
        return train_cell(
            cell,
            images.divided(cell),
            folder,
            accelerator=self.options.device,
            keep_every=self.options.keep_every,
        )


@dataclass(frozen=True)
class TrainedCell:
    """A finished run.

    Attributes:
        cell: What was trained.
        folder: Where it is kept.
        session: The command's images.
    """

    cell: Cell
    folder: RunFolder
    session: Session

    @cached_property
    def curves(self) -> list[dict[str, float]]:
        """One row an epoch, up to the cell's number of epochs."""
        return self.folder.curves()[: self.cell.epochs]

    @property
    def well_trained(self) -> int:
        """Epoch of the lowest validation loss (section 4.1), the first at a tie."""
        return int(min(self.curves, key=lambda row: row["val_loss"])["epoch"])

    @property
    def last(self) -> int:
        """The last epoch, which the overfit network is taken from."""
        return len(self.curves) - 1

    @property
    def kept_epochs(self) -> list[int]:
        """Epochs whose weights were kept."""
        return [epoch for epoch in self.folder.kept_epochs() if epoch <= self.last]

    @cached_property
    def datamodule(self) -> ImageDataModule:
        """The run's images, loaded."""
        datamodule = self.session.images(self.cell.dataset).divided(self.cell)
        datamodule.setup("fit")
        return datamodule

    def network(self, epoch: int) -> torch.nn.Module:
        """Return the network of an epoch, in evaluation mode on the command's device."""
        network = load_network(self.folder, epoch, self.datamodule)
        return network.to(self.session.options.device)

    def probed(self, epoch: int, configuration: Configuration) -> Probed:
        """Return what a probe finds at an epoch."""
        return self.session.probed(self, epoch, configuration)

    def verdict(self, epoch: int, reading: Reading) -> Verdict:
        """Return the anomaly filters of an epoch under a reading."""
        report = self.probed(epoch, reading.configuration).report
        return verdict_of(report, reading.criteria, ch_reference=reading.ch_reference)


def trained_cells(
    options: Options, cells: list[Cell]
) -> Iterator[tuple[dict[str, Any], TrainedCell | None]]:
    """Yield each cell's description, and the cell itself where it was run."""
    session = Session(options)
    for cell in cells:
        outcome = session.trained(cell)
        trained = None if isinstance(outcome, str) else TrainedCell(cell, outcome, session)
        yield describe(cell, outcome), trained


def measured_cells(
    options: Options, measure: Callable[[TrainedCell], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the description of each of a command's cells, and what a function says of it.

    Cells that were not run have their description alone.
    """
    return [
        row if trained is None else row | measure(trained)
        for row, trained in trained_cells(options, options.cells())
    ]


def train(options: Options) -> None:
    """Train the cells that the options describe, one after another."""
    session = Session(options)
    for cell in options.cells():
        outcome = session.trained(cell)
        if isinstance(outcome, str):
            print(f"{cell.name}: not run ({outcome}): {cell.command}", file=sys.stderr)
        else:
            print(f"{cell.name}: {outcome.path}", file=sys.stderr)
