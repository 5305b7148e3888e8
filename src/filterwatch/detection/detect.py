"""`detect_anomaly_filters`: the whole method in one call (paper, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from filterwatch.detection.budget import plan_ranks
from filterwatch.detection.capture import Forward, Layer, capture, find_layers, first_samples
from filterwatch.detection.clustering import Clusterings, cluster_points
from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies, small_clusters
from filterwatch.detection.images import find_images
from filterwatch.detection.reduction import PCA, LayerReduction
from filterwatch.detection.report import AnomalyFilter, AnomalyReport, LayerReport

ProgressCallback = Callable[[str, str, int, int], None]

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
    seed: int = 0,
    batch_size: int = 256,
    memory_budget: int = 2**30,
    forward: Forward | None = None,
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
        seed: Seed of everything random inside.
        batch_size: Images per forward pass, where the probe is one tensor.
        memory_budget: Bytes that the maps kept between batches may take; beside it come the model's
            own maps. Layers that do not fit are kept as a truncated factorisation of their maps.
            A probe that goes through in one batch needs a fraction of it.
        forward: How a batch of an iterable goes through the model; called as ``forward(batch)``.
            Default: the batch's images, moved to the model's device.
        on_progress: Called as ``on_progress(step, layer, done, total)`` when a layer's turn comes
            in one of the steps ``"feature maps"``, ``"principal components"`` and ``"clustering"``,
            with the share of the step that is done by then.

    Returns:
        The report. Layers that could not be judged are in its ``skipped``, with the reason.

    Raises:
        ValueError: If the probe holds fewer samples than ``max_clusters``, or no images; the model
            has no 2-D convolution; a pattern of ``layers`` matches nothing; ``small_cluster_size``
            makes every cluster small; or an argument is out of range.
    """
    criteria = criteria or AnomalyCriteria()
    if max_clusters < 2:
        raise ValueError(f"max_clusters must be at least 2, got {max_clusters}")
    if pca not in ("filter", "layer"):
        raise ValueError(f'pca must be "filter" or "layer", got {pca!r}')
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if memory_budget < 1:
        raise ValueError(f"memory_budget must be a positive number of bytes, got {memory_budget}")
    batches, n_samples = _count(probe, batch_size)
    if n_samples < max_clusters:
        raise ValueError(
            f"a probe of {n_samples} samples cannot form max_clusters={max_clusters} clusters: "
            "use a larger probe, or lower max_clusters"
        )
    limit = criteria.small_cluster_limit(n_samples)
    batches, first = _peek(batches)
    few = _few_samples(first)
    found = {
        layer.name: layer
        for layer in find_layers(model, few, layers=layers, forward=forward, seed=seed)
    }
    ranks = plan_ranks(
        {name: layer.map_bytes for name, layer in found.items()}, n_samples, memory_budget
    )
    reductions = {
        name: LayerReduction(
            n_samples=n_samples,
            pca=pca,
            rank=ranks[name],
            group_bytes=memory_budget // _GROUPS,
            seed=seed,
        )
        for name in found
    }
    _run(model, batches, reductions, n_samples, forward=forward, seed=seed, on_progress=on_progress)
    points, activations, skipped = _reduce(reductions, on_progress)
    judged = _judge(
        {name: found[name] for name in points},
        points,
        activations,
        _cluster(points, on_progress, max_clusters=max_clusters, seed=seed),
        criteria=criteria,
        limit=limit,
    )
    return AnomalyReport(
        anomalies=list(_anomalies(judged, limit)),
        layers=judged,
        skipped=skipped,
        n_samples=n_samples,
        criteria=criteria,
        small_cluster_limit=limit,
        settings={"max_clusters": max_clusters, "pca": pca, "seed": seed},
        isolations=_isolations(judged, limit),
    )


def _count(probe: Tensor | Iterable[Any], batch_size: int) -> tuple[Iterable[Any], int]:
    """Return the probe's batches and its number of samples."""
    if isinstance(probe, Tensor):
        return probe.split(batch_size), len(probe)
    if isinstance(probe, DataLoader) and not probe.drop_last and isinstance(probe.dataset, Sized):
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


