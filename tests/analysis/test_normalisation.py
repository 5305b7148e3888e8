"""Images reach a finished model as they did in its training, or a line says what was assumed."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from lightning.pytorch import LightningDataModule, Trainer, seed_everything

from filterwatch import AnomalyCriteria, detect_anomaly_filters
from filterwatch.analysis import InputError, load_model
from filterwatch.analysis.folder_probe import choose_statistics, sample_probes
from filterwatch.analysis.model_loading import Statistics
from filterwatch.cli import main
from filterwatch.datamodules import DigitsDataModule
from filterwatch.models import ImageClassifier, SimpleCNN
from finished_models import digits, write_images

SMALL = ["--probe-size", "60", "--max-clusters", "6", "--small-cluster-size", "6", "--charts", "0"]
ASSUMED = "note: nothing says what normalised the images in training: mean and standard deviation"


class OwnDigits(DigitsDataModule):
    """As users make it: a subclass with statistics of its own."""

    mean = (0.25,)
    std = (0.5,)


class Foreign(ImageClassifier):
    """A LightningModule that leaves no trace of its network in a checkpoint."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        del checkpoint["hyper_parameters"]


def trained(
    path: Path, datamodule: LightningDataModule, module: type[ImageClassifier] = ImageClassifier
) -> Path:
    """Train for a few steps and save, as a Trainer does both."""
    seed_everything(0, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=3,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module("simple_cnn", in_channels=1), datamodule=datamodule)
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    for number in range(2):
        write_images(root / f"half {number}", digits()[30 * number : 30 * (number + 1)])
    return root


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("own") / "own.ckpt", DigitsDataModule())


@pytest.fixture(scope="module")
def subclassed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("own") / "subclassed.ckpt", OwnDigits())


def analysed(
    arguments: list[str], folder: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], str]:
    """Return the report as JSON and what was printed."""
    main(["analyze", *arguments, "--images", str(folder), "--output", str(output), *SMALL])
    document: dict[str, Any] = json.loads((output / "report.json").read_text())
    return document, capsys.readouterr().out


