"""The README says what is true: its snippets run, its commands parse, its tables are complete."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from watched import TinyNet, loader

from filterwatch import AnomalyCriteria, AnomalyFilterCallback
from filterwatch.analysis.command_line import build_parser
from filterwatch.cli import main
from filterwatch.memorization import METRICS
from reproduction.__main__ import EXPERIMENTS
from reproduction.__main__ import main as reproduce

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND_LINES = sorted(
    {
        line.strip()
        for page in PAGES
        for line in re.findall(
            r"^    (?:filterwatch|python -m reproduction) .*$",
            page.read_text(encoding="utf-8"),
            re.M,
        )
    }
)


class TinyData(LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader(seed=1)

    def val_dataloader(self) -> Any:
        return loader()


class HastyTrainer(Trainer):
    """Whatever it is asked for, it trains for one batch and writes nothing."""

    fits: list[HastyTrainer]

    def __init__(self, **options: Any) -> None:
        quiet = {"fast_dev_run": True, "accelerator": "cpu", "enable_model_summary": False}
        super().__init__(**{**options, **quiet, "enable_progress_bar": False})
        self.fits.append(self)


def test_every_snippet_runs_in_the_order_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    HastyTrainer.fits = []
    monkeypatch.setattr(lightning.pytorch, "Trainer", HastyTrainer)
    model = TinyNet()
    namespace: dict[str, Any] = {
        "model": model,
        "network": model.network,
        "datamodule": TinyData(),
        "images": torch.cat([images for images, _ in loader()]),
        "labels": torch.cat([labels for _, labels in loader()]),
        "train_images": torch.cat([images for images, _ in loader(seed=1)]),
        "train_labels": torch.cat([labels for _, labels in loader(seed=1)]),
        "train_loader": loader(seed=1),
        "val_loader": loader(),
    }
    snippets = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)

    assert len(snippets) >= 6
    assert len(HastyTrainer.fits) == 2
    for fitted in HastyTrainer.fits:
        assert "anomaly_filters" in fitted.callback_metrics
    assert namespace["report"].n_samples == 64
    assert namespace["logits"].shape == (64, 4)
    # An unusual module: its network is an attribute, its batch a dict.
    module = SimpleNamespace(discriminator=model.network)
    watch = namespace["DiscriminatorWatch"]()
    assert watch.probe_step(module, {"real": namespace["images"]}).shape == (64, 4)


def test_the_snippet_about_memorization_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "memorization.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    exec(compile(snippet, "memorization.md", "exec"), {})
    assert "hidden layers" in capsys.readouterr().out
    assert len((tmp_path / "suspects.csv").read_text().splitlines()) == 121


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_parses(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    command, *arguments = shlex.split(line.removeprefix("python -m "), comments=True)[1:]
    if line.startswith("python -m reproduction"):
        assert command == "--help" or command in EXPERIMENTS
        with pytest.raises(SystemExit) as end:
            reproduce([command, *arguments, "--help"])
        assert end.value.code == 0
    elif command == "fit":
        with pytest.raises(SystemExit) as end:
            main([command, *arguments, "--print_config"])
        assert end.value.code == 0, capsys.readouterr().err
    elif command in ("analyze", "compare"):
        assert build_parser(command).parse_args(arguments).images.parent == Path("data")
    else:
        raise AssertionError(f"no test for {line}")


def test_there_are_commands_of_every_kind() -> None:
    commands = {shlex.split(line.removeprefix("python -m "))[1] for line in COMMAND_LINES}
    assert {"fit", "analyze", "compare", "table2", "render"} <= commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    assert not [link for link in links if not (page.parent / link).exists()]
    named = re.findall(r"\b(?:configs|examples|benchmarks|reproduction)/[\w/]+\.(?:yaml|py)", text)
    assert not [name for name in named if not (ROOT / name).exists()]
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_table_of_settings_is_the_callbacks_signature() -> None:
    section = README.split("## Settings\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", section, re.M))
    parameters = inspect.signature(AnomalyFilterCallback).parameters
    assert list(rows) == list(parameters)
    assert rows.pop("criteria") == "AnomalyCriteria()"
    assert AnomalyFilterCallback().criteria == AnomalyCriteria()
    assert {name: eval(default) for name, default in rows.items()} == {
        name: parameter.default for name, parameter in parameters.items() if name != "criteria"
    }


def test_the_table_of_metrics_is_what_is_logged() -> None:
    section = README.split("## What is logged\n")[1].split("\n## ")[0]
    rows = set(re.findall(r"^\| `([\w/<>]+)` \|", section, re.M))
    record = AnomalyFilterCallback().record
    metrics = record.metrics(["<layer>"])
    assert rows == {
        *(*metrics, *METRICS),
        *("memorization/<layer>", "masked_filters"),
    }
