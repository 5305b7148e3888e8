"""`mask_filters`: silencing filters of a finished model, without a Trainer."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch
from torch import nn

from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.wiring import Filter, Wiring, trace_wiring
from filterwatch.detection.capture import Forward
from filterwatch.detection.report import AnomalyReport

# Sides of the images to try where none are given: ImageNet's first, then the smaller data sets'.
_SIZES = (224, 32, 28, 64, 96, 128, 299, 16, 8)


class MaskedFilters(FilterMasks):
    """Filters masked by `mask_filters`; leaving its ``with`` block gives them back.

    Pass it to ``detect_anomaly_filters(masks=…)`` to have them judged as they would be unmasked.
    """

    def remove(self) -> None:
        """Give all filters back, as they were bit by bit."""
        for filter_ in reversed(self.filters):
            self.release(filter_)

    def __enter__(self) -> MaskedFilters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


def mask_filters(
    model: nn.Module,
    filters: AnomalyReport | Iterable[Filter],
    *,
    images: Any = None,
    forward: Forward | None = None,
) -> MaskedFilters:
    """Silence convolution filters of a model in place, until the result is told to undo it.

    Weights and bias of each filter become zero, and so do scale and shift of the normalization
    channels behind it, so that its maps are exactly zero (paper, section 4.3). Only parameters and
    buffers that exist change, so that the model can be saved, copied or compiled as ever::

        with mask_filters(model, report):
            accuracy = evaluate(model)  # without the flagged filters

    Args:
        model: The network.
        filters: Filters as (module name of the convolution, index); or a report, whose ``filters``
            are meant.
        images: One or two images [B, C, H, W] to follow through the network, or whatever
            ``forward`` takes. Default: blank ones, of a size that the network accepts.
        forward: How a batch goes through the model. Default: its images, on the model's device.

    Returns:
        A handle: ``remove()`` gives the filters back, and so does the end of a ``with`` block.

    Raises:
        ValueError: If the model has no such filter, or one cannot be silenced without another; or
            if no size of blank images fits. Nothing is masked then.
    """
    wanted = list(filters.filters if isinstance(filters, AnomalyReport) else filters)
    masks = MaskedFilters(model)
    if not wanted:
        return masks
    wiring = _trace(model, images, forward)
    for filter_ in wanted:
        obstacle = wiring.obstacle(filter_)
        if obstacle is not None:
            layer, index = filter_
            raise ValueError(
                f"filter {index} of {layer!r} cannot be masked: {obstacle}. Filters are named as "
                f"(module name, index); the convolutions are {', '.join(wiring.layers())}"
            )
    for filter_ in wanted:
        masks.mask(filter_, wiring.slots[filter_])
    return masks


def _trace(model: nn.Module, images: Any, forward: Forward | None) -> Wiring:
    if images is not None:
        return trace_wiring(model, images, forward=forward)
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    channels = 3 if first is None else first.in_channels
    problem: Exception | None = None
    for size in _SIZES:
        blank = torch.zeros(2, channels, size, size, dtype=_dtype(model))
        try:
            return trace_wiring(model, blank, forward=forward)
        except Exception as error:
            problem = problem or error
    raise ValueError(
        f"{type(model).__name__} took no blank images of {channels} channels and side "
        f"{', '.join(map(str, _SIZES))} ({problem}): pass one or two that it takes as images=…"
    ) from problem


def _dtype(model: nn.Module) -> torch.dtype:
    kinds = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(kinds, torch.float32)
