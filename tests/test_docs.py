"""README and docs say what is true: blocks run, commands parse, tables and links are complete."""

from __future__ import annotations

import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch
import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, Trainer
from watched import TinyNet, loader

import filterwatch
from filterwatch import AnomalyCriteria, AnomalyFilterCallback
from filterwatch.analysis.command_line import build_parser
from filterwatch.cli import COMMANDS, main
from filterwatch.memorization import METRICS
from reproduction.__main__ import EXPERIMENTS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
}


def fences(text: str, language: str) -> list[str]:
    """Return the blocks of a page that are marked as of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


WITH_PYTHON = [name for name, text in PAGES.items() if fences(text, "python")]
COMMAND_LINES = sorted(
    {line for text in PAGES.values() for block in fences(text, "sh") for line in block.splitlines()}
    | {
        line
        for text in PAGES.values()
        for line in re.findall(r"`((?:filterwatch|python -m) [^`]+)`", text)
        if "…" not in line
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
        hasty: dict[str, Any] = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_train_batches": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
        }
        super().__init__(**{**options, **hasty})
        self.fits.append(self)


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What readers bring along: a network, images, loaders."""
    HastyTrainer.fits = []
    monkeypatch.setattr(lightning.pytorch, "Trainer", HastyTrainer)
    model = TinyNet()
    held_out, training = list(loader()), list(loader(seed=1))
    return {
        "model": model,
        "network": model.network,
        "datamodule": TinyData(),
        "images": torch.cat([images for images, _ in held_out]),
        "labels": torch.cat([labels for _, labels in held_out]),
        "train_images": torch.cat([images for images, _ in training]),
        "train_labels": torch.cat([labels for _, labels in training]),
        "train_loader": loader(seed=1),
        "val_loader": loader(),
        "files": [f"{index}.png" for index in range(64)],
    }


def run(page: str, namespace: dict[str, Any]) -> None:
    """Run a page's Python blocks in their order."""
    for block in fences(PAGES[page], "python"):
        exec(compile(block, page, "exec"), namespace)


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_every_block_runs_in_the_order_of_its_page(page: str, namespace: dict[str, Any]) -> None:
    run(page, namespace)
    for fitted in HastyTrainer.fits:
        assert "anomaly_filters" in fitted.callback_metrics
        # Images alone, as one block gives them, have no labels.
        assert page == "docs/callback.md" or "memorization" in fitted.callback_metrics


