"""`mask_filters`: silencing filters of a finished model, without a Trainer."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from filterwatch.actions.candidates import maps_without_filter
from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.wiring import Filter, Wiring, trace_wiring
from filterwatch.detection import AnomalyReport
from filterwatch.observing import Forward

# Sides of blank images to try: ImageNet's, then the smaller data sets'.
_USUAL_SIDES = (224, 32, 28, 64, 96, 128, 227, 256, 299, 48, 16, 8)


def mask_filters(
    model: nn.Module,
    filters: AnomalyReport | Iterable[Filter],
    *,
    images: Any = None,
    forward: Forward | None = None,
) -> FilterMasks:
    """Silence convolution filters of a model in place, until the handle returned undoes it.

    Weights and bias of each filter become zero, and so do scale and shift of the normalization
    channels behind it, so that its maps are exactly zero (paper, section 4.3). Only parameters and
    buffers that exist change, so that the model can be saved, copied or compiled as ever::

        with mask_filters(model, report):
            accuracy = evaluate(model)  # without the flagged filters

    Args:
        model: The network.
        filters: Filters as (module name of the convolution, index); or a report, whose ``filters``
            are meant. Those of a report that cannot be masked are named in a warning.
        images: One or two images [B, C, H, W] to follow through the network, or whatever
            ``forward`` takes. Default: blank ones of a usual square size.
        forward: How a batch goes through the model. Default: its images, on the model's device.

    Returns:
        A handle: ``remove()`` gives the filters back, bit by bit, and so does the end of a ``with``
        block. ``detect_anomaly_filters(masks=…)`` judges its filters as they would be unmasked.

    Raises:
        ValueError: If the model has no such filter; one that is given by name cannot be silenced
            without another; or no size of blank images fits. Nothing is masked then.
    """
    report = filters if isinstance(filters, AnomalyReport) else None
    wanted = list(filters.filters if isinstance(filters, AnomalyReport) else filters)
    masks = FilterMasks(model)
    wiring = _trace(model, images, forward) if wanted else Wiring()
    for filter_ in wanted:
        if (obstacle := wiring.obstacle(filter_)) is None:
            continue
        layer, index = filter_
        if report is None or layer not in wiring.layers:
            raise ValueError(
                f"filter {index} of {layer!r} cannot be masked: {obstacle}. Filters are named as "
                f"(module name, index); the convolutions are {', '.join(wiring.layers)}"
            )
        masks.unmaskable[filter_] = obstacle
    for filter_ in wanted:
        if filter_ not in masks.unmaskable:
            masks.mask(filter_, wiring.slots[filter_])
    if report is not None:
        _warn_about(masks, report)
    return masks


def _warn_about(masks: FilterMasks, report: AnomalyReport) -> None:
    """Say which flagged maps of a report are not silenced, and why."""
    reasons = defaultdict(list)
    for (layer, index), reason in masks.unmaskable.items():
        reasons[reason].append(f"{index} of {layer}")
    parts = [f"filters {', '.join(names)} ({reason})" for reason, names in reasons.items()]
    if n_maps := maps_without_filter(report):
        parts.append(f"{n_maps} flagged maps with no single filter behind them")
    if parts:
        warnings.warn(
            f"mask_filters masks {len(masks.filters)} filters of the report, and not: "
            f"{'; '.join(parts)}",
            stacklevel=3,
        )


def _trace(model: nn.Module, images: Any, forward: Forward | None) -> Wiring:
    if images is not None:
        return trace_wiring(model, images, forward=forward)
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    problem: Exception | None = None
    for side in _USUAL_SIDES:
        blank = torch.zeros((2, channels, side, side), dtype=dtype)
        try:
            return trace_wiring(model, blank, forward=forward)
        except Exception as error:
            problem = problem or error
    raise ValueError(
        f"{type(model).__name__} took no blank images of any usual size ({problem}): pass one or "
        "two images that it takes as images=…"
    ) from problem
