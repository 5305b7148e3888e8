"""From flagged maps to filters that may be masked, and what masking them does, found by trying."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.wiring import Filter, Wiring
from filterwatch.batches import describe, find_images, find_labels, find_logits
from filterwatch.detection import AnomalyCriteria, AnomalyReport
from filterwatch.observing import undisturbed

if TYPE_CHECKING:  # `mask_filters` needs no Lightning
    from filterwatch.actions.action import LossStep, RunningFit

_REMEDY = (
    "Override verification_loss(pl_module, batch) of MaskFilters to say what the loss is, or pass "
    "verify=False"
)


@dataclass(frozen=True)
class FlaggedFilter:
    """A convolution filter with flagged maps.

    Attributes:
        filter: The filter, as (module name of the convolution, index).
        maps: The flagged maps that it is behind, as (layer, channel).
        ch_ratio: The largest Calinski-Harabasz index among them, relative to its layer's mean.
        streak: In how many probes in a row it was flagged, this one included.
    """

    filter: Filter
    maps: tuple[tuple[str, int], ...]
    ch_ratio: float
    streak: int = 1

    def reason(self, criteria_differ: bool) -> str:
        """Return in words why it is masked."""
        layers = ", ".join(layer for layer, _ in self.maps)
        times = "once" if self.streak == 1 else f"{self.streak} times in a row"
        return f"flagged {times}{', by its own criteria,' if criteria_differ else ''} in {layers}"


def flagged_filters(
    report: AnomalyReport,
    criteria: AnomalyCriteria | None = None,
    streaks: Mapping[Filter, int] | None = None,
) -> dict[Filter, FlaggedFilter]:
    """Return the filters behind a report's flagged maps, or behind those that criteria flag."""
    flags = {name: layer.is_anomaly for name, layer in report.layers.items()}
    if criteria is not None:
        flags = report.flags(criteria)
    found: dict[Filter, FlaggedFilter] = {}
    for name, layer in report.layers.items():
        mean = layer.mean_ch_index
        for channel in flags[name].nonzero().flatten().tolist():
            source = layer.sources[channel]
            if source is None:
                continue
            earlier = found.get(source, FlaggedFilter(source, (), 0.0))
            found[source] = FlaggedFilter(
                source,
                (*earlier.maps, (name, channel)),
                max(earlier.ch_ratio, float(layer.ch_index[channel] / mean)),
                (streaks or {}).get(source, 0) + 1,
            )
    return found


def judged_filters(report: AnomalyReport) -> dict[Filter, None]:
    """Return the filters that have a map in a report, flagged or not, in forward order."""
    sources = (source for layer in report.layers.values() for source in layer.sources)
    return {source: None for source in sources if source is not None}


def maps_without_filter(report: AnomalyReport) -> int:
    """Return how many flagged maps have no single filter behind them, and so cannot be masked."""
    return sum(anomaly.source_layer is None for anomaly in report.anomalies)


def room(wiring: Wiring, layer: str, max_fraction: float) -> int:
    """Return how many filters of a convolution may be masked: never all of them."""
    n_filters = wiring.layers[layer]
    # The nudge keeps 0.29 * 100 at 29: binary fractions fall just short of it.
    return min(math.floor(max_fraction * n_filters + 1e-9), n_filters - 1)


def probe_loss(
    fit: RunningFit, wiring: Wiring, loss_step: LossStep, filters: Sequence[Filter]
) -> float:
    """Return the mean loss over the probe with filters silenced, in evaluation mode."""
    total, n_samples = 0.0, 0
    with FilterMasks(fit.module) as trial, undisturbed(fit.module):
        for filter_ in filters:
            trial.mask(filter_, wiring.slots[filter_])
        for batch in fit.batches:
            size = len(find_images(batch))
            total += float(fit.run(batch, loss_step)) * size
            n_samples += size
    return total / n_samples


def check_labels(fit: RunningFit, loss_step: LossStep) -> None:
    """Raise ``ValueError`` if the probe is of training data, or the loss cannot be had."""
    if fit.holds_training_data:
        raise ValueError(
            "verify=True needs held-out samples, and the probe is of training samples: leave out "
            "probe='train', or pass verify=False"
        )
    try:
        with undisturbed(fit.module):
            loss = fit.run(fit.first_samples, loss_step)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"verify=True: {type(fit.module).__name__} gave no loss on the probe ({error!r}). "
            f"{_REMEDY}"
        ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError(f"verification_loss must return one number as a tensor, got {loss!r}")


def cross_entropy(module: nn.Module, batch: Any) -> Tensor:
    """Return the cross entropy between a module's logits and the labels of a batch.

    Raises ``ValueError`` where there are no labels, or no logits [N, classes] that go with them.
    """
    images = find_images(batch)
    labels = find_labels(batch, len(images))
    if labels is None:
        raise ValueError(
            "verify=True needs a class label for each image of the probe, in a batch such as "
            "(images, labels) or {'image': …, 'label': …}; found none in a batch of "
            f"{describe(batch)}. {_REMEDY}"
        )
    output = module(images)
    logits = find_logits(output, len(images))
    if logits is None:
        raise ValueError(
            f"verify=True needs logits [{len(images)}, classes] of {type(module).__name__}, and "
            f"forward returned {describe(output)}, in which there are none. {_REMEDY}"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= logits.shape[1]:
        raise ValueError(
            f"verify=True: the probe's labels go from {lowest} to {highest}, and "
            f"{type(module).__name__} tells {logits.shape[1]} classes apart. {_REMEDY}"
        )
    return F.cross_entropy(logits.float(), labels)
