"""Every argument of every datamodule can be written in YAML."""

import inspect

import pytest
import yaml
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image

from filterwatch import datamodules
from filterwatch.datamodules import ImageDataModule

# LightningCLI calls jsonargparse in ways that newer versions of it deprecate.
pytestmark = pytest.mark.filterwarnings(r"ignore:[\s\S]*was deprecated in v4:DeprecationWarning")

COMMON = {
    "batch_size": 32,
    "num_workers": 1,
    "seed": 7,
    "image_size": 40,
    "val_size": 12,
    "probe_size": 13,
    "train_size": 14,
    "label_noise": 0.25,
    "augment": True,
}
OWN = {
    "DigitsDataModule": {},
    "CIFAR10DataModule": {"root": "somewhere"},
    "CIFAR100DataModule": {"root": "somewhere"},
    "FashionMNISTDataModule": {"root": "somewhere"},
    "ImageFolderDataModule": {
        "grayscale": True,
        "mean": [0.4],
        "std": [0.3],
        "horizontal_flip": False,
    },
}


@pytest.fixture(autouse=True)
def no_command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["filterwatch"])


def datamodule_of(arguments):
    cli = LightningCLI(
        BoringModel,
        ImageDataModule,
        subclass_mode_data=True,
        seed_everything_default=False,
        run=False,
        args=arguments,
    )
    return cli.datamodule


def test_the_common_arguments_are_all_here():
    parameters = inspect.signature(ImageDataModule.__init__).parameters
    assert set(parameters) - {"self"} == set(COMMON)


@pytest.mark.parametrize("name", OWN)
def test_arguments_from_yaml_arrive(tmp_path, name):
    options = {**COMMON, **OWN[name]}
    if name == "ImageFolderDataModule":
        (tmp_path / "train" / "only").mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "train" / "only" / "0.png")
        options["root"] = str(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {"data": {"class_path": f"filterwatch.datamodules.{name}", "init_args": options}}
        )
    )
    datamodule = datamodule_of(["--config", str(config)])
    assert type(datamodule) is getattr(datamodules, name)
    for argument, value in options.items():
        arrived = getattr(datamodule, argument)
        assert (list(arrived) if isinstance(arrived, tuple) else arrived) == value


def test_a_misspelt_argument_is_refused(capsys):
    with pytest.raises(SystemExit):
        datamodule_of(["--data=DigitsDataModule", "--data.batchsize=3"])
    assert "batchsize" in capsys.readouterr().err
