"""`mask_filters`: silencing filters of a finished model, without a Trainer."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from torch import nn

from filterwatch.actions.blank_images import blank_images
from filterwatch.actions.flags import maps_without_filter
from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.wiring import Filter, Wiring, trace_wiring
from filterwatch.detection.report import AnomalyReport
from filterwatch.observing import Forward


class MaskedFilters(FilterMasks):
    """Filters masked by `mask_filters`; leaving its ``with`` block gives them back.

    Pass it to ``detect_anomaly_filters(masks=…)`` to have them judged as they would be unmasked.

    Attributes:
        unmaskable: Filters of the report that could not be masked, with the reason.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.unmaskable: dict[Filter, str] = {}

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
            are meant. Those of a report that cannot be masked are named in a warning.
        images: One or two images [B, C, H, W] to follow through the network, or whatever
            ``forward`` takes. Default: blank ones, of a square size that the network accepts.
        forward: How a batch goes through the model. Default: its images, on the model's device.

    Returns:
        A handle: ``remove()`` gives the filters back, and so does the end of a ``with`` block.

    Raises:
        ValueError: If the model has no such filter; one that is given by name cannot be silenced
            without another; or no size of blank images fits. Nothing is masked then.
    """
    report = filters if isinstance(filters, AnomalyReport) else None
    wanted = list(filters.filters if isinstance(filters, AnomalyReport) else filters)
    masks = MaskedFilters(model)
    wiring = _trace(model, images, forward) if wanted else Wiring()
    for filter_ in wanted:
        obstacle = wiring.obstacle(filter_)
        if obstacle is None:
            continue
        layer, index = filter_
        if report is None or layer not in wiring.layers():
            raise ValueError(
                f"filter {index} of {layer!r} cannot be masked: {obstacle}. Filters are named as "
                f"(module name, index); the convolutions are {', '.join(wiring.layers())}"
            )
        masks.unmaskable[filter_] = obstacle
    for filter_ in wanted:
        if filter_ not in masks.unmaskable:
            masks.mask(filter_, wiring.slots[filter_])
    if report is not None:
        _warn_about(masks, report)
    return masks


def _trace(model: nn.Module, images: Any, forward: Forward | None) -> Wiring:
    if images is not None:
        return trace_wiring(model, images, forward=forward)
    problem: Exception | None = None
    for blank in blank_images(model):
        outcome = _attempt(model, blank, forward)
        if isinstance(outcome, Wiring):
            return outcome
        problem = problem or outcome
    raise ValueError(
        f"{type(model).__name__} took no blank images of any square size ({problem}): pass one or "
        "two images that it takes as images=…"
    ) from problem


def _attempt(model: nn.Module, images: Any, forward: Forward | None) -> Wiring | Exception:
    try:
        return trace_wiring(model, images, forward=forward)
    except Exception as error:
        return error


def _warn_about(masks: MaskedFilters, report: AnomalyReport) -> None:
    """Say which flagged maps of a report are not silenced, and why."""
    reasons = defaultdict(list)
    for (layer, index), reason in masks.unmaskable.items():
        reasons[reason].append(f"{index} of {layer}")
    parts = [f"filters {', '.join(names)} ({reason})" for reason, names in reasons.items()]
    n_maps = maps_without_filter(report)
    if n_maps:
        parts.append(f"{n_maps} flagged maps with no single filter behind them")
    if parts:
        warnings.warn(
            f"mask_filters masks {len(masks.filters)} filters of the report, and not: "
            f"{'; '.join(parts)}",
            stacklevel=3,
        )
