"""Blank images of a size that a network takes, for following them through it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from filterwatch.observing import undisturbed

# Sides to try first: ImageNet's, then the smaller data sets'.
_USUAL_SIDES = (224, 32, 28, 64, 96, 128, 299, 16, 8)
_LARGEST_SIDE = 640


def blank_images(model: nn.Module) -> Iterator[Tensor]:
    """Yield blank images [2, C, H, H] that a model may take, the usual sizes first.

    Of the other sizes, up to 640, only those are yielded that pass through a model whose tensors
    have shapes and no values, which costs next to nothing.

    Args:
        model: The network; the number of channels is that of its first convolution.
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    channels = 3 if first is None else first.in_channels
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    for side in _USUAL_SIDES:
        yield torch.zeros(2, channels, side, side, dtype=dtype)
    for side in range(4, _LARGEST_SIDE + 1):
        if side not in _USUAL_SIDES and _fits(model, (2, channels, side, side), dtype):
            yield torch.zeros(2, channels, side, side, dtype=dtype)


def _fits(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    try:
        with undisturbed(model):
            functional_call(model, shapes, (torch.zeros(shape, dtype=dtype, device="meta"),))
    except Exception:
        return False
    return True
