"""Taking the probe: the fixed samples that a network is watched with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import CombinedLoader, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from filterwatch.callbacks.collating import batches_of, join_samples, split_batch
from filterwatch.callbacks.samples import choose_samples, dataset_labels, reservoir, sample_pool

ProbeSource = Literal["train"] | Tensor | Dataset[Any] | Iterable[Any] | None

# Of a stream at most this many times the probe's size is read: it may have no end.
_STREAM_FACTOR = 50


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
    """

    batches: list[Any]
    first_samples: Any
    n_samples: int
    source: str
    indices: list[int] | None = None
    dataset_size: int | None = None


def find_source(trainer: Trainer, probe: ProbeSource) -> tuple[Iterable[Any], str]:
    """Return the loader to take the probe from, and what it is in words.

    Args:
        trainer: A Trainer whose training is about to start.
        probe: What the user asked for; ``None`` means ``probe_dataloader()`` of the datamodule
            where there is one, else the first validation dataloader.

    Raises:
        ValueError: If nothing was asked for and there is no validation data.
    """
    if isinstance(probe, str):
        return _first(trainer.train_dataloader), "training data"
    if isinstance(probe, (Tensor, Dataset)):
        return DataLoader(probe), "probe="  # type: ignore[arg-type]
    if probe is not None:
        return probe, "probe="
    datamodule: Any = getattr(trainer, "datamodule", None)
    if hasattr(datamodule, "probe_dataloader"):
        loader = datamodule.probe_dataloader()
        if loader is not None:
            return loader, f"{type(datamodule).__name__}.probe_dataloader()"
    loaders = _validation_loaders(trainer)
    if loaders is None or not CombinedLoader(loaders).flattened:
        raise ValueError(
            "AnomalyFilterCallback has nothing to probe the network with: there is no validation "
            "data. Give the Trainer a validation dataloader, define probe_dataloader() in the "
            "datamodule, or pass probe=... (images, a data set, a dataloader; probe='train' takes "
            "training images, which answers another question)"
        )
    return _first(loaders), "validation data"


def take_probe(
    trainer: Trainer,
    loader: Iterable[Any],
    source: str,
    *,
    size: int,
    batch_size: int,
    seed: int,
    indices: list[int] | None = None,
    dataset_size: int | None = None,
) -> Probe:
    """Take samples from a loader's data, the same on every process.

    A data set is indexed, whatever the loader's sampler makes of it for this process. A stream is
    read once, and the first process's choice is everyone's.

    Args:
        trainer: The Trainer, whose processes agree on the samples.
        loader: A DataLoader, or any iterable of batches.
        source: What it is, in words.
        size: Number of samples; a source with fewer is taken whole.
        batch_size: Number of samples in a batch of the result.
        seed: Seed of the choice.
        indices: Samples taken before, to be taken again.
        dataset_size: Number of samples that the data set had then.

    Raises:
        UnequalImagesError: If the images differ in size.
    """
    if not _has_indexed_samples(loader):
        samples, collate = _stream(loader)
        chosen = reservoir(samples, size, seed=seed, limit=_STREAM_FACTOR * size)
        chosen = trainer.strategy.broadcast(chosen)
        batches, first_samples = batches_of(chosen, collate, batch_size)
        return Probe(batches, first_samples, len(chosen), source)
    dataset: Any = loader.dataset
    pool = sample_pool(loader)
    if indices is not None and (len(dataset) != dataset_size or not set(indices) <= set(pool)):
        rank_zero_warn(
            f"AnomalyFilterCallback takes a new probe: the samples of the checkpoint's are no "
            f"longer in the {source}, of now {len(dataset)} samples. The counts before and after "
            "belong to different probes"
        )
        indices = None
    if indices is None:
        indices = choose_samples(pool, dataset_labels(dataset), size, seed)
    # Processes choose alike, unless a sampler of the user's shards the data by itself.
    indices = trainer.strategy.broadcast(indices)
    batches, first_samples = batches_of(Subset(dataset, indices), loader.collate_fn, batch_size)
    return Probe(batches, first_samples, len(indices), source, indices, len(dataset))


def _validation_loaders(trainer: Trainer) -> Any:
    if trainer.val_dataloaders is not None:
        return trainer.val_dataloaders
    # Not set up where the first epochs go without validation, or all of them do.
    source = trainer.fit_loop.epoch_loop.val_loop._data_source
    return source.dataloader() if source.is_defined() and source.instance is not None else None


def _first(loaders: Any) -> Iterable[Any]:
    first: Iterable[Any] = CombinedLoader(loaders).flattened[0]
    return first


def _has_indexed_samples(loader: object) -> TypeGuard[DataLoader[Any]]:
    """Return whether a loader makes its batches of samples that have an index."""
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and loader.batch_sampler is not None
    )


def _stream(loader: Iterable[Any]) -> tuple[Any, Any]:
    """Return single samples of a loader, and what collates them."""
    if isinstance(loader, DataLoader) and loader.batch_sampler is not None:
        return loader.dataset, loader.collate_fn
    return (sample for batch in loader for sample in split_batch(batch)), join_samples
