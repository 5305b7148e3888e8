"""Fitting the weights of a file to a network: prefix, sizes, and what does not match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch.analysis.architectures import Architecture, skeleton_shapes
from filterwatch.analysis.errors import InputError, first_few


def without_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the part that ``torch.compile`` puts into the names of weights."""
    return {name.replace("_orig_mod.", ""): value for name, value in weights.items()}


def find_prefix(names: Iterable[str], expected: Iterable[str]) -> str:
    """Return what stands before a network's weight names in a file: ``"network."``, for instance.

    Args:
        names: Names in the file.
        expected: Names in the network.

    Raises:
        InputError: If several parts of the file would fit equally well.
    """
    wanted = set(expected)
    found: Counter[str] = Counter()
    for name in names:
        start = 0
        while True:
            if name[start:] in wanted:
                found[name[:start]] += 1
            dot = name.find(".", start)
            if dot < 0:
                break
            start = dot + 1
    if not found:
        return ""
    most = max(found.values())
    best = [prefix for prefix, count in found.items() if count == most]
    if len(best) > 1:
        shown = ", ".join(prefix or "(none)" for prefix in best)
        raise InputError(
            f"the file holds the network's weights more than once, under the prefixes {shown}: "
            "choose with --prefix"
        )
    return best[0]


def read_sizes(
    architecture: Architecture, weights: Mapping[str, Tensor], prefix: str | None
) -> tuple[str, dict[str, int]]:
    """Read the number of classes and the like from the shapes of weights.

    Which dimension of which weight an argument decides is found by building the network's skeleton
    twice, with the argument one larger the second time.

    Args:
        architecture: The network.
        weights: Names in the file to tensors.
        prefix: What stands before the network's own names; ``None`` finds it.

    Returns:
        The prefix, and arguments for ``architecture.build``.
    """
    smaller = skeleton_shapes(architecture, **dict.fromkeys(architecture.size_arguments, 2))
    if prefix is None:
        prefix = find_prefix(weights, smaller)
    sizes = {}
    for argument in architecture.size_arguments:
        arguments = {**dict.fromkeys(architecture.size_arguments, 2), argument: 3}
        larger = skeleton_shapes(architecture, **arguments)
        size = _read_size(smaller, larger, weights, prefix)
        if size is not None:
            sizes[argument] = size
    return prefix, sizes


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
    """Put weights into a network, all of them.

    Args:
        model: The network.
        weights: Names in the file to tensors.
        prefix: What stands before the network's own names.
        source: The file, for messages.
        name: The network, for messages.

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