def test_what_blocks_promise_is_there(namespace: dict[str, Any], tmp_path: Path) -> None:
    run("docs/callback.md", namespace)
    # An unusual module: its network is an attribute, its batch a dict.
    module = SimpleNamespace(discriminator=namespace["network"])
    watch = namespace["DiscriminatorWatch"]()
    assert watch.probe_step(module, {"real": namespace["images"]}).shape == (64, 4)
    run("docs/actions.md", namespace)
    assert namespace["logits"].shape == (64, 4)
    run("docs/memorization.md", namespace)
    assert len((tmp_path / "suspects.csv").read_text().splitlines()) == 121


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if fences(text, "yaml")])
def test_every_config_block_is_yaml(page: str) -> None:
    assert all(yaml.safe_load(block) for block in fences(PAGES[page], "yaml"))


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_parses(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    program, *arguments = shlex.split(line, comments=True)
    if program == "filterwatch":
        parse_command(*arguments)
    elif program == "python" and arguments[0] == "-m":
        parse_module(arguments[1], arguments[2:], monkeypatch)
    elif program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert set(arguments) <= set(targets)
    elif program == "pip":
        extras = re.findall(r"\[([\w,]+)\]", line)
        declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert all(f"\n{extra} = [" in declared for extra in ",".join(extras).split(",") if extra)
    else:
        assert program == "tensorboard", f"no test for {line}"


def parse_command(command: str, *arguments: str) -> None:
    assert command in COMMANDS
    if command in ("analyze", "compare") and "--images" in arguments:
        assert build_parser(command).parse_args(arguments).images.parent == Path("data")
    elif command in ("analyze", "compare"):
        options = [word for word in arguments if word.startswith("--")]
        assert set(options) <= set(build_parser(command)._option_string_actions)
    else:
        shown = "--print_config" if command == "fit" else "--help"
        with pytest.raises(SystemExit) as end:
            main([command, *arguments, shown])
        assert end.value.code == 0


def parse_module(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "reproduction":
        assert arguments[0] == "--help" or arguments[0] in EXPERIMENTS
    monkeypatch.setattr("sys.argv", [name, *arguments, "--help"])
    is_package = name in ("benchmarks", "reproduction")
    module = import_module(f"{name}.__main__" if is_package else name)
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0


def test_there_are_commands_of_every_kind() -> None:
    words = {word for line in COMMAND_LINES for word in shlex.split(line)}
    assert {"fit", "analyze", "compare", "table2", "render", "demo", "test", "pip"} <= words


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page: str) -> None:
    text = PAGES[page]
    folder = (ROOT / page).parent
    for link in re.findall(r'(?:\]\(|src=")(?!https?://)([^)"]+)', text):
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link
    named = re.findall(
        r"\b(?:configs|docs|examples|benchmarks|reproduction|tests)/[\w/]+\.(?:yaml|py|md)", text
    )
    assert not [name for name in named if not (ROOT / name).exists()]


def test_tests_that_are_named_are_there() -> None:
    named = {
        found for text in PAGES.values() for found in re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    }
    assert len(named) > 30
    files = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    for file, name in sorted(named):
        assert f"def {name}(" in files[file].read_text(encoding="utf-8"), f"{file}::{name}"


def test_every_row_of_the_support_matrix_names_its_test() -> None:
    rows = re.findall(r"^\| (?!---)(.*) \|$", PAGES["docs/support.md"], re.M)
    headings = [row for row in rows if row.endswith("| test")]
    assert len(headings) == 3
    assert all("`test_" in row for row in rows if row not in headings)


def test_the_readme_is_short_and_says_what_it_must() -> None:
    text = PAGES["README.md"]
    assert len(text.split()) <= 900
    order = ["memorization.png", "clusters_1.png", "pip install", "```python", "```text"]
    order += ["## Use it for", "## Don't use it for", "**What it costs**", "make demo", "make test"]
    places = [text.index(mark) for mark in order]
    assert places == sorted(places)


def test_the_table_of_settings_is_the_callbacks_signature() -> None:
    section = PAGES["docs/callback.md"].split("## Settings\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", section, re.M))
    parameters = inspect.signature(AnomalyFilterCallback).parameters
    assert list(rows) == list(parameters)
    assert rows.pop("criteria") == "AnomalyCriteria()"
    assert AnomalyFilterCallback().criteria == AnomalyCriteria()
    assert {name: eval(default) for name, default in rows.items()} == {
        name: parameter.default for name, parameter in parameters.items() if name != "criteria"
    }


def test_the_table_of_metrics_is_what_is_logged() -> None:
    section = PAGES["docs/callback.md"].split("## What is logged\n")[1].split("\n## ")[0]
    rows = set(re.findall(r"^\| `([\w/<>]+)` \|", section, re.M))
    metrics = AnomalyFilterCallback().record.metrics(["<layer>"])
    assert rows == {*metrics, *METRICS, "memorization/<layer>", "masked_filters"}


def test_the_reference_has_every_public_name() -> None:
    shown = {
        name.rpartition(".")[2]
        for page, text in PAGES.items()
        if page.startswith("docs/reference/")
        for name in re.findall(r"^::: ([\w.]+)$", text, re.M)
    }
    assert set(filterwatch.__all__) <= shown


def test_the_package_is_summed_up_alike_everywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert filterwatch.__doc__ is not None
    summary = filterwatch.__doc__.splitlines()[0]
    for name in ("pyproject.toml", "mkdocs.yml", "CITATION.cff"):
        assert summary in (ROOT / name).read_text(encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert summary in capsys.readouterr().out


def test_the_site_can_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make docs` does: any warning is an error."""
    commands = pytest.importorskip("mkdocs.commands.build")
    config = import_module("mkdocs.config")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    loaded = config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    loaded.plugins.on_startup(command="build", dirty=False)
    try:
        commands.build(loaded)
    finally:
        loaded.plugins.on_shutdown()
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert pages == set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text()))
    for page in tmp_path.rglob("*.html"):
        # Nothing is fetched when a page is read, either.
        fetched = re.findall(
            r'<(?:link|script|img)[^>]+(?:href|src)="(https?://[^"]+)', page.read_text()
        )
        assert not fetched, f"{page}: {fetched}"