def _run(
    model: nn.Module,
    batches: Iterable[Any],
    reductions: dict[str, LayerReduction],
    n_samples: int,
    *,
    forward: Forward | None,
    seed: int,
    on_progress: ProgressCallback | None,
) -> None:
    done, total = 0, n_samples * len(reductions)

    def consume(name: str, maps: Tensor) -> None:
        nonlocal done
        if name not in reductions:
            return
        if on_progress is not None:
            on_progress("feature maps", name, done, total)
            done += len(maps)
        reductions[name].add(maps)

    capture(model, batches, consume, forward=forward, seed=seed)


def _reduce(
    reductions: dict[str, LayerReduction], on_progress: ProgressCallback | None
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, str]]:
    points, activations, skipped = {}, {}, {}
    for done, (name, reduction) in enumerate(reductions.items()):
        if on_progress is not None:
            on_progress("principal components", name, done, len(reductions))
        problem = reduction.problem()
        if problem is None:
            points[name], activations[name] = reduction.finish()
        else:
            skipped[name] = problem
    return points, activations, skipped


def _cluster(
    points: dict[str, Tensor],
    on_progress: ProgressCallback | None,
    *,
    max_clusters: int,
    seed: int,
) -> dict[str, Clusterings]:
    """Cluster the points of every layer; all at once where nobody watches, which is faster."""
    if not points:
        return {}
    if on_progress is None:
        together = cluster_points(
            torch.cat(list(points.values())), max_clusters=max_clusters, seed=seed
        )
        sizes = [len(layer) for layer in points.values()]
        return dict(zip(points, together.split(sizes), strict=True))
    clusterings, done = {}, 0
    total = sum(len(layer) for layer in points.values())
    for name, layer in points.items():
        on_progress("clustering", name, done, total)
        clusterings[name] = cluster_points(layer, max_clusters=max_clusters, seed=seed)
        done += len(layer)
    return clusterings


def _judge(
    layers: dict[str, Layer],
    points: dict[str, Tensor],
    activations: dict[str, Tensor],
    clusterings: dict[str, Clusterings],
    *,
    criteria: AnomalyCriteria,
    limit: int,
) -> dict[str, LayerReport]:
    reports: dict[str, LayerReport] = {}
    for name, layer in layers.items():
        clustering = clusterings[name]
        sizes = clustering.cluster_sizes.cpu()
        ch_index = clustering.ch_index.cpu()
        activation = activations[name].cpu()
        reports[name] = LayerReport(
            kind=layer.kind,
            ch_index=ch_index,
            n_clusters=clustering.n_clusters.cpu(),
            cluster_sizes=sizes,
            activation=activation,
            is_anomaly=flag_anomalies(sizes, ch_index, activation, limit=limit, criteria=criteria),
            sources=layer.sources,
            points=points[name].cpu(),
            labels=clustering.labels.cpu(),
        )
    return reports


def _anomalies(layers: dict[str, LayerReport], limit: int) -> Iterator[AnomalyFilter]:
    for name, layer in layers.items():
        isolated = _isolated(layer, limit)
        for channel in layer.is_anomaly.nonzero().flatten().tolist():
            sizes = layer.cluster_sizes[channel]
            source = layer.sources[channel]
            yield AnomalyFilter(
                layer=name,
                channel=channel,
                source_layer=None if source is None else source[0],
                source_channel=None if source is None else source[1],
                ch_index=float(layer.ch_index[channel]),
                n_clusters=int(layer.n_clusters[channel]),
                cluster_sizes=sizes[sizes > 0].tolist(),
                activation=float(layer.activation[channel]),
                outliers=isolated[channel].nonzero().flatten().tolist(),
            )


def _isolations(layers: dict[str, LayerReport], limit: int) -> dict[int, int]:
    counts: Tensor | int = 0
    for layer in layers.values():
        counts = counts + _isolated(layer, limit).sum(0)
    if isinstance(counts, int):
        return {}
    return {index: int(counts[index]) for index in counts.nonzero().flatten().tolist()}


def _isolated(layer: LayerReport, limit: int) -> Tensor:
    """Mark the samples [C, N] that lie in small clusters."""
    if layer.labels is None:
        raise ValueError("the layer's labels were not kept")
    small = small_clusters(layer.cluster_sizes, limit)
    # A dead filter's labels are -1; its sizes are all 0, so that no cluster of it is small.
    return small.gather(1, layer.labels.clamp(min=0))
