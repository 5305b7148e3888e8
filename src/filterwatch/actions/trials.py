"""Trying masks out: what they do to the loss on held-out data, and to their filters' maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from filterwatch.actions.action import Watch
from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.wiring import Filter, Wiring
from filterwatch.batches import describe, find_labels, find_logits
from filterwatch.detection import AnomalyReport, find_images
from filterwatch.observing import observe, undisturbed

LossStep = Callable[[LightningModule, Any], Tensor]

_REMEDY = (
    "Override verification_loss(pl_module, batch) of MaskFilters to say what the loss is, or pass "
    "verify=False"
)


@contextmanager
def silenced(watch: Watch, wiring: Wiring, filters: Iterable[Filter]) -> Iterator[None]:
    """Hold the network with some more filters silenced, and give them back bit by bit."""
    trial = FilterMasks(watch.module)
    try:
        for filter_ in filters:
            trial.mask(filter_, wiring.slots[filter_])
        yield
    finally:
        for filter_ in trial.filters:
            trial.release(filter_)


def mean_loss(watch: Watch, loss_step: LossStep) -> float:
    """Return the mean loss over the probe, in evaluation mode."""
    total, n_samples = 0.0, 0
    with undisturbed(watch.module):
        for batch in watch.batches:
            size = len(find_images(batch))
            total += float(watch.run(batch, loss_step)) * size
            n_samples += size
    return total / n_samples


def cross_entropy(pl_module: LightningModule, batch: Any) -> Tensor:
    """Return the cross entropy between a module's logits and the labels of a batch.

    Raises:
        ValueError: If the batch holds no class labels, one for each image; or the module returns no
            logits [N, classes] that go with them.
    """
    images = find_images(batch)
    labels = find_labels(batch, len(images))
    if labels is None:
        raise ValueError(
            "verify=True needs a class label for each image of the probe, in a batch such as "
            "(images, labels) or {'image': …, 'label': …}; found none in a batch of "
            f"{describe(batch)}. {_REMEDY}"
        )
    output = pl_module(images)
    logits = find_logits(output)
    shape = None if logits is None else tuple(logits.shape)
    if logits is None or logits.ndim != 2 or len(logits) != len(images):
        raise ValueError(
            f"verify=True needs logits [{len(images)}, classes] of {type(pl_module).__name__}, and "
            f"forward returned {describe(output)}, in which "
            f"{'there is no tensor' if shape is None else f'the logits would be {list(shape)}'}. "
            f"{_REMEDY}"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= logits.shape[1]:
        raise ValueError(
            f"verify=True: the probe's labels go from {lowest} to {highest}, and "
            f"{type(pl_module).__name__} tells {logits.shape[1]} classes apart. {_REMEDY}"
        )
    return F.cross_entropy(logits.float(), labels)


def check_labels(watch: Watch, loss_step: LossStep) -> None:
    """Try the loss on a sample or two of the probe.

    Raises:
        ValueError: If the probe is of training data, or the loss cannot be had.
    """
    if watch.holds_training_data:
        raise ValueError(
            "verify=True needs held-out samples, and the probe is of training samples: leave out "
            "probe='train' (or probe_source='train' of the datamodule), or pass verify=False"
        )
    try:
        with undisturbed(watch.module):
            loss = watch.run(watch.first_samples, loss_step)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"verify=True: {type(watch.module).__name__} gave no loss on the probe ({error!r}). "
            f"{_REMEDY}"
        ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise ValueError(f"verification_loss must return one number as a tensor, got {loss!r}")


def remaining_activation(
    watch: Watch, wiring: Wiring, report: AnomalyReport, filters: Iterable[Filter]
) -> dict[Filter, tuple[float, bool]]:
    """Return what is left in the maps behind filters when these are silenced.

    Args:
        watch: The fit.
        wiring: Its network's filters.
        report: Knows which maps each filter is behind.
        filters: The filters to silence.

    Returns:
        For each filter the largest absolute value left in any of its maps, 0 normally, and whether
        what is left is constant, so that nothing of the image is in it.
    """
    left = dict.fromkeys(filters, (0.0, True))
    behind = {
        name: [(channel, s) for channel, s in enumerate(layer.sources) if s in left]
        for name, layer in report.layers.items()
    }

    def look(name: str, maps: Tensor) -> None:
        for channel, filter_ in behind.get(name, ()):
            assert filter_ is not None
            lowest, highest = (float(value) for value in torch.aminmax(maps[:, channel]))
            largest, constant = left[filter_]
            left[filter_] = (
                max(largest, abs(lowest), abs(highest)),
                constant and lowest == highest,
            )

    with silenced(watch, wiring, list(left)):
        observe(watch.module, [watch.first_samples], look, forward=watch.forward)
    return left
