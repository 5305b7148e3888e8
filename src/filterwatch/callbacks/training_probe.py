"""Taking the training probe: training samples as evaluation sees them, like the held-out ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from filterwatch._compat import limits_training, validation_loaders
from filterwatch._failures import Failures, first_process_outcome
from filterwatch.batches import find_images, find_labels
from filterwatch.callbacks.evaluated_data import as_evaluated, draws_at_random, read_apart
from filterwatch.callbacks.evaluation import evaluation_stage
from filterwatch.callbacks.probe import (
    Probe,
    batches_of,
    find_source,
    first_loader,
)
from filterwatch.memorization import (
    FEWEST_IN_HALF,
    UnmeasurableError,
    checked_labels,
    class_labels,
)
from filterwatch.observing import undisturbed
from filterwatch.watching import (
    choose_like,
    choose_samples,
    dataset_labels,
    has_indexed_samples,
    sample_pool,
)

TrainingSource = tuple[Tensor, Tensor] | Dataset[Any] | DataLoader[Any] | None

# Samples of a class, where there are too many classes for all of them to be in a probe.
_OF_A_CLASS = 4 * FEWEST_IN_HALF
_TRAINING_DATA = "training data"


def check_training_probe(source: object) -> None:
    """Raise ``TypeError`` unless a training probe can be taken from a source."""
    pair = False
    if isinstance(source, tuple):
        pair = len(source) == 2 and all(isinstance(part, Tensor) for part in source)
        if pair and len(source[0]) != len(source[1]):
            raise ValueError(
                f"training_probe has {len(source[0])} images and {len(source[1])} labels: pass as "
                "many of both"
            )
    known = isinstance(source, (Dataset, DataLoader)) or pair
    if source is not None and not known:
        raise TypeError(
            f"training_probe={type(source).__name__} is no labeled data: pass tensors (images, "
            "labels), a data set or a DataLoader of training samples as evaluation sees them, or "
            "None for the Trainer's training data"
        )


def labels_of(samples: Probe) -> Tensor | None:
    """Return the labels of a probe, int64 [N]; ``None`` where it has no class labels."""
    found = []
    for batch in samples.batches:
        try:
            labels = find_labels(batch, len(find_images(batch)))
        except ValueError:
            return None
        if labels is None:
            return None
        found.append(labels)
    return torch.cat(found)


def take_held_out(
    trainer: Trainer,
    pl_module: LightningModule,
    probe: Any,
    samples: Probe,
    *,
    batch_size: int,
    seed: int,
) -> Probe:
    """Return the held-out samples that labels are decoded from: the probe, where that will do.

    Where it holds training samples, others are taken; where it has too few of each class, as many
    of fewer classes.

    Args:
        trainer: A Trainer whose training is about to start.
        pl_module: Its module.
        probe: What the user asked for as the probe.
        samples: The probe.
        batch_size: Number of samples in a batch.
        seed: Seed of the choice.

    Raises:
        UnmeasurableError: If there is nothing to be had that labels can be decoded from.
    """
    labels = class_labels(labels_of(samples))
    if not samples.is_training_data and _covered(labels) >= 0.5:
        checked_labels(labels)
        return samples
    with undisturbed(pl_module, seed=seed), evaluation_stage(trainer):
        loader, source = find_source(trainer, None if samples.is_training_data else probe)
        dataset: Any = getattr(loader, "dataset", None)
        known = dataset_labels(dataset) if has_indexed_samples(loader) else None
        if known is None or not has_indexed_samples(loader):
            if samples.is_training_data:
                raise UnmeasurableError(
                    f"held-out samples of the {source} cannot be chosen by their labels"
                )
            checked_labels(labels)
            return samples
        pool, size = sample_pool(loader), samples.n_samples
        chosen = choose_samples(pool, known, size, seed)
        if _covered(torch.from_numpy(np.unique(known[chosen], return_inverse=True)[1])) < 0.5:
            wanted = _classes_for(known[list(pool)], size, seed)
            chosen = choose_like(pool, known, wanted, size, seed)
        taken = batches_of(Subset(dataset, chosen), loader.collate_fn, batch_size)
    held_out = Probe(*taken, len(chosen), source, chosen, len(dataset))
    checked_labels(labels_of(held_out))
    return held_out


def take_training_probe(
    trainer: Trainer,
    pl_module: LightningModule,
    source: TrainingSource,
    held_out: Probe,
    *,
    batch_size: int,
    seed: int,
    failures: Failures,
    indices: list[int] | None = None,
) -> Probe:
    """Take as many training samples as there are held-out ones, the classes in proportion.

    Args:
        trainer: A Trainer whose training is about to start.
        pl_module: Its module.
        source: What the user asked for; ``None`` means ``training_probe_dataloader()`` of the
            datamodule where there is one, else the training data, with the validation data's
            transform where it has one that can be replaced.
        held_out: The held-out samples.
        batch_size: Number of samples in a batch.
        seed: Seed of the choice.
        failures: Says what there is to say.
        indices: Samples taken before, to be taken again.

    Raises:
        UnmeasurableError: If the training data is a stream.
    """
    with undisturbed(pl_module, seed=seed), evaluation_stage(trainer):
        loader, name = _training_loader(trainer, source)
        if not has_indexed_samples(loader):
            raise UnmeasurableError(
                f"samples of the {name} cannot be chosen by an index: pass training_probe=… (a "
                "data set or (images, labels) of training samples as evaluation sees them)"
            )
        pool, collate = sample_pool(loader), loader.collate_fn
        dataset = read_apart(loader.dataset, name)
        loaders = validation_loaders(trainer)
        validation = None if loaders is None else first_loader(loaders)
        if name == _TRAINING_DATA and has_indexed_samples(validation):
            collate = validation.collate_fn  # training's may mix images
            dataset = as_evaluated(dataset, read_apart(validation.dataset, "validation data"))
        if draws_at_random(dataset, seed) and not (
            has_indexed_samples(validation)
            and draws_at_random(read_apart(validation.dataset, "validation data"), seed)
        ):
            failures.warn(
                "augmentation",
                "measures memorization on training images that are changed at random: the network "
                "has memorized less of such images than of the images themselves, and the numbers "
                "are too low. Pass training_probe=… (a data set of training images, prepared as "
                "those of validation are)",
            )
        if name == _TRAINING_DATA and limits_training(trainer):
            failures.warn(
                "limit",
                "takes its training images from all of the training data, although the Trainer "
                "trains on a part of it (limit_train_batches, overfit_batches): nothing is "
                "memorized of the others. Pass training_probe=… (images that it trains on)",
            )
        counts, known = class_counts(held_out), dataset_labels(dataset)
        if indices is not None and not set(indices) <= set(pool):
            indices = None
        # Always exchanged: the pools of processes may differ.
        indices = first_process_outcome(
            trainer, lambda: indices or choose_like(pool, known, counts, held_out.n_samples, seed)
        )
        taken = batches_of(Subset(dataset, indices), collate, batch_size)
    return Probe(*taken, len(indices), name, indices, len(dataset), is_training_data=True)


def _training_loader(trainer: Trainer, source: TrainingSource) -> tuple[Any, str]:
    """Return the loader to take training samples from, and what it is in words."""
    if isinstance(source, tuple):
        return DataLoader(TensorDataset(*source)), "training_probe="
    if isinstance(source, Dataset):
        return DataLoader(source), "training_probe="
    if source is not None:
        return source, "training_probe="
    datamodule: Any = getattr(trainer, "datamodule", None)
    if hasattr(datamodule, "training_probe_dataloader"):
        loader = datamodule.training_probe_dataloader()
        if loader is not None:
            return loader, f"{type(datamodule).__name__}.training_probe_dataloader()"
    return first_loader(trainer.train_dataloader), _TRAINING_DATA


def _covered(labels: Tensor) -> float:
    """Return which share of samples are of classes that can be decoded."""
    counts = labels[labels >= 0].bincount()
    return float(counts[counts >= 2 * FEWEST_IN_HALF].sum()) / max(len(labels), 1)


def class_counts(samples: Probe) -> Counter[Any]:
    """Return the number of samples by class; empty where classes are not known."""
    labels = labels_of(samples)
    return Counter() if labels is None else Counter(labels.tolist())


def _classes_for(labels: np.ndarray[Any, Any], size: int, seed: int) -> Counter[Any]:
    """Return how many samples of which classes make a probe that can be decoded."""
    values, counts = np.unique(labels, return_counts=True)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed)).tolist()
    fit = [values[at].item() for at in order if counts[at] >= 2 * FEWEST_IN_HALF]
    return Counter(dict.fromkeys(fit[: max(2, size // _OF_A_CLASS)], _OF_A_CLASS))
