"""From a file and the name of a network to a model that is ready to be probed."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch.analysis.architectures import (
    Architecture,
    find_architecture,
    load_weights,
    read_sizes,
)
from filterwatch.analysis.model_files import (
    Checkpoint,
    InputError,
    file_kind,
    first_few,
    read_checkpoint,
)
from filterwatch.models import NETWORKS, ImageClassifier

# Operators that behave otherwise while training, with the position of the flag that says so.
_TRAINING_FLAGS = {"batch_norm": 5, "native_batch_norm": 5, "dropout": 2, "native_dropout": 2}


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation that images are normalized by.

    Attributes:
        mean: Of each channel, of pixels in [0, 1].
        std: Of each channel, likewise.
        origin: Where they are known from, for people.
        is_assumed: Whether nothing says that the network was trained with them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    is_assumed: bool = False

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
        statistics: What its images were normalized by in training, if known.
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
        return _load_exported(path, model, trust)
    architecture = None if model is None else find_architecture(model)
    checkpoint = read_checkpoint(path, trust=trust)
    if isinstance(checkpoint, nn.Module):
        module, weights = checkpoint, dict(checkpoint.state_dict())
        checkpoint = Checkpoint("pickled module", weights)
        if architecture is None:
            return _described(module, type(module).__name__, path, checkpoint)
    # torch.compile puts a part into the names of weights.
    weights = {key.replace("_orig_mod.", ""): value for key, value in checkpoint.weights.items()}
    if architecture is None:
        return _image_classifier(path, checkpoint, weights)
    prefix, arguments = read_sizes(architecture, weights, prefix)
    build_arguments: dict[str, Any] = dict(arguments)
    if architecture.name.startswith("filterwatch/"):
        size = image_size or checkpoint.hyperparameters.get("image_size")
        if isinstance(size, int):
            build_arguments["image_size"] = size
    if architecture.name in ("torchvision/googlenet", "torchvision/inception_v3"):
        auxiliary = any("aux1." in key or "AuxLogits." in key for key in weights)
        build_arguments["aux_logits"] = auxiliary
    with torch.random.fork_rng(devices=[]):
        module = architecture.build(**build_arguments)
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
    fixed = getattr(getattr(module, "network", module), "image_size", None)  # our own networks know
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
    """Return what is known of the normalization, if it is one of as many channels."""
    recorded = checkpoint.preprocessing
    if recorded is not None and len(recorded.mean) == in_channels:
        origin = "as in training, kept in the checkpoint"
        return Statistics(recorded.mean, recorded.std, origin)
    if architecture is None or architecture.mean is None or architecture.std is None:
        return None
    # Published weights are of color images, where this network may take gray ones.
    if len(architecture.mean) != in_channels:
        return None
    return Statistics(
        architecture.mean,
        architecture.std,
        f"those of the published weights of {architecture.name}",
        is_assumed=checkpoint.kind == "Lightning checkpoint",  # these weights are none of them
    )


def _load_exported(path: Path, model: str | None, trust: bool) -> LoadedModel:
    """Load an exported program (``torch.export.save``) as modules that can be looked into."""
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
    try:
        program = torch.export.load(path)
    except Exception as error:  # a damaged archive fails in many ways
        raise InputError(f"{path} cannot be loaded as an exported program: {error}") from error
    # A size is a number only where the export fixed it.
    batch, channels, height, width = (
        size if isinstance(size, int) else None for size in _input_shape(path, program)
    )
    if height is not None and width is not None and height != width:
        raise InputError(
            f"{path} takes images of {width}x{height} pixels: only squares are handled"
        )
    notes = []
    if _exported_while_training(program):
        notes.append(
            "the program was exported in training mode, so that its normalisation depends on the "
            "batch: export the model after model.eval()"
        )
    module: nn.Module
    try:
        # Keeps the original modules, and so the names of layers.
        module = torch.export.unflatten(program)
    except Exception as error:  # unflatten is young: a graph without names is still a result
        module = program.module()
        notes.append(f"layers are named by operator: the modules could not be restored ({error})")
    return LoadedModel(
        module,
        "exported program",
        path,
        "exported program",
        in_channels=channels or 3,
        fixed_image_size=height if height == width else None,
        fixed_batch_size=batch,
        notes=notes,
    )


def _input_shape(path: Path, program: Any) -> tuple[Any, ...]:
    inputs = set(program.graph_signature.user_inputs)
    tensors = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in inputs
    ]
    if len(tensors) != 1 or not isinstance(tensors[0], Tensor) or tensors[0].ndim != 4:
        found = ", ".join(
            str([str(size) for size in value.shape]) if isinstance(value, Tensor) else str(value)
            for value in tensors
        )
        raise InputError(
            f"{path} must take one tensor of images [N, C, H, W], but takes {len(tensors)} inputs: "
            f"{found}"
        )
    return tuple(tensors[0].shape)


def _exported_while_training(program: Any) -> bool:
    for node in program.graph.nodes:
        packet = getattr(node.target, "overloadpacket", None)
        at = None if packet is None else _TRAINING_FLAGS.get(packet.__name__)
        if at is not None and len(node.args) > at and node.args[at] is True:
            return True
    return False
