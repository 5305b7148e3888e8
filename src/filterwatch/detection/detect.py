"""`detect_anomaly_filters`: the whole method in one call (paper, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from filterwatch._checks import check_choice, check_integer, check_patterns, check_seed
from filterwatch.batches import Samples, as_batches, count_samples, few_samples
from filterwatch.detection.cluster import cluster_layers
from filterwatch.detection.criteria import AnomalyCriteria, check_criteria
from filterwatch.detection.memory import FREE_SHARE, Plan, Workspace, plan_ranks
from filterwatch.detection.reduce import PCA, ProgressCallback, Reduction
from filterwatch.detection.report import AnomalyReport
from filterwatch.detection.verdicts import judge
from filterwatch.detection.votes import vote
from filterwatch.observing import (
    Forward,
    Listener,
    Masks,
    NetworkChangedError,
    observe,
    preserved_random_state,
    survey,
)


def detect_anomaly_filters(
    model: nn.Module,
    probe: Samples,
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
    on_progress: ProgressCallback | None = None,
) -> AnomalyReport:
    """Find the filters whose feature maps isolate a few samples in clusters of their own.

    The probe goes through the model in evaluation mode; each filter's feature maps are reduced to
    points in the plane, the points clustered, and the clusterings judged by three criteria.

    Examples:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
        >>> images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> report = detect_anomaly_filters(model, images)
        >>> list(report.layers)
        ['0', '1']

    Args:
        model: Any network with 2-D convolutions. It comes back exactly as it went in: parameters,
            buffers, each submodule's training flag, hooks, gradients and random state.
        probe: Held-out images [N, C, H, W], a tensor or NumPy array; a data set; or an iterable of
            batches (a DataLoader, for instance), each a tensor or a tuple, list or mapping that
            holds one.
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
            more, the largest are kept as a truncated factorization of 4 to 16 directions: their
            points, and verdicts on them, are approximate, with few directions roughly so. A probe
            that goes through in one batch keeps no maps, whatever the budget.
            What the maps become, points and labels and scores of factorizations, takes 30 to 90
            bytes for each filter and sample besides.
        forward: How a batch of an iterable goes through the model; called as ``forward(batch)``.
            Default: the batch's images, moved to the model's device.
        masks: Masks on the model's filters, as `mask_filters` returns them. Masked filters are
            judged as they would be unmasked, the others as they are; see `observe`.
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
    check_detection(layers, criteria, max_clusters, pca, votes, seed, batch_size, memory_budget)
    criteria = criteria or AnomalyCriteria()
    with preserved_random_state(seed):  # which iterating a DataLoader draws from
        batches, n_samples, few, in_one_batch = _looked_at(probe, batch_size)
    check_probe_size(n_samples, max_clusters, criteria)
    plan = plan_detection(
        model,
        few,
        n_samples,
        layers=layers,
        forward=forward,
        seed=seed,
        memory_budget=memory_budget,
        in_one_batch=in_one_batch,
    )
    return detect_as_planned(
        model,
        batches,
        replace(plan, outputs=None),
        criteria=criteria,
        max_clusters=max_clusters,
        pca=pca,
        votes=votes,
        seed=seed,
        forward=forward,
        masks=masks,
        on_progress=on_progress,
    )


def detect_as_planned(
    model: nn.Module,
    batches: Iterable[Any],
    plan: Plan,
    *,
    criteria: AnomalyCriteria,
    max_clusters: int = 14,
    pca: PCA = "filter",
    votes: int = 0,
    seed: int = 0,
    forward: Forward | None = None,
    masks: Masks | None = None,
    on_progress: ProgressCallback | None = None,
    listener: Listener | None = None,
) -> AnomalyReport:
    """Take a probe through the stages; `detect_anomaly_filters` explains the arguments.

    For probes that follow one another: layers are found and memory is planned once. Where a network
    has changed since, both are done again, for which batches must be there twice: a plan without
    ``outputs`` does not look for changes. A listener follows the passes; see `observe`.
    """

    def detect(plan: Plan) -> AnomalyReport:
        reduction = Reduction(plan, pca=pca, on_progress=on_progress)
        observe(
            model,
            batches,
            reduction.add,
            layers=plan.layers,
            masks=masks,
            forward=forward,
            seed=seed,
            outputs=plan.outputs,
            listener=listener,
        )
        reduced, skipped = reduction.finish()
        clusterings = cluster_layers(reduced, max_clusters=max_clusters, on_progress=on_progress)
        ballots = None
        if votes:
            ballots = vote(reduced, criteria=criteria, votes=votes, max_clusters=max_clusters)
        return judge(
            plan,
            reduced,
            clusterings,
            criteria=criteria,
            ballots=ballots,
            skipped=skipped,
            settings={"max_clusters": max_clusters, "pca": pca, "seed": seed, "votes": votes},
        )

    try:
        return detect(plan)
    except NetworkChangedError:
        kept = list(batches)
        again = plan_detection(
            model,
            few_samples(kept[0]),
            plan.n_samples,
            layers=plan.patterns,
            forward=forward,
            seed=seed,
            memory_budget=plan.memory_budget,
            in_one_batch=len(kept) == 1,
        )
        # It may run other layers for a few samples than for a batch.
        return detect(replace(again, outputs=None))


