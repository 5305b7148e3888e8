"""From a file and a name to a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from lightning.pytorch import LightningModule
from torch import nn

from filterwatch.analysis import InputError, load_model
from filterwatch.models import ImageClassifier, LeNet5, SimpleCNN
from finished_models import Tiny, save_classifier

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def saved(weights: object, path: Path) -> Path:
    torch.save(weights, path)
    return path


def test_our_own_checkpoint_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "own.ckpt"
    classifier = save_classifier(path, seed=3).eval()
    loaded = load_model(path)
    assert (loaded.name, loaded.in_channels, loaded.fixed_image_size) == (
        "filterwatch/simple_cnn",
        1,
        8,
    )
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded.module(images), classifier(images))
    # By name, too: classes, channels and image size are read from the file.
    named = load_model(path, "filterwatch/simple_cnn")
    assert isinstance(named.module, SimpleCNN)
    assert torch.equal(named.module(images), classifier(images))


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("torchvision/resnet18", torchvision.models.resnet18),
        ("torchvision/squeezenet1_1", torchvision.models.squeezenet1_1),
        ("torchvision/mobilenet_v3_small", torchvision.models.mobilenet_v3_small),
        ("timm/resnet10t", partial(timm.create_model, "resnet10t")),
        ("filterwatch/lenet5", LeNet5),
    ],
)
def test_number_of_classes_is_read_from_the_weights(
    name: str, build: Callable[..., nn.Module], tmp_path: Path
) -> None:
    model = build(num_classes=7).eval()
    state = torch.random.get_rng_state()
    loaded = load_model(saved(model.state_dict(), tmp_path / "weights.pt"), name)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert loaded.module(IMAGES).shape == (2, 7)
    assert torch.equal(loaded.module(IMAGES), model(IMAGES))
    assert not loaded.module.training


def test_number_of_channels_is_read_from_the_weights(tmp_path: Path) -> None:
    model = timm.create_model("resnet10t", num_classes=5, in_chans=1)
    loaded = load_model(saved(model.state_dict(), tmp_path / "grey.pt"), "timm/resnet10t")
    assert loaded.in_channels == 1
    assert loaded.module(IMAGES[:, :1]).shape == (2, 5)


class Wrapping(LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone = network
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(7))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_prefix_of_a_foreign_lightning_module_is_found(compiled: bool, tmp_path: Path) -> None:
    network = torchvision.models.resnet18(num_classes=7)
    module = Wrapping(torch.compile(network) if compiled else network)
    data = {"state_dict": module.state_dict(), "pytorch-lightning_version": "2.5.0"}
    loaded = load_model(saved(data, tmp_path / "foreign.ckpt"), "torchvision/resnet18")
    assert loaded.kind == "Lightning checkpoint"
    assert torch.equal(loaded.module(IMAGES), network.eval()(IMAGES))
    assert loaded.notes == ["weights of something else in the file: loss.weight"]


def test_weights_that_fit_twice_are_refused(tmp_path: Path) -> None:
    weights = {
        f"{part}.{key}": value
        for part in ("model", "average")
        for key, value in SimpleCNN(4).state_dict().items()
    }
    path = saved(weights, tmp_path / "twice.pt")
    with pytest.raises(InputError, match=r"model\., average\.: save those of one in a file"):
        load_model(path, "filterwatch/simple_cnn")


def test_wrong_names_list_the_nearest(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean .*resnet18"):
        load_model(checkpoint, "torchvision/resnet_18")
    with pytest.raises(InputError, match=r"did you mean .*resnet10t"):
        load_model(checkpoint, "timm/resnet10")
    with pytest.raises(InputError, match=r"did you mean simple_cnn\?"):
        load_model(checkpoint, "filterwatch/simplecnn")
    for name in ("resnet18", "keras/resnet18", ""):
        with pytest.raises(InputError, match="expected SOURCE/NAME with the sources torchvision"):
            load_model(checkpoint, name)


def test_weights_without_a_name_say_what_they_begin_with(tmp_path: Path) -> None:
    path = saved(Tiny().state_dict(), tmp_path / "tiny.pt")
    with pytest.raises(InputError, match=r"SOURCE/NAME. Its weights begin with first\.weight"):
        load_model(path)


def test_weights_of_another_network_list_the_first_few(tmp_path: Path) -> None:
    path = saved(torchvision.models.resnet34(num_classes=4).state_dict(), tmp_path / "34.pt")
    # Everything that ResNet-18 has is in ResNet-34, in the same shape.
    with pytest.raises(InputError, match=r"unknown to .*: layer1\.2\.conv1\.weight.*… \d+ more"):
        load_model(path, "torchvision/resnet18")
    with pytest.raises(InputError, match=r"missing in the file: layer1\.0\.conv3\.weight"):
        load_model(path, "torchvision/resnet50")
    with pytest.raises(InputError, match=r"instead of"):
        load_model(path, "torchvision/wide_resnet50_2")
    small = SimpleCNN(4, image_size=16).state_dict()
    path = saved(small, tmp_path / "small.pt")
    with pytest.raises(InputError, match=r"\.weight is \[64, 1024\] instead.*--image-size"):
        load_model(path, "filterwatch/simple_cnn")
    assert load_model(path, "filterwatch/simple_cnn", image_size=16).fixed_image_size == 16


def test_auxiliary_classifiers_are_there_or_not(tmp_path: Path) -> None:
    build = torchvision.models.googlenet
    for aux in (True, False):
        model = build(num_classes=3, aux_logits=aux, init_weights=False)
        path = saved(model.state_dict(), tmp_path / f"{aux}.pt")
        assert load_model(path, "torchvision/googlenet").module(IMAGES).shape == (2, 3)


def test_a_whole_module_is_used_as_it_is_when_trusted(tmp_path: Path) -> None:
    classifier = ImageClassifier("simple_cnn", 4)
    loaded = load_model(saved(classifier.network, tmp_path / "whole.pt"), trust=True)
    assert (loaded.name, loaded.fixed_image_size) == ("SimpleCNN", 32)


def test_torchscript_is_named(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it is on its way out
        torch.jit.trace(nn.Conv2d(3, 4, 3), IMAGES).save(path)
    with pytest.raises(InputError, match="TorchScript"):
        load_model(path, trust=True)
