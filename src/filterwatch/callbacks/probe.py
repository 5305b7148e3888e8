"""Taking the probe: the fixed samples that a network is watched with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from filterwatch._compat import is_fast_dev_run, validation_loaders
from filterwatch._failures import first_process_outcome
from filterwatch.actions import RunningFit
from filterwatch.batches import as_pair, as_tensor, find_images, join_samples, split_batch
from filterwatch.callbacks.evaluation import Step, evaluate, evaluation_stage
from filterwatch.detection import AnomalyCriteria, check_probe_size
from filterwatch.observing import undisturbed
from filterwatch.watching import (
    STREAM_FACTOR,
    choose_samples,
    dataset_labels,
    has_indexed_samples,
    reservoir,
    sample_pool,
)

ProbeSource = Literal["train"] | Tensor | Dataset[Any] | Iterable[Any] | None


class UnequalImagesError(ValueError):
    """The images of a probe differ in size, so that their feature maps cannot be compared."""


@dataclass(frozen=True)
class Probe:
    """Samples on the CPU, collated as the source's loader does it.

    Attributes:
        batches: The samples, in batches.
        first_samples: A batch of the first one or two of them.
        n_samples: Number of samples.
        source: Where they come from, in words.
        indices: Their indices in the source's data set, ascending; ``None`` for a stream.
        dataset_size: Number of samples in that data set; ``None`` for a stream.
        is_training_data: Whether they are known to be training samples.
    """

    batches: list[Any]
    first_samples: Any
    n_samples: int
    source: str
    indices: list[int] | None = None
    dataset_size: int | None = None
    is_training_data: bool = False


def check_probe(probe: object) -> None:
    """Raise unless ``probe`` is something that a probe can be taken from.

    Raises:
        TypeError: If it is neither iterable nor a data set.
        ValueError: If it is a string other than ``"train"``.
    """
    if isinstance(probe, str) and probe != "train":
        raise ValueError(f"probe={probe!r} is unknown: pass 'train', data, or None")
    if probe is not None and not isinstance(probe, (Dataset, Iterable)):
        raise TypeError(
            f"probe={probe!r} is no data: pass images [N, C, H, W], a data set, a dataloader, "
            "'train' for the training data, or None for the validation data"
        )


def take_probe(
    trainer: Trainer,
    pl_module: LightningModule,
    probe: ProbeSource,
    *,
    size: int,
    max_clusters: int,
    criteria: AnomalyCriteria,
    batch_size: int,
    seed: int,
    indices: list[int] | None = None,
    dataset_size: int | None = None,
) -> Probe:
    """Take samples, the same on every process, without a trace in the global random state.

    A data set is indexed, whatever the loader's sampler makes of it for this process. A stream is
    read once, and the first process's choice is everyone's.

    Args:
        trainer: A Trainer whose training is about to start.
        pl_module: Its module.
        probe: What the user asked for; ``None`` means ``probe_dataloader()`` of the datamodule
            where there is one, else the first validation dataloader.
        size: Number of samples; a source with fewer is taken whole, and ``fast_dev_run`` takes no
            more than the method needs.
        max_clusters: Largest number of clusters.
        criteria: Thresholds of the method.
        batch_size: Number of samples in a batch of the result.
        seed: Seed of the choice.
        indices: Samples taken before, to be taken again.
        dataset_size: Number of samples that the data set had then.

    Raises:
        UnequalImagesError: If the images differ in size.
        ValueError: If nothing was asked for and there is no validation data, or too little of it.
    """
    if is_fast_dev_run(trainer):
        few = criteria.small_cluster_size
        size = min(size, max(2 * max_clusters, few + 1 if isinstance(few, int) else 0))
    # A data set may draw from the global random state, as random transforms do.
    with undisturbed(pl_module, seed=seed), evaluation_stage(trainer):
        loader, source = find_source(trainer, probe)
        if has_indexed_samples(loader):
            taken = _indexed(trainer, loader, source, size, batch_size, seed, indices, dataset_size)
        else:
            samples, collate = _stream(loader)
            limit = STREAM_FACTOR * size
            chosen = first_process_outcome(
                trainer, lambda: reservoir(samples, size, seed=seed, limit=limit)
            )
            taken = Probe(*batches_of(chosen, collate, batch_size), len(chosen), source)
    check_probe_size(taken.n_samples, max_clusters, criteria)
    return replace(taken, is_training_data=isinstance(probe, str))


def running_fit(
    trainer: Trainer,
    pl_module: LightningModule,
    probe_step: Step,
    samples: Probe,
    history: list[dict[str, Any]],
) -> RunningFit:
    """Return what actions get to see of a fit."""
    return RunningFit(
        trainer=trainer,
        module=pl_module,
        batches=samples.batches,
        first_samples=samples.first_samples,
        holds_training_data=samples.is_training_data,
        probe_step=probe_step,
        run=partial(evaluate, trainer, pl_module),
        history=history,
    )


def _indexed(
    trainer: Trainer,
    loader: DataLoader[Any],
    source: str,
    size: int,
    batch_size: int,
    seed: int,
    indices: list[int] | None,
    dataset_size: int | None,
) -> Probe:
    """Take samples by their indices, those given if they are still there."""
    dataset: Any = loader.dataset
    pool = sample_pool(loader)
    if indices is not None and (len(dataset) != dataset_size or not set(indices) <= set(pool)):
        rank_zero_warn(
            f"AnomalyFilterCallback takes a new probe: the samples of the checkpoint's are no "
            f"longer in the {source}, of now {len(dataset)} samples. The counts before and after "
            "belong to different probes"
        )
        indices = None
    # Processes choose alike, unless a sampler of the user's shards the data by itself.
    indices = first_process_outcome(
        trainer, lambda: indices or choose_samples(pool, dataset_labels(dataset), size, seed)
    )
    batches = batches_of(Subset(dataset, indices), loader.collate_fn, batch_size)
    return Probe(*batches, len(indices), source, indices, len(dataset))


def find_source(trainer: Trainer, probe: ProbeSource) -> tuple[Iterable[Any], str]:
    """Return the loader to take the probe from, and what it is in words."""
    if isinstance(probe, str):
        return first_loader(trainer.train_dataloader), "training data"
    pair = as_pair(probe, "probe")
    probe = as_tensor(probe) if pair is None else TensorDataset(*pair)
    if isinstance(probe, (Tensor, Dataset)):
        return DataLoader(probe), "probe="  # type: ignore[arg-type]
    if probe is not None:
        return probe, "probe="
    datamodule: Any = getattr(trainer, "datamodule", None)
    if hasattr(datamodule, "probe_dataloader"):
        loader = datamodule.probe_dataloader()
        if loader is not None:
            return loader, f"{type(datamodule).__name__}.probe_dataloader()"
    loaders = validation_loaders(trainer)
    if loaders is None or not CombinedLoader(loaders).flattened:
        raise ValueError(
            "AnomalyFilterCallback has nothing to probe the network with: there is no validation "
            "data. Give the Trainer a validation dataloader, define probe_dataloader() in the "
            "datamodule, or pass probe=... (images, a data set, a dataloader; probe='train' takes "
            "training images, which answers another question)"
        )
    return first_loader(loaders), "validation data"


def first_loader(loaders: Any) -> Iterable[Any]:
    """Return the first of a Trainer's loaders."""
    first: Iterable[Any] = CombinedLoader(loaders).flattened[0]
    return first


