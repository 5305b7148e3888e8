"""Every config: its command, what it names, and that its model takes its data."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torchvision.transforms.v2.functional import to_pil_image

from filterwatch.cli import main
from filterwatch.datamodules import (
    DownloadedDataModule,
    ImageDataModule,
    LabelledImages,
    MemoryImages,
)

ROOT = Path(__file__).parent.parent
ALL = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml"))
OVERLAYS = [path for path in ALL if path.startswith("configs/actions/")]
CONFIGS = [path for path in ALL if path not in OVERLAYS]
PAPER = [
    f"configs/paper/{network}_{data}.yaml"
    for network in ("simple_cnn", "lenet5", "alexnet")
    for data in ("cifar10", "cifar100", "fashion_mnist")
]


@pytest.fixture(autouse=True)
def _seed_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Ten classes of ten images each, in ``tmp_path / "images" / "train"``."""
    generator = torch.Generator().manual_seed(0)
    for number in range(100):
        folder = tmp_path / "images" / "train" / f"class{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (3, 40, 48), generator=generator, dtype=torch.uint8)
        to_pil_image(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


def without_download(datamodule: ImageDataModule, split: str) -> LabelledImages | None:
    """Stand-in for the real images: noise of their size, a few for each class."""
    if split == "val":
        return None
    n_images = 10 * datamodule.num_classes
    size = (n_images, datamodule.in_channels, datamodule.native_size, datamodule.native_size)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    return LabelledImages(MemoryImages(pixels), torch.arange(n_images) % datamodule.num_classes)


def command(path: str) -> list[str]:
    """The words of the command in the first line of a config."""
    first_line = (ROOT / path).read_text().splitlines()[0]
    return shlex.split(first_line.removeprefix("# "))


def parsed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as end:
        main([*args, "--print_config"])
    assert end.value.code == 0
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


def test_every_model_and_data_set_of_the_paper_has_a_config() -> None:
    assert {*PAPER, "configs/quickstart.yaml", "configs/image_folder.yaml"} <= set(CONFIGS)


@pytest.mark.parametrize("path", CONFIGS)
def test_opens_with_its_own_command(path: str) -> None:
    assert command(path)[:4] == ["filterwatch", "fit", "--config", path]


@pytest.mark.parametrize("path", CONFIGS)
def test_names_seed_callback_and_a_log_directory_of_its_own(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config = parsed(capsys, *command(path)[1:])
    assert "seed_everything" in yaml.safe_load(Path(path).read_text())
    assert config["seed_everything"] == 0

    logger = config["trainer"]["logger"]["init_args"]
    folder = "logs/paper" if path in PAPER else "logs"
    assert (logger["save_dir"], logger["name"]) == (folder, Path(path).stem)

    callbacks = [entry["class_path"].rsplit(".")[-1] for entry in config["trainer"]["callbacks"]]
    assert "AnomalyFilterCallback" in callbacks


@pytest.mark.parametrize("path", PAPER)
def test_papers_configs_name_their_model_and_data(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    config = parsed(capsys, *command(path)[1:])
    network = config["model"]["init_args"]["network"]
    datamodule = config["data"]["class_path"].rsplit(".")[-1]
    data = {"CIFAR10": "cifar10", "CIFAR100": "cifar100", "FashionMNIST": "fashion_mnist"}
    assert Path(path).stem == f"{network}_{data[datamodule.removesuffix('DataModule')]}"
    assert config["trainer"]["max_epochs"] == 100
    if network == "alexnet":
        assert config["data"]["init_args"]["image_size"] == 227


@pytest.mark.parametrize("path", CONFIGS)
def test_model_takes_its_data(
    path: str, tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DownloadedDataModule, "prepare_data", lambda _datamodule: None)
    monkeypatch.setattr(DownloadedDataModule, "load_split", without_download)
    monkeypatch.chdir(tmp_path)
    fast = [
        *("--trainer.fast_dev_run=1", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *("--data.batch_size=2", "--data.num_workers=0"),
    ]
    if "alexnet" in path or "resnet18" in path:
        fast.append("--trainer.callbacks=null")  # thousands of maps would take seconds to cluster
    if "--data.root" in command(path):
        fast += ["--data.root", str(image_folder)]
    main(["fit", "--config", str(ROOT / path), *fast])
    assert {entry.name for entry in tmp_path.iterdir()} == {"images"}  # and nothing is left behind


@pytest.mark.parametrize("path", CONFIGS)
def test_keeps_the_best_and_the_last_weights(path: str) -> None:
    """Lightning's `save_last` follows the best checkpoint, not the last epoch."""
    callbacks = yaml.safe_load((ROOT / path).read_text())["trainer"]["callbacks"]
    kept = [entry["init_args"] for entry in callbacks if entry["class_path"] == "ModelCheckpoint"]
    assert kept == [{"filename": "best", "monitor": "val_loss"}, {"filename": "last"}]


@pytest.mark.parametrize("path", OVERLAYS)
def test_an_overlay_opens_with_a_command_that_runs(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = command(path)
    assert words[:3] == ["filterwatch", "fit", "--config"]
    assert words[4:] == ["--config", path]
    monkeypatch.chdir(tmp_path)
    configs = [str(ROOT / word) if word.endswith(".yaml") else word for word in words[1:]]
    main([*configs, "--trainer.fast_dev_run=1", "--trainer.accelerator=cpu"])


@pytest.mark.parametrize(
    ("path", "overlay"),
    [
        *((path, OVERLAYS[0]) for path in CONFIGS),
        *((CONFIGS[0], overlay) for overlay in OVERLAYS[1:]),
    ],
)
def test_an_overlay_acts_in_any_experiment(
    path: str,
    overlay: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    plain = parsed(capsys, "fit", "--config", path)
    combined = parsed(capsys, "fit", "--config", path, "--config", overlay)
    actions = combined.pop("action")
    assert plain.pop("action") is None
    assert combined == plain
    names = [entry["class_path"] for entry in (actions if isinstance(actions, list) else [actions])]
    written = yaml.safe_load(Path(overlay).read_text())["action"]
    written = written if isinstance(written, list) else [written]
    assert names == [f"filterwatch.{entry['class_path']}" for entry in written]
