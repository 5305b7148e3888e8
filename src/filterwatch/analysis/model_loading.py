"""From a file and the name of a network to a model that is ready to be probed."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch._words import first_few
from filterwatch.analysis.architectures import (
    Architecture,
    find_architecture,
    load_weights,
    read_sizes,
)
from filterwatch.analysis.model_files import (
    Checkpoint,
    InputError,
    RunSettings,
    WatchedFit,
    read_checkpoint,
)
from filterwatch.models import NETWORKS, ImageClassifier


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation that images are normalized by."""

    mean: tuple[float, ...]  # of each channel, of pixels in [0, 1]
    std: tuple[float, ...]
    origin: str  # where they are known from, for people
    is_assumed: bool = False  # nothing says that the network was trained with them

    @property
    def notes(self) -> list[str]:
        """What the reader of a result should know."""
        if not self.is_assumed:
            return []
        return [
            "nothing says what normalised the images in training: mean and standard deviation are "
            f"assumed to be {self.origin}. If they were others, give them with --mean and --std"
        ]


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights, and what is known about the images it takes."""

    module: nn.Module  # in evaluation mode
    name: str  # what it is, for people: "torchvision/resnet18"
    path: Path  # where the weights come from
    kind: str  # of file
    in_channels: int = 3
    fixed_image_size: int | None = None  # the one side in pixels that it takes; None if several
    usual_image_size: int | None = None  # the side that it was designed for, if known
    trained_image_size: int | None = None  # the side that it was trained on, where the file says
    statistics: Statistics | None = None  # of the images in training, if known
    notes: list[str] = field(default_factory=list)  # what the reader of a result should know
    watched: WatchedFit | None = None  # how memorization went while it was trained, if known
    run_settings: list[RunSettings] = field(default_factory=list)  # of the callbacks that watched

    def run(self, pixels: Tensor) -> Any:
        """Return what the model puts out for images [B, C, H, W], whatever its device and type.

        Raises:
            InputError: If it does not take them.
        """
        parameter = next(iter(self.module.parameters()), torch.zeros(()))
        dtype = parameter.dtype if parameter.is_floating_point() else torch.float32
        try:
            return self.module(pixels.to(parameter.device, dtype))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise InputError(
                f"{self.name} refuses images of shape {list(pixels.shape[1:])} [channels, height, "
                f"width]: {error}. Set --image-size to what it was trained with"
            ) from error


def load_model(
    path: str | Path,
    model: str | None = None,
    *,
    trust: bool = False,
    image_size: int | None = None,
) -> LoadedModel:
    """Load a finished model from a checkpoint or a ``state_dict``.

    Args:
        path: The file.
        model: ``torchvision/NAME``, ``timm/NAME`` or ``filterwatch/NAME``; not needed for a
            checkpoint of `filterwatch.models.ImageClassifier` around a bundled network.
        trust: The file may run code while it is loaded. Needed for checkpoints that hold more than
            tensors and plain values, a whole module for instance.
        image_size: Side of the images in pixels, where the network's shape depends on it.

    Raises:
        InputError: If the file cannot be loaded safely, the network is unknown, or the weights are
            not those of the network.
    """
    path = Path(path)
    architecture = None if model is None else find_architecture(model)
    checkpoint = read_checkpoint(path, trust=trust)
    if isinstance(checkpoint, nn.Module):
        module, checkpoint = checkpoint, Checkpoint("pickled module", checkpoint.state_dict())
        if architecture is None:
            return _described(module, type(module).__name__, path, checkpoint)
    # torch.compile puts a part into the names of weights.
    weights = {key.replace("_orig_mod.", ""): value for key, value in checkpoint.weights.items()}
    if architecture is None:
        return _image_classifier(path, checkpoint, weights)
    prefix, sizes = read_sizes(architecture, weights)
    arguments: dict[str, Any] = dict(sizes)
    if architecture.name.startswith("filterwatch/"):
        size = image_size or checkpoint.hyperparameters.get("image_size")
        if isinstance(size, int):
            arguments["image_size"] = size
    if architecture.name in ("torchvision/googlenet", "torchvision/inception_v3"):
        arguments["aux_logits"] = any("aux1." in key or "AuxLogits." in key for key in weights)
    with torch.random.fork_rng(devices=[]):
        module = architecture.build(**arguments)
    unused = load_weights(module, weights, prefix, source=str(path), name=architecture.name)
    notes = [f"weights of something else in the file: {first_few(unused)}"] if unused else []
    return _described(module, architecture.name, path, checkpoint, architecture, notes)


def _image_classifier(
    path: Path, checkpoint: Checkpoint, weights: dict[str, Tensor]
) -> LoadedModel:
    """Rebuild our own LightningModule from its hyperparameters."""
    hyperparameters = checkpoint.hyperparameters
    if hyperparameters.get("network") not in NETWORKS:
        raise InputError(
            f"{path} holds weights, but not what they belong to: name the network with "
            f"--model SOURCE/NAME. Its weights begin with {first_few(list(checkpoint.weights))}"
        )
    accepted = inspect.signature(ImageClassifier).parameters
    with torch.random.fork_rng(devices=[]):
        module = ImageClassifier(
            **{name: value for name, value in hyperparameters.items() if name in accepted}
        )
    name = f"filterwatch/{hyperparameters['network']}"
    load_weights(module, weights, "", source=str(path), name=name)
    return _described(module, name, path, checkpoint)


def _described(
    module: nn.Module,
    name: str,
    path: Path,
    checkpoint: Checkpoint,
    architecture: Architecture | None = None,
    notes: list[str] | None = None,
) -> LoadedModel:
    convolution = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    in_channels = 3 if convolution is None else convolution.in_channels
    usual = None if architecture is None else architecture.image_size
    fixed = getattr(getattr(module, "network", module), "image_size", None)  # our own networks know
    if not isinstance(fixed, int):
        fixed = None if architecture is None or architecture.takes_any_size else usual
    recorded = checkpoint.preprocessing
    return LoadedModel(
        module.eval(),
        name,
        path,
        checkpoint.kind,
        in_channels=in_channels,
        fixed_image_size=fixed,
        usual_image_size=usual,
        trained_image_size=None if recorded is None else recorded.image_size,
        statistics=_statistics(in_channels, checkpoint, architecture),
        notes=notes or [],
        watched=checkpoint.watched,
        run_settings=checkpoint.settings,
    )


def _statistics(
    in_channels: int, checkpoint: Checkpoint, architecture: Architecture | None
) -> Statistics | None:
    """Return what is known of the normalization, if it is one of as many channels."""
    recorded = checkpoint.preprocessing
    if recorded is not None and len(recorded.mean) == in_channels:
        origin = "as in training, kept in the checkpoint"
        return Statistics(recorded.mean, recorded.std, origin)
    # Published weights are of color images, where this network may take gray ones.
    if architecture is None or len(architecture.mean) != in_channels:
        return None
    return Statistics(
        architecture.mean,
        architecture.std,
        f"those of the published weights of {architecture.name}",
        is_assumed=checkpoint.kind == "Lightning checkpoint",  # these weights are none of them
    )
