"""The progress bar of long probes."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from rich.console import Console
from rich.progress import Progress
from torch import nn
from watched import LAYERS, TinyNet, dataset, fit, watch

from filterwatch.detection import detect_anomaly_filters
from filterwatch.visuals import progress
from filterwatch.visuals.progress import progress_bar


class Terminal(io.StringIO):
    """Text that looks like a terminal to those who ask."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return what looks like a terminal, wide enough for a bar."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def console(is_terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=100, color_system=None)


def printed(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def probed(shown: Console) -> None:
    with progress_bar("probe", shown) as on_progress:
        detect_anomaly_filters(
            TinyNet(), dataset().tensors[0], max_clusters=4, on_progress=on_progress
        )


@pytest.mark.usefixtures("no_delay")
def test_shows_the_step_and_the_layer_and_then_goes() -> None:
    shown = console()
    probed(shown)
    text = printed(shown)
    for step in ("feature maps", "principal components", "clustering"):
        assert f"probe: {step}, network." in text
    assert text.endswith("\x1b[2K")  # the line is erased


def test_short_work_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert progress.DELAY >= 2
    shown = console()
    probed(shown)
    assert printed(shown) == ""


@pytest.mark.usefixtures("no_delay")
def test_quiet_in_pipes() -> None:
    shown = console(is_terminal=False)
    probed(shown)
    assert printed(shown) == ""


@pytest.mark.usefixtures("no_delay")
def test_quiet_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    shown = console()
    probed(shown)
    assert printed(shown) == ""


def test_telling_how_far_it_is_changes_no_result() -> None:
    images = dataset().tensors[0]
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 3))
    with torch.no_grad():
        model[0].weight[1:3] = 0  # dead filters, which are never clustered
        model[0].bias[1:3] = 0
    told: list[tuple[str, str, int, int]] = []
    options: dict[str, Any] = {"max_clusters": 4, "batch_size": 24}
    watched = detect_anomaly_filters(
        model, images, **options, on_progress=lambda *news: told.append(news)
    )
    plain = detect_anomaly_filters(model, images, **options)
    assert watched.to_dict(include_samples=True) == plain.to_dict(include_samples=True)

    steps = [step for step, *_ in told]
    assert list(dict.fromkeys(steps)) == ["feature maps", "principal components", "clustering"]
    maps = [news[1:] for news in told if news[0] == "feature maps"]
    assert maps[:4] == [("0", 0, 192), ("1", 24, 192), ("2", 48, 192), ("0", 72, 192)]
    clustering = [news[1:] for news in told if news[0] == "clustering"]
    assert clustering[0] == ("0", 0, 13)
    assert clustering[-1] == ("2", 13, 13)
    assert [news[1] for news in clustering] == sorted(news[1] for news in clustering)


@pytest.mark.usefixtures("no_delay")
def test_a_line_in_lightnings_rich_display(terminal: Terminal) -> None:
    left: list[str] = []

    class Bar(RichProgressBar):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            assert isinstance(self.progress, Progress)
            left.extend(task.description for task in self.progress.tasks)

    bar = Bar(console_kwargs={"file": terminal, "force_terminal": True, "width": 120})
    fit(watch(), bar, enable_progress_bar=True)
    text = terminal.getvalue()
    assert re.search(r"probe: feature maps, network\.\d", text)
    assert "Epoch 1/1" in text
    assert left
    assert not any("probe" in description for description in left)


@pytest.mark.usefixtures("no_delay")
def test_a_line_below_lightnings_tqdm_bar(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not in a fixture: pytest puts its own in place between there and here.
    monkeypatch.setattr(sys, "stdout", terminal)
    fit(watch(), TQDMProgressBar(), enable_progress_bar=True)
    text = terminal.getvalue()
    found = re.findall(r"probe: (feature maps|principal components|clustering), (\S+)", text)
    assert {layer for _, layer in found} >= set(LAYERS)
    # The line is blanked behind the probe, and training's own bar is whole at the end.
    last = text.rindex("probe: ")
    assert re.search(r"\r +\x1b\[A", text[last:])
    assert "Epoch 1: 100%" in text[last:]


@pytest.mark.usefixtures("no_delay")
def test_none_where_lightning_shows_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    fit(watch())
    assert "probe:" not in terminal.getvalue()
