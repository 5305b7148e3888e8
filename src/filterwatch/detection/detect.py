"""`detect_anomaly_filters`: the whole method in one call (paper, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from filterwatch.detection.arguments import check_detection_arguments, check_probe_size
from filterwatch.detection.budget import plan_layers
from filterwatch.detection.capture import Forward, Layer, capture, find_layers, first_samples
from filterwatch.detection.criteria import AnomalyCriteria
from filterwatch.detection.images import find_images
from filterwatch.detection.isolation import preserved_random_state
from filterwatch.detection.reduction import PCA, LayerReduction, Reduced
from filterwatch.detection.report import AnomalyReport
from filterwatch.detection.unmasked import Masks, capture_unmasked
from filterwatch.detection.verdicts import ProgressCallback, judge
from filterwatch.detection.workspace import Workspace

# A group of filters is reduced in this share of the memory budget: it is copied a few times.
_GROUPS = 8


def detect_anomaly_filters(
    model: nn.Module,
    probe: Tensor | Iterable[Any],
    *,
    layers: Sequence[str] | None = None,
    criteria: AnomalyCriteria | None = None,
    max_clusters: int = 14,
    pca: PCA = "filter",
    votes: int = 0,
    seed: int = 0,
    batch_size: int = 256,
    memory_budget: int = 2**30,
    forward: Forward | None = None,
    masks: Masks | None = None,
    workspace: Workspace | None = None,
    on_progress: ProgressCallback | None = None,
) -> AnomalyReport:
    """Find the filters whose feature maps isolate a few samples in clusters of their own.

    The probe goes through the model in evaluation mode; each filter's feature maps are reduced to
    points in the plane, the points clustered, and the clusterings judged by three criteria.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> report = detect_anomaly_filters(model, images)
    >>> list(report.layers)
    ['0', '1']

    Args:
        model: Any network with 2-D convolutions. It comes back exactly as it went in: parameters,
            buffers, each submodule's training flag, hooks, gradients and random state.
        probe: Held-out images [N, C, H, W], or an iterable of batches (a DataLoader, for instance),
            each a tensor or a tuple, list or mapping that holds one.
        layers: Glob patterns over layer or module names. Default: every 2-D convolution, and the
            ReLU-like activations and max-pools that follow one (the paper's layers).
        criteria: The thresholds. Default: `AnomalyCriteria()`.
        max_clusters: Largest number of clusters tried; 2 is the smallest (section 3.3).
        pca: ``"filter"`` reduces each filter's maps by their own principal components, ``"layer"``
            by components common to the layer. The paper can be read either way.
        votes: 0 judges the clustering of the whole probe, as the paper does. Otherwise that many
            random quarters of the probe are clustered too, and a filter is an anomaly filter when
            most of them flag it: 16 votes flag much the same filters on another draw of the
            probe, for three to four times the price.
        seed: Seed of whatever a model draws in evaluation mode. Components and clusterings start
            from the same place each time, and the quarters that vote are the same ones.
        batch_size: Images per forward pass, where the probe is one tensor.
        memory_budget: Bytes that feature maps may take beside the model's own: three quarters for
            those kept between batches, the rest to work with. Where the maps of all layers take
            more, the largest are kept as a truncated factorisation of 4 to 16 directions: their
            points, and verdicts on them, are approximate, with few directions roughly so. A probe
            that goes through in one batch keeps no maps, whatever the budget.
            What the maps become, points and labels and scores of factorisations, takes 30 to 90
            bytes for each filter and sample besides.
        forward: How a batch of an iterable goes through the model; called as ``forward(batch)``.
            Default: the batch's images, moved to the model's device.
        masks: Masks on the model's filters, as `mask_filters` returns them. Masked filters are
            judged as they would be unmasked, the others as they are; see `capture_unmasked`.
        workspace: Memory for the maps that repeated calls share, which makes all but the first
            faster. Default: it is given back at the end of the call.
        on_progress: Called as ``on_progress(step, layer, done, total)`` while a layer's turn comes
            in one of the steps ``"feature maps"``, ``"principal components"`` and ``"clustering"``,
            with how much of the step is done by then, out of how much. Changes no result.

    Returns:
        The report. Layers that could not be judged are in its ``skipped``, with the reason.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the probe holds fewer samples than ``max_clusters``, or no images; the model
            has no 2-D convolution; a pattern of ``layers`` matches nothing; ``small_cluster_size``
            makes every cluster small; or an argument is out of range.
    """
    check_detection_arguments(locals())
    criteria = criteria or AnomalyCriteria()
    with preserved_random_state(seed):  # which iterating a DataLoader draws from
        batches, n_samples = _count(probe, batch_size)
    check_probe_size(n_samples, max_clusters, criteria)
    limit = criteria.small_cluster_limit(n_samples)
    with preserved_random_state(seed):
        batches, first = _peek(batches)
    few = _few_samples(first)
    found = {
        layer.name: layer
        for layer in find_layers(model, few, layers=layers, forward=forward, seed=seed)
    }
    ranks: dict[str, int | None] = dict.fromkeys(found)
    if not _holds_all(first, n_samples):
        ranks = plan_layers(found.values(), n_samples, memory_budget)
    reductions = {
        name: LayerReduction(
            n_samples=n_samples,
            pca=pca,
            rank=ranks[name],
            group_bytes=memory_budget // _GROUPS,
            name=name,
            workspace=workspace,
        )
        for name in found
    }
    _run(
        model,
        batches,
        reductions,
        _masked_channels(found, masks),
        forward=forward,
        seed=seed,
        on_progress=on_progress,
    )
    reduced, skipped = _reduce(reductions, on_progress)
    verdicts = judge(
        {name: found[name] for name in reduced},
        reduced,
        criteria=criteria,
        max_clusters=max_clusters,
        votes=votes,
        on_progress=on_progress,
    )
    return AnomalyReport(
        anomalies=verdicts.anomalies,
        layers=verdicts.layers,
        skipped=skipped,
        n_samples=n_samples,
        criteria=criteria,
        small_cluster_limit=limit,
        settings={"max_clusters": max_clusters, "pca": pca, "seed": seed, "votes": votes},
        isolations=verdicts.isolations,
    )


def _count(probe: Tensor | Iterable[Any], batch_size: int) -> tuple[Iterable[Any], int]:
    """Return the probe's batches and its number of samples."""
    if isinstance(probe, Tensor):
        return probe.split(batch_size), len(probe)
    # Without a batch size of its own, what a loader's batches hold only they can tell.
    if (
        isinstance(probe, DataLoader)
        and probe.batch_size is not None
        and not probe.drop_last
        and isinstance(probe.dataset, Sized)
    ):
        sampler = probe.sampler
        return probe, len(sampler) if isinstance(sampler, Sized) else len(probe.dataset)
    batches = list(probe)
    return batches, sum(len(find_images(batch)) for batch in batches)


def _peek(batches: Iterable[Any]) -> tuple[Iterator[Any], Any]:
    iterator = iter(batches)
    first = next(iterator)
    return chain([first], iterator), first


def _few_samples(batch: Any) -> Any:
    """Cut a batch to two samples, which suffice to find the layers; leave what cannot be cut."""
    try:
        return first_samples(batch, 2)
    except ValueError:
        return batch


def _holds_all(batch: Any, n_samples: int) -> bool:
    """Return whether a batch is the whole probe, as far as its images can be found."""
    try:
        return len(find_images(batch)) == n_samples
    except ValueError:
        return False


def _run(
    model: nn.Module,
    batches: Iterable[Any],
    reductions: dict[str, LayerReduction],
    masked: tuple[Masks, dict[str, list[int]]] | None,
    *,
    forward: Forward | None,
    seed: int,
    on_progress: ProgressCallback | None,
) -> None:
    done, total = 0, sum(reduction.n_samples for reduction in reductions.values())

    def consume(name: str, maps: Tensor) -> None:
        nonlocal done
        if name not in reductions:
            return
        if on_progress is not None:
            on_progress("feature maps", name, done, total)
            done += len(maps)
        reductions[name].add(maps)

    if masked is None:
        capture(model, batches, consume, forward=forward, seed=seed)
    else:
        capture_unmasked(model, batches, consume, *masked, forward=forward, seed=seed)


def _masked_channels(
    layers: dict[str, Layer], masks: Masks | None
) -> tuple[Masks, dict[str, list[int]]] | None:
    """Return masks, and the channels of each layer that they silence; `None` without any."""
    if masks is None or not masks.filters:
        return None
    filters = set(masks.filters)
    channels = {
        name: [channel for channel, source in enumerate(layer.sources) if source in filters]
        for name, layer in layers.items()
    }
    return masks, {name: masked for name, masked in channels.items() if masked}


def _reduce(
    reductions: dict[str, LayerReduction], on_progress: ProgressCallback | None
) -> tuple[dict[str, Reduced], dict[str, str]]:
    """Return what remains of each layer, and why nothing does of the others."""
    reduced, skipped = {}, {}
    for done, (name, reduction) in enumerate(reductions.items()):
        if on_progress is not None:
            on_progress("principal components", name, done, len(reductions))
        result = reduction.finish()
        if isinstance(result, str):
            skipped[name] = result
        else:
            reduced[name] = result
    return reduced, skipped
