"""The examples run, and show what they say."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOK = EXAMPLES / "notebook.ipynb"


def main(name: str) -> Any:
    return import_module(f"examples.{name}").main


def test_a_plain_loop() -> None:
    watch = main("plain_loop")(epochs=3)
    assert [entry["epoch"] for entry in watch.history] == [0, 1, 2]
    assert Path("plain_loop.html").stat().st_size > 1_000_000


def test_an_own_module() -> None:
    watch = main("own_module")(max_epochs=2)
    assert len(watch.history) == 2
    assert "output" in watch.history[-1]["memorization"]


def test_wrong_folders_are_found() -> None:
    worst = main("image_folder")()
    assert sum("in_truth" in name for name in worst) >= 12
    assert "in_truth" in Path("suspects.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_network_of_timm() -> None:
    pytest.importorskip("timm")
    report = main("timm_network")(epochs=1)
    assert list(report.layers)[-1] == "output"


@pytest.mark.slow
def test_masks() -> None:
    main("mask_filters")(max_epochs=4)


def test_the_notebook_is_small_and_shows_its_pictures() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert NOTEBOOK.stat().st_size < 300_000
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    assert not any(output["output_type"] == "error" for output in outputs)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    shown = [
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
    ]
    assert shown.count("image/png") == 2
    assert shown.count("text/html") >= 3  # the watch, the table of samples, the report
