"""Networks by name, ``torchvision/NAME`` for instance, and how weights of a file fit them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch._words import first_few
from filterwatch.analysis.model_files import InputError
from filterwatch.models import NETWORKS


@dataclass(frozen=True)
class Architecture:
    """A network that can be built, and how its images usually reach it."""

    name: str  # SOURCE/NAME
    build: Callable[..., nn.Module]  # with fresh weights, on the default device
    size_arguments: tuple[str, ...]  # of `build`, to be read from the shapes of weights
    image_size: int  # side in pixels that it was designed for
    takes_any_size: bool = True
    mean: tuple[float, ...] = ()  # of each channel, in the training of published weights
    std: tuple[float, ...] = ()


def find_architecture(name: str) -> Architecture:
    """Return the architecture of ``torchvision/NAME``, ``timm/NAME`` or ``filterwatch/NAME``.

    Raises:
        InputError: If there is none of that name; the message lists the nearest names.
    """
    source, slash, short = name.partition("/")
    if source not in _SOURCES or not slash:
        raise InputError(
            f"--model {name}: expected SOURCE/NAME with the sources {', '.join(_SOURCES)}, "
            "for example torchvision/resnet18"
        )
    found = _SOURCES[source](short)
    if isinstance(found, Architecture):
        return found
    # A misspelling, or the beginning of a longer name.
    near = difflib.get_close_matches(short, found, n=5, cutoff=0.5)
    near = near or [other for other in found if short and short in other][:5]
    remedy = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(found[:8])}"
    raise InputError(f"--model {name}: {source} has no network of that name; {remedy}")


# Each source returns the architecture of a name, or the names that there are.


def _torchvision(name: str) -> Architecture | list[str]:
    from torchvision import models

    known: list[str] = models.list_models(module=models)
    if name not in known:
        return known

    def build(**arguments: Any) -> nn.Module:
        if name in ("googlenet", "inception_v3"):
            arguments["init_weights"] = False  # takes a minute, to be overwritten
        model: nn.Module = models.get_model(name, weights=None, **arguments)
        return model

    transforms = models.get_model_weights(name).DEFAULT.transforms()
    return Architecture(
        f"torchvision/{name}",
        build,
        ("num_classes",),
        image_size=int(transforms.crop_size[0]),
        takes_any_size=not name.startswith(("vit_", "maxvit")),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _timm(name: str) -> Architecture | list[str]:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            "--model timm/… needs the package timm: pip install 'filterwatch[timm]'"
        ) from error
    known: list[str] = timm.list_models()
    if name not in known:
        return known

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
        mean=() if config is None else tuple(config.mean),
        std=() if config is None else tuple(config.std),
    )


def _filterwatch(name: str) -> Architecture | list[str]:
    if name not in NETWORKS:
        return list(NETWORKS)
    return Architecture(
        f"filterwatch/{name}",
        NETWORKS[name],
        ("num_classes", "in_channels"),
        image_size=227 if name == "alexnet" else 32,
        takes_any_size=False,
    )


_SOURCES = {"torchvision": _torchvision, "timm": _timm, "filterwatch": _filterwatch}


def read_sizes(
    architecture: Architecture, weights: Mapping[str, Tensor]
) -> tuple[str, dict[str, int]]:
    """Read the number of classes and the like from the shapes of weights.

    The network is built once more for each argument, with that argument one larger, to see which
    dimension of which weight it decides.

    Returns:
        What stands before the network's own names in the file, and arguments for
        ``architecture.build``.

    Raises:
        InputError: If the file holds the network's weights more than once.
    """
    base = dict.fromkeys(architecture.size_arguments, 2)
    smaller = _skeleton_shapes(architecture, base)
    prefix = _find_prefix(weights, smaller)
    sizes = {}
    for argument in architecture.size_arguments:
        larger = _skeleton_shapes(architecture, base | {argument: 3})
        size = _read_size(smaller, larger, weights, prefix)
        if size is not None:
            sizes[argument] = size
    return prefix, sizes


def _skeleton_shapes(
    architecture: Architecture, arguments: Mapping[str, int]
) -> dict[str, torch.Size]:
    """Return the names and shapes of a network's weights, without their memory if possible."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = architecture.build(**arguments)
        except (NotImplementedError, RuntimeError):  # constructors that compute with values
            model = architecture.build(**arguments)
    return {name: value.shape for name, value in model.state_dict().items()}


def _find_prefix(names: Iterable[str], expected: Iterable[str]) -> str:
    """Return what stands before a network's weight names in a file, ``"network."`` for instance."""
    wanted = set(expected)
    found: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for at in range(len(parts)):
            if ".".join(parts[at:]) in wanted:
                found["".join(f"{part}." for part in parts[:at])] += 1
    if not found:
        return ""
    most = max(found.values())
    best = [prefix for prefix, count in found.items() if count == most]
    if len(best) > 1:
        shown = ", ".join(prefix or "(none)" for prefix in best)
        raise InputError(
            f"the file holds the network's weights more than once, under the prefixes {shown}: "
            "save those of one in a file of their own, and give that"
        )
    return best[0]


def _read_size(
    smaller: Mapping[str, torch.Size],
    larger: Mapping[str, torch.Size],
    weights: Mapping[str, Tensor],
    prefix: str,
) -> int | None:
    for name, shape in smaller.items():
        value = weights.get(prefix + name)
        if value is None or value.ndim != len(shape) or name not in larger:
            continue
        for dimension, (low, high) in enumerate(zip(shape, larger[name], strict=True)):
            if high == low + 1:
                return value.shape[dimension] - (low - 2)
    return None


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], prefix: str, *, source: str, name: str
) -> list[str]:
    """Put weights into a network, all of them; ``source`` and ``name`` are for messages.

    Returns:
        Names in the file that were not used because they belong to something else.

    Raises:
        InputError: If weights are missing, have other shapes, or the file has weights that the
            network lacks; the message lists the first few of each.
    """
    expected = model.state_dict()
    own = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
    missing = [key for key in expected if key not in own and "num_batches_tracked" not in key]
    mismatched = [
        f"{key} is {_shape(own[key])} instead of {_shape(expected[key])}"
        for key in expected
        if key in own and _shape(own[key]) != _shape(expected[key])
    ]
    # What lies beside the network's own parts (a loss with weights) is none of our business.
    parts = {key.partition(".")[0] for key in expected}
    surplus = [key for key in own if key not in expected and key.partition(".")[0] in parts]
    problems = [
        f"{what}: {first_few(keys)}"
        for what, keys in (
            ("missing in the file", missing),
            ("of another shape in the file", mismatched),
            ("unknown to the network", surplus),
        )
        if keys
    ]
    if problems:
        raise InputError(
            f"the weights in {source}{f' under {prefix!r}' if prefix else ''} are not those of "
            f"{name}. {'; '.join(problems)}. Is it another network, or another image size "
            "(--image-size)?"
        )
    model.load_state_dict({key: own[key] for key in expected if key in own}, strict=False)
    return [key for key in weights if key not in {prefix + used for used in expected}]


def _shape(value: Any) -> list[int] | str:
    return list(value.shape) if isinstance(value, Tensor) else type(value).__name__