def _stream(loader: Iterable[Any]) -> tuple[Any, Any]:
    """Return single samples of a loader, and what collates them."""
    if isinstance(loader, DataLoader) and loader.batch_sampler is not None:
        return loader.dataset, loader.collate_fn
    return (sample for batch in loader for sample in split_batch(batch)), join_samples


def batches_of(samples: Any, collate: Any, batch_size: int) -> tuple[list[Any], Any]:
    """Return samples in batches on the CPU, and a batch of the first one or two.

    Samples that cannot be put together, because their labels differ in size for instance, are
    batches of one each, with a warning.

    Args:
        samples: A map-style data set, or a list.
        collate: Makes a batch of a list of samples.
        batch_size: Number of samples in a batch.

    Raises:
        UnequalImagesError: If their images differ in size.
    """

    def batches(size: int) -> Iterator[Any]:
        # A generator of its own: a DataLoader draws from the global one otherwise.
        loader = DataLoader(
            samples, batch_size=size, collate_fn=collate, generator=torch.Generator()
        )
        return (move_data_to_device(batch, torch.device("cpu")) for batch in loader)

    try:
        whole, first = list(batches(batch_size)), next(batches(2), None)
    except (RuntimeError, TypeError, ValueError) as error:
        whole = list(batches(1))  # what is wrong with a single sample is raised here
        _check_sizes(whole)
        rank_zero_warn(
            f"AnomalyFilterCallback sends the samples of the probe through the network one by one, "
            f"which is slow: they cannot be put together into batches of {batch_size} "
            f"({type(error).__name__}: {error}). Give the loader a collate_fn that can"
        )
        return whole, whole[0]
    _check_sizes(whole)
    return whole, first


def _check_sizes(batches: Sequence[Any]) -> None:
    try:
        sizes = dict.fromkeys(tuple(find_images(batch).shape[1:]) for batch in batches)
    except ValueError:
        return  # a batch of another kind: `probe_step` knows what to do with it
    if len(sizes) > 1:
        shown = ", ".join(str(list(size)) for size in list(sizes)[:3])
        raise UnequalImagesError(
            f"the probe's images differ in size ({shown}{', …' if len(sizes) > 3 else ''}), and "
            "only feature maps of one size can be compared. Resize or crop them to one size in the "
            "transform of the validation data, or pass images that are alike as probe=…"
        )
