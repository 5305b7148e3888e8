"""A trained cell as the experiments look at it: curves, chosen epochs, counts under readings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from filterwatch.datamodules import ImageDataModule
from filterwatch.detection.criteria import AnomalyCriteria
from filterwatch.experiments.cache import Configuration, load_network, probed
from filterwatch.experiments.cells import Cell
from filterwatch.experiments.maps import Maps
from filterwatch.experiments.options import Options
from filterwatch.experiments.results import describe
from filterwatch.experiments.runs import RunFolder
from filterwatch.experiments.session import Session
from filterwatch.experiments.verdicts import CHReference, Clusters, Verdict, judge


@dataclass(frozen=True)
class Reading:
    """One way to read the paper's settings.

    Attributes:
        title: How tables call it.
        configuration: How networks are probed.
        criteria: The thresholds.
        ch_reference: See `filterwatch.experiments.verdicts.judge`.
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


def well_trained_epoch(curves: list[dict[str, float]]) -> int:
    """Return the epoch of the lowest validation loss (section 4.1), the first at a tie."""
    return int(min(curves, key=lambda row: row["val_loss"])["epoch"])


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
        """Epoch of the lowest validation loss."""
        return well_trained_epoch(self.curves)

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

    def probed(self, epoch: int, configuration: Configuration) -> tuple[Maps, Clusters]:
        """Return maps and clusterings of an epoch."""
        return self.session.remember(
            (self.cell.name, epoch, configuration),
            lambda: probed(
                self.folder,
                epoch,
                lambda: self.datamodule,
                configuration,
                device=self.session.options.device,
            ),
        )

    def verdict(self, epoch: int, reading: Reading) -> Verdict:
        """Return the anomaly filters of an epoch under a reading."""
        maps, clusters = self.probed(epoch, reading.configuration)
        return judge(maps, clusters, reading.criteria, ch_reference=reading.ch_reference)


def trained_cells(
    options: Options, cells: list[Cell]
) -> Iterator[tuple[dict[str, Any], TrainedCell | None]]:
    """Yield each cell's description, and the cell itself where it was run."""
    session = Session(options)
    for cell in cells:
        outcome = session.trained(cell)
        trained = None if isinstance(outcome, str) else TrainedCell(cell, outcome, session)
        yield describe(cell, outcome), trained
