"""Named architectures: ``torchvision/NAME``, ``timm/NAME``, ``filterwatch/NAME``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import nn

from filterwatch.analysis.errors import InputError
from filterwatch.models import NETWORKS


@dataclass(frozen=True)
class Architecture:
    """A network that can be built, and how its images usually reach it.

    Attributes:
        name: ``SOURCE/NAME``.
        build: Builds it on the current default device, with fresh weights, from keyword arguments.
        size_arguments: The arguments of ``build`` that the shapes of its weights tell.
        image_size: Side in pixels of the images that it was designed for.
        takes_any_size: Whether it takes images of other sizes.
        mean: Mean of each channel that its published weights were trained with, if known.
        std: Standard deviation, likewise.
    """

    name: str
    build: Callable[..., nn.Module]
    size_arguments: tuple[str, ...]
    image_size: int
    takes_any_size: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def find_architecture(name: str) -> Architecture:
    """Return the architecture of a name.

    Args:
        name: ``torchvision/NAME``, ``timm/NAME`` or ``filterwatch/NAME``.

    Raises:
        InputError: If there is no such source or name; the message lists the nearest names. Or if
            the source's package is not installed.
    """
    source, slash, short = name.partition("/")
    if source not in _SOURCES or not slash:
        raise InputError(
            f"--model {name}: expected SOURCE/NAME with the sources {', '.join(_SOURCES)}, "
            "for example torchvision/resnet18"
        )
    list_names, find = _SOURCES[source]
    known = list_names()
    if short not in known:
        # A misspelling, or the beginning of a longer name.
        near = difflib.get_close_matches(short, known, n=5, cutoff=0.5)
        near = near or [other for other in known if short and short in other][:5]
        remedy = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known[:8])}"
        raise InputError(f"--model {name}: {source} has no network of that name; {remedy}")
    return find(short)


def _torchvision_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _torchvision(name: str) -> Architecture:
    def build(**arguments: Any) -> nn.Module:
        if name in ("googlenet", "inception_v3"):
            arguments["init_weights"] = False  # takes a minute, to be overwritten
        model: nn.Module = torchvision.models.get_model(name, weights=None, **arguments)
        return model

    weights = torchvision.models.get_model_weights(name).DEFAULT
    transforms = weights.transforms()
    return Architecture(
        f"torchvision/{name}",
        build,
        ("num_classes",),
        image_size=int(transforms.crop_size[0]),
        takes_any_size=not name.startswith(("vit_", "maxvit")),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _timm_names() -> list[str]:
    names: list[str] = _import_timm().list_models()
    return names


def _timm(name: str) -> Architecture:
    timm = _import_timm()

    def build(**arguments: Any) -> nn.Module:
        model: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        return model

    config = timm.models.get_pretrained_cfg(name)
    return Architecture(
        f"timm/{name}",
        build,
        ("num_classes", "in_chans"),
        image_size=224 if config is None else int(config.input_size[1]),
        takes_any_size=config is None or not config.fixed_input_size,
        mean=None if config is None else tuple(config.mean),
        std=None if config is None else tuple(config.std),
    )


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            "--model timm/… needs the package timm: pip install 'filterwatch[timm]'"
        ) from error
    return timm


def _filterwatch(name: str) -> Architecture:
    return Architecture(
        f"filterwatch/{name}",
        NETWORKS[name],
        ("num_classes", "in_channels"),
        image_size=227 if name == "alexnet" else 32,
        takes_any_size=False,
    )


_SOURCES: dict[str, tuple[Callable[[], list[str]], Callable[[str], Architecture]]] = {
    "torchvision": (_torchvision_names, _torchvision),
    "timm": (_timm_names, _timm),
    "filterwatch": (lambda: list(NETWORKS), _filterwatch),
}


def skeleton_shapes(architecture: Architecture, **arguments: Any) -> dict[str, torch.Size]:
    """Return the names and shapes of an architecture's weights, without their memory if possible.

    Args:
        architecture: What to build.
        **arguments: What to build it with.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = architecture.build(**arguments)
        except (NotImplementedError, RuntimeError):  # constructors that compute with values
            model = architecture.build(**arguments)
    return {name: value.shape for name, value in model.state_dict().items()}
