"""Catching the maps that masked filters would put out, were they not masked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from filterwatch.detection.capture import Forward, MapConsumer, capture


class Masks(Protocol):
    """Masks on a model's filters, which can be lifted for a while."""

    @property
    def filters(self) -> Collection[tuple[str, int]]:
        """The masked filters, as (module name, index)."""

    def lifted(self) -> AbstractContextManager[None]:
        """Hold the model as it would be without any of the masks, and put them back."""


def capture_unmasked(
    model: nn.Module,
    batches: Iterable[Any],
    consume: MapConsumer,
    masks: Masks,
    channels: Mapping[str, Sequence[int]],
    *,
    forward: Forward | None = None,
    seed: int = 0,
) -> None:
    """Send batches through a model and hand each map over, masked ones as if nothing were masked.

    Each batch goes through twice: with all masks lifted, for the maps of masked filters, and as the
    model is, for those of all others, which so are what the model works with. A masked map is what
    the whole model without masks makes of the batch: a mask upstream of it is lifted too.

    Args:
        model: The network. It comes back exactly as it went in.
        batches: What goes through it.
        consume: Called with a layer's name and its maps [B, C, h, w], see `capture`.
        masks: The masks.
        channels: For each layer that has masked channels, which they are.
        forward: How a batch goes through the model. Default: its images, on the model's device.
        seed: Seed of the global random state during the passes of a batch.
    """
    unmasked: dict[str, Tensor] = {}

    def keep(name: str, maps: Tensor) -> None:
        if name in channels:
            unmasked[name] = maps[:, channels[name]]  # a copy: an in-place activation may follow

    def substitute(name: str, maps: Tensor) -> None:
        if name in channels:
            maps = maps.index_copy(
                1, torch.tensor(channels[name], device=maps.device), unmasked.pop(name)
            )
        consume(name, maps)

    for batch in batches:
        with masks.lifted():
            capture(model, [batch], keep, forward=forward, seed=seed)
        capture(model, [batch], substitute, forward=forward, seed=seed)