def plan_detection(
    model: nn.Module,
    batch: Any,
    n_samples: int,
    *,
    layers: Sequence[str] | None = None,
    forward: Forward | None = None,
    seed: int = 0,
    memory_budget: int = 2**30,
    in_one_batch: bool = False,
    workspace: Workspace | None = None,
) -> Plan:
    """Find the layers to look at, and decide how their maps are kept.

    What is not explained here is so at `detect_anomaly_filters`.

    Args:
        model: The network. It comes back exactly as it went in.
        batch: One or two samples of the probe.
        n_samples: Number of samples in the probe.
        layers: Glob patterns over layer or module names.
        forward: How a batch goes through the model.
        seed: Seed of whatever the model draws.
        memory_budget: Bytes that feature maps may take.
        in_one_batch: Whether the probe goes through in one batch, so that no maps are kept.
        workspace: Where kept maps go from probe to probe. Default: memory is freed with them.

    Raises:
        ValueError: If the model has no 2-D convolution, a pattern of ``layers`` matches nothing, or
            the budget is too small.
    """
    found, outputs = survey(model, batch, layers=layers, forward=forward, seed=seed)
    sizes = {layer.name: layer.map_bytes for layer in found}
    ranks: dict[str, int | None] = dict.fromkeys(sizes)
    if not in_one_batch:
        ranks = plan_ranks(sizes, n_samples, memory_budget, free_share=FREE_SHARE)
    return Plan(found, n_samples, memory_budget, ranks, workspace, layers, outputs)


def check_detection(
    layers: object,
    criteria: object,
    max_clusters: object,
    pca: object,
    votes: object,
    seed: object,
    batch_size: object,
    memory_budget: object,
) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless the method can run with such arguments."""
    check_integer("batch_size", batch_size, 1)
    check_integer("memory_budget", memory_budget, 1)
    check_integer("max_clusters", max_clusters, 2)
    check_integer("votes", votes, 0)
    check_seed(seed)
    check_patterns("layers", layers)
    check_criteria(criteria, none_means="the defaults")
    check_choice("pca", pca, ("filter", "layer"))


def check_probe_size(n_samples: int, max_clusters: int, criteria: AnomalyCriteria) -> None:
    """Raise ``ValueError`` unless so many samples are enough for the method."""
    if n_samples < max_clusters:
        raise ValueError(
            f"a probe of {n_samples} samples cannot form max_clusters={max_clusters} clusters: "
            "use a larger probe, or lower max_clusters"
        )
    criteria.small_cluster_limit(n_samples)


def _looked_at(probe: Samples, batch_size: int) -> tuple[Iterator[Any], int, Any, bool]:
    """Return the batches, the number of samples, two of them, and whether one batch holds all."""
    batches = as_batches(probe, batch_size, "probe")
    if isinstance(probe, Tensor):
        n_samples = len(probe)
    # Without a batch size of its own, what a loader's batches hold only they can say.
    elif (
        isinstance(batches, DataLoader)
        and batches.batch_size is not None
        and not batches.drop_last
        and isinstance(batches.dataset, Sized)
    ):
        sampler = batches.sampler
        n_samples = len(sampler if isinstance(sampler, Sized) else batches.dataset)
    else:
        batches = list(batches)
        n_samples = sum(map(count_samples, batches))
    iterator = iter(batches)
    first = next(iterator, None)
    few = few_samples(first)
    in_one_batch = few is not first and count_samples(first) == n_samples
    return chain([first], iterator), n_samples, few, in_one_batch
