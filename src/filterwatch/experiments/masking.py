"""Masking filters of a finished network, for the experiments of section 4.3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def mask_filters(model: nn.Module, filters: Iterable[tuple[str, int]]) -> Iterator[nn.Module]:
    """Set weights and bias of convolution filters to zero, and give them back at the end.

    Args:
        model: The network, changed in place while the context lasts.
        filters: Convolution filters as (module name, index).

    Raises:
        ValueError: If a module is no convolution.
    """
    modules = dict(model.named_modules())
    saved: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name, index in filters:
                module = modules.get(name)
                if not isinstance(module, nn.Conv2d):
                    raise ValueError(f"{name!r} is no convolution of {type(model).__name__}")
                for parameter in (module.weight, module.bias):
                    if parameter is not None:
                        saved.append((parameter[index], parameter[index].clone()))
                        parameter[index] = 0
        yield model
    finally:
        with torch.no_grad():
            for place, values in reversed(saved):
                place.copy_(values)
