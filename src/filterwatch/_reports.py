"""What reports have in common: their way to a file and back, to a notebook, a figure, a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filterwatch._words import as_html, as_text

if TYPE_CHECKING:
    from rich.table import Table
    from typing_extensions import Self


class Shown:
    """What prints as a table, in a terminal and in a notebook."""

    def __rich__(self) -> Table:
        raise NotImplementedError

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)


class Report(Shown):
    """A report of plain data."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain lists, numbers and strings, NaN as ``None``."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the report that `to_dict` described; ``ValueError`` if it is no such report."""
        raise NotImplementedError

    def to_json(self, path: str | Path) -> None:
        """Write the report to a JSON file; see `to_dict`."""
        write_json(path, self.to_dict())

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a report that `to_json` wrote; ``ValueError`` if it is no such report."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def write_json(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write plain data to a file; ``ValueError`` if there is a NaN in it."""
    Path(path).write_text(json.dumps(data, allow_nan=False), encoding="utf-8")


def visuals() -> Any:
    """Return `filterwatch.visuals`, by name: it stands above reports, and needs matplotlib."""
    return import_module("filterwatch.visuals")


def data_frame(columns: Mapping[str, Sequence[Any]], instead: str) -> Any:
    """Return columns as a ``pandas.DataFrame``.

    Args:
        columns: Name to values, one a row.
        instead: The method that writes them to a file without pandas.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise ImportError(
            f"a DataFrame needs the package pandas: pip install pandas, or write a file with "
            f"{instead}()"
        ) from error
    return pandas.DataFrame(dict(columns))
