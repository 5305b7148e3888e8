"""From a file and the name of a network to a model that is ready to be probed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from filterwatch.analysis.architectures import Architecture, find_architecture
from filterwatch.analysis.checkpoints import Checkpoint, file_kind, read_checkpoint
from filterwatch.analysis.errors import InputError, first_few
from filterwatch.analysis.exported import load_exported
from filterwatch.analysis.statistics import Statistics
from filterwatch.analysis.weights import load_weights, read_sizes, without_wrappers
from filterwatch.models import NETWORKS, ImageClassifier


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights, and what is known about the images it takes.

    Attributes:
        module: The model, in evaluation mode.
        name: What it is, for people: ``torchvision/resnet18``.
        path: The file that the weights come from.
        kind: What kind of file that is.
        in_channels: Channels of an image.
        fixed_image_size: The one side in pixels that it takes; ``None`` if it takes several.
        usual_image_size: The side that it was designed for, if known.
        fixed_batch_size: The one number of images in a batch that it takes; ``None`` if any.
        trained_image_size: The side of the images that it was trained on, where the file says.
        statistics: What its images were normalised by in training, if known.
        notes: What the reader of a result should know.
    """

    module: nn.Module
    name: str
    path: Path
    kind: str
    in_channels: int = 3
    fixed_image_size: int | None = None
    usual_image_size: int | None = None
    fixed_batch_size: int | None = None
    trained_image_size: int | None = None
    statistics: Statistics | None = None
    notes: list[str] = field(default_factory=list)


def load_model(
    path: str | Path,
    model: str | None = None,
    *,
    trust: bool = False,
    prefix: str | None = None,
    image_size: int | None = None,
) -> LoadedModel:
    """Load a finished model from a checkpoint, a ``state_dict`` or an exported program.

    Args:
        path: The file.
        model: ``torchvision/NAME``, ``timm/NAME`` or ``filterwatch/NAME``; not needed for a
            checkpoint of `filterwatch.models.ImageClassifier` around a bundled network, nor for
            an exported program.
        trust: The file may run code while it is loaded. Needed for exported programs, whose format
            evaluates expressions, and for checkpoints that hold more than tensors and plain values.
        prefix: What stands before the network's own weight names in the file (``"network."``).
            Default: found.
        image_size: Side of the images in pixels, where the network's shape depends on it.

    Raises:
        InputError: If the file cannot be loaded safely, the network is unknown, or the weights are
            not those of the network.
    """
    path = Path(path)
    kind = file_kind(path)
    if kind == "TorchScript":
        raise InputError(
            f"{path} is a TorchScript archive, whose maps cannot be watched: give the checkpoint "
            "that it was made from, or an exported program (torch.export.save)"
        )
    if kind == "exported program":
        return _exported(path, model, trust)
    architecture = None if model is None else find_architecture(model)
    checkpoint = read_checkpoint(path, trust=trust)
    if isinstance(checkpoint, nn.Module):
        if architecture is None:
            name = type(checkpoint).__name__
            return _described(checkpoint, name, path, Checkpoint("pickled module", {}))
        checkpoint = Checkpoint("pickled module", dict(checkpoint.state_dict()))
    if architecture is None:
        return _image_classifier(path, checkpoint)
    return _named(path, checkpoint, architecture, prefix, image_size)


def _exported(path: Path, model: str | None, trust: bool) -> LoadedModel:
    if model is not None:
        raise InputError(
            f"{path} is an exported program, which needs no --model: leave out --model {model}"
        )
    if not trust:
        raise InputError(
            f"{path} is an exported program, and loading one can run code that it holds. If you "
            "know where it comes from, say --trust; the model's state_dict with --model needs no "
            "trust"
        )
    exported = load_exported(path)
    return LoadedModel(
        exported.module,
        "exported program",
        path,
        "exported program",
        in_channels=exported.in_channels or 3,
        fixed_image_size=exported.image_size,
        fixed_batch_size=exported.batch_size,
        notes=exported.notes,
    )


def _image_classifier(path: Path, checkpoint: Checkpoint) -> LoadedModel:
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
    weights = without_wrappers(checkpoint.weights)
    load_weights(module, weights, "", source=str(path), name=name)
    return _described(module, name, path, checkpoint)


def _named(
    path: Path,
    checkpoint: Checkpoint,
    architecture: Architecture,
    prefix: str | None,
    image_size: int | None,
) -> LoadedModel:
    weights = without_wrappers(checkpoint.weights)
    prefix, arguments = read_sizes(architecture, weights, prefix)
    if architecture.name.startswith("filterwatch/"):
        size = image_size or checkpoint.hyperparameters.get("image_size")
        arguments |= {"image_size": size} if isinstance(size, int) else {}
    arguments |= _auxiliary(architecture, weights)
    with torch.random.fork_rng(devices=[]):
        module = architecture.build(**arguments)
    unused = load_weights(module, weights, prefix, source=str(path), name=architecture.name)
    notes = [f"weights of something else in the file: {first_few(unused)}"] if unused else []
    return _described(module, architecture.name, path, checkpoint, architecture, notes)


def _auxiliary(architecture: Architecture, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether the two networks with auxiliary classifiers have them in this file."""
    if architecture.name not in ("torchvision/googlenet", "torchvision/inception_v3"):
        return {}
    return {"aux_logits": any("aux1." in name or "AuxLogits." in name for name in weights)}


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
    network = getattr(module, "network", module)
    fixed = getattr(network, "image_size", None)  # our own networks know
    usual = None
    if architecture is not None:
        usual = architecture.image_size
        if not architecture.takes_any_size and not isinstance(fixed, int):
            fixed = usual
    recorded = checkpoint.preprocessing
    return LoadedModel(
        module.eval(),
        name,
        path,
        checkpoint.kind,
        in_channels=in_channels,
        fixed_image_size=fixed if isinstance(fixed, int) else None,
        usual_image_size=usual,
        trained_image_size=None if recorded is None else recorded.image_size,
        statistics=_statistics(in_channels, checkpoint, architecture),
        notes=notes or [],
    )


def _statistics(
    in_channels: int, checkpoint: Checkpoint, architecture: Architecture | None
) -> Statistics | None:
    """Return what is known of the normalisation, if it is one of as many channels."""
    recorded = checkpoint.preprocessing
    if recorded is not None and len(recorded.mean) == in_channels:
        origin = "as in training, kept in the checkpoint"
        return Statistics(recorded.mean, recorded.std, origin)
    if architecture is None or architecture.mean is None or architecture.std is None:
        return None
    # Published weights are of colour images, where this network may take grey ones.
    if len(architecture.mean) != in_channels:
        return None
    return Statistics(
        architecture.mean,
        architecture.std,
        f"those of the published weights of {architecture.name}",
        is_assumed=checkpoint.kind == "Lightning checkpoint",  # these weights are none of them
    )