def test_a_report_is_that_of_images_prepared_as_in_training(
    own: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, printed = analysed([str(own)], folder, tmp_path, capsys)
    prepared = DigitsDataModule()
    prepared.setup()
    pixels = torch.from_numpy(digits()[:60])[:, None]
    images = prepared.probe_dataset.preprocessing(pixels, torch.arange(60))
    module = ImageClassifier.load_from_checkpoint(own, map_location="cpu", weights_only=True)
    expected = detect_anomaly_filters(
        module, images, criteria=AnomalyCriteria(small_cluster_size=6), max_clusters=6
    )
    for name, value in json.loads(json.dumps(expected.to_dict())).items():
        assert document[name] == value, name
    assert expected.count > 0
    assert "32x32 pixels (all that the network takes)" in printed
    known = "mean 0.3092, standard deviation 0.3488 (as in training, kept in the checkpoint)"
    assert f"normalised by: {known}" in printed
    assert "assumed" not in printed
    assert document["probe"]["statistics_assumed"] is False
    page = (tmp_path / "report.html").read_text()
    assert f"<dt>Normalised by</dt><dd>{known}</dd>" in page


def test_a_checkpoint_keeps_plain_numbers(subclassed: Path) -> None:
    content = torch.load(subclassed, weights_only=True)
    recorded = content["OwnDigits"]["preprocessing"]
    assert recorded == {"image_size": 32, "mean": [0.25], "std": [0.5]}


def test_explicit_options_win(
    own: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["--mean", "0.1", "--std", "0.2"]
    document, printed = analysed([str(own), *both], folder, tmp_path, capsys)
    assert (document["probe"]["mean"], document["probe"]["std"]) == ([0.1], [0.2])
    assert "mean 0.1, standard deviation 0.2 (as given)" in printed


def test_any_module_trained_with_our_datamodules_is_known(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained(tmp_path / "foreign.ckpt", OwnDigits(), Foreign)
    named = [str(path), "--model", "filterwatch/simple_cnn"]
    document, printed = analysed(named, folder, tmp_path, capsys)
    assert document["probe"]["mean"] == [0.25]
    assert "assumed" not in printed
    # A network of any size gets the size that it was trained on.
    content = torch.load(path, weights_only=True)
    resnet = timm.create_model("resnet10t", num_classes=5, in_chans=1)
    torch.save({**content, "state_dict": resnet.state_dict()}, path)
    model = load_model(path, "timm/resnet10t")
    assert (model.fixed_image_size, model.trained_image_size) == (None, 32)
    images = sample_probes([model], folder, 20)[0]
    assert (images.preprocessing.image_size, images.preprocessing.mean) == (32, (0.25,))
    assert images.size_origin == "as in training, kept in the checkpoint"
    assert sample_probes([model], folder, 20, image_size=16)[0].preprocessing.image_size == 16


def test_where_nothing_is_known_a_line_says_so_and_how_to_tell(
    own: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, checkpoint = tmp_path / "weights.pt", tmp_path / "silent.ckpt"
    torch.save(SimpleCNN(10, 1).state_dict(), weights)
    content = torch.load(own, weights_only=True)
    del content["DigitsDataModule"]
    torch.save(content, checkpoint)
    for arguments in ([str(checkpoint)], [str(weights), "--model", "filterwatch/simple_cnn"]):
        document, printed = analysed(arguments, folder, tmp_path, capsys)
        assert printed.count(ASSUMED) == 1
        assert "assumed to be ImageNet's. If they were others, give them with --mean" in printed
        assert (document["probe"]["mean"], document["probe"]["std"]) == ([0.449], [0.226])
        assert document["probe"]["statistics_assumed"] is True
        assert "assumed to be ImageNet's" in unescape((tmp_path / "report.html").read_text())
        told = [*arguments, "--mean", "0.1", "--std", "0.2"]
        assert "assumed" not in analysed(told, folder, tmp_path, capsys)[1]


def test_published_weights_have_their_own(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pt"
    weights = torchvision.models.resnet18(num_classes=3).state_dict()
    torch.save(weights, path)
    statistics = sample_probes([load_model(path, "torchvision/resnet18")], folder, 20)[0].statistics
    assert statistics.mean == (0.485, 0.456, 0.406)
    assert statistics.origin == "those of the published weights of torchvision/resnet18"
    assert statistics.notes == []
    # Weights in a checkpoint were trained by someone else.
    torch.save({"state_dict": weights, "pytorch-lightning_version": "2.5.0"}, path)
    statistics = sample_probes([load_model(path, "torchvision/resnet18")], folder, 20)[0].statistics
    assert "assumed to be those of the published weights" in statistics.notes[0]


@pytest.mark.parametrize(
    "recorded",
    [
        {"image_size": 32, "mean": [0.1], "std": [0.0]},
        {"image_size": 32, "mean": [0.1, 0.2], "std": [0.2]},
        {"image_size": 32, "mean": [0.1] * 3, "std": [0.2] * 3},  # of a network for grey images
        {"image_size": -1, "mean": [0.1], "std": [0.2]},
        {"image_size": 32, "mean": [float("nan")], "std": [0.2]},
        {"image_size": 32, "mean": "0.1", "std": "0.2"},
        {"mean": [], "std": []},
        "none",
    ],
)
def test_what_cannot_be_is_not_believed(recorded: object, own: Path, tmp_path: Path) -> None:
    content = torch.load(own, weights_only=True)
    content["DigitsDataModule"] = {"preprocessing": recorded}
    path = tmp_path / "odd.ckpt"
    torch.save(content, path)
    assert load_model(path).statistics is None


def test_each_of_two_models_sees_its_own_images(
    own: Path,
    subclassed: Path,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ["--images", str(folder), "--output", str(tmp_path)]
    main(["compare", str(own), str(subclassed), *place, *SMALL])
    printed = capsys.readouterr().out
    assert "normalised for the first by: mean 0.3092, standard deviation 0.3488 (as in" in printed
    assert "normalised for the second by: mean 0.25, standard deviation 0.5 (as in" in printed
    document = json.loads((tmp_path / "comparison.json").read_text())
    means = [document[side]["probe"]["mean"] for side in ("first", "second")]
    assert means == [[0.3092], [0.25]]
    alone, _ = analysed([str(subclassed)], folder, tmp_path, capsys)
    assert document["second"]["layers"] == alone["layers"]
    main(["compare", str(own), str(own), *place, *SMALL])
    assert "normalised by: mean 0.3092" in capsys.readouterr().out


def test_models_trained_on_different_sizes_need_a_size(folder: Path, tmp_path: Path) -> None:
    models = []
    for size in (32, 48):
        path = tmp_path / f"{size}.ckpt"
        recorded = {"image_size": size, "mean": [0.5] * 3, "std": [0.5] * 3}
        content = {
            "state_dict": torchvision.models.resnet18(num_classes=3).state_dict(),
            "pytorch-lightning_version": "2.5.0",
            "ImageFolderDataModule": {"preprocessing": recorded},
        }
        torch.save(content, path)
        models.append(load_model(path, "torchvision/resnet18"))
    with pytest.raises(InputError, match=r"32\.ckpt on 32 pixels, .*48\.ckpt on 48.*--image-size"):
        sample_probes(models, folder, 20)
    probes = sample_probes(models, folder, 20, image_size=32)
    assert [images.preprocessing.image_size for images in probes] == [32, 32]


def test_a_single_number_goes_for_every_channel() -> None:
    known = Statistics((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "known")
    assert choose_statistics(3, known) is known
    given = choose_statistics(3, known, mean=[0.1, 0.2, 0.3], std=[0.9])
    assert (given.mean, given.std) == (known.mean, (0.9, 0.9, 0.9))
    assert choose_statistics(1).mean == (0.449,)
