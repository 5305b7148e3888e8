"""Getting trained cells: from disk where they have finished, else by training them."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from filterwatch.experiments.cells import Cell
from filterwatch.experiments.data import Images
from filterwatch.experiments.options import Options
from filterwatch.experiments.runs import RunFolder
from filterwatch.experiments.training import check_settings, run_folder, train_cell

T = TypeVar("T")
_REMEMBERED = 64  # probes of a simple CNN take 7 MB each


@dataclass
class Session:
    """One command's images and cells.

    Args:
        options: The command's options.
    """

    options: Options

    def __post_init__(self) -> None:
        self._images: dict[str, Images] = {}
        self._memory: OrderedDict[Hashable, object] = OrderedDict()

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made for a key before, or make it; the least recent are forgotten."""
        if key not in self._memory:
            self._memory[key] = make()
        self._memory.move_to_end(key)
        if len(self._memory) > _REMEMBERED:
            self._memory.popitem(last=False)
        return self._memory[key]  # type: ignore[return-value]  # a key has one type of value

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


def train(options: Options) -> None:
    """Train the cells that the options describe, one after another."""
    session = Session(options)
    for cell in options.cells():
        outcome = session.trained(cell)
        if isinstance(outcome, str):
            print(f"{cell.name}: not run ({outcome}): {cell.command}", file=sys.stderr)
        else:
            print(f"{cell.name}: {outcome.path}", file=sys.stderr)
