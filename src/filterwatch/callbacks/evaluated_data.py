"""A training set as evaluation sees it, read without a trace in the one that training reads."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from filterwatch.memorization import UnmeasurableError
from filterwatch.observing import preserved_random_state

# Samples that are read twice, to see whether a data set draws them at random.
_READ_TWICE = 8


def read_apart(dataset: Any, name: str) -> Any:
    """Return a copy of a data set that shares nothing with it but tensors and arrays.

    Reading it leaves no trace in the original: no file opened before workers are started, no image
    in a cache, no step of a random generator.

    Raises:
        UnmeasurableError: If it cannot be copied.
    """
    try:
        return copy.deepcopy(dataset, {id(array): array for array in _arrays_in(dataset)})
    except Exception as error:
        raise UnmeasurableError(
            f"the data set of the {name} cannot be copied ({type(error).__name__}: {error}), and "
            "reading it might leave traces in training: pass training_probe=… (training samples as "
            "evaluation sees them)"
        ) from error


def as_evaluated(dataset: Any, validation: Any) -> Any:
    """Return a training set with the transform of a validation set, where both have one.

    Looks into ``Subset`` and ``ConcatDataset``. Sets of other classes stay as they are.
    """
    if isinstance(dataset, Subset):
        return Subset(as_evaluated(dataset.dataset, validation), dataset.indices)
    if isinstance(dataset, ConcatDataset):
        return ConcatDataset([as_evaluated(part, validation) for part in dataset.datasets])
    while isinstance(validation, (Subset, ConcatDataset)):
        inner = validation.dataset if isinstance(validation, Subset) else validation.datasets[0]
        validation = inner
    if type(dataset) is not type(validation) or dataset is validation:
        return dataset
    names = [
        name
        for name in ("transform", "transforms")  # torchvision's sets have both
        if hasattr(dataset, name) and hasattr(validation, name)
    ]
    evaluated = copy.copy(dataset) if names else dataset
    try:
        for name in names:
            setattr(evaluated, name, getattr(validation, name))
    except AttributeError:  # it may not be set
        return dataset
    return evaluated


def draws_at_random(dataset: Any, seed: int) -> bool:
    """Return whether images of a data set, from all over it, differ when they are read again."""
    if isinstance(dataset, TensorDataset):
        return False
    for index in range(0, len(dataset), max(1, len(dataset) // _READ_TWICE)):
        read = []
        for again in (0, 1):
            with preserved_random_state((seed + again) % 2**32):
                read.append(_arrays_of(dataset[index]))
        first, second = read
        if len(first) != len(second) or not all(map(_equal, first, second)):
            return True
    return False


def _arrays_in(value: Any, depth: int = 4) -> list[Any]:
    """Return the tensors and arrays in the attributes of a data set and of those that it wraps."""
    if isinstance(value, (Tensor, np.ndarray)):
        return [value]
    if isinstance(value, (list, tuple)) and len(value) < 100:
        parts: Iterable[Any] = value
    else:
        parts = vars(value).values() if depth and hasattr(value, "__dict__") else ()
    return [array for part in parts for array in _arrays_in(part, depth - 1)] if depth else []


def _arrays_of(sample: Any) -> list[Any]:
    return [leaf for leaf in tree_leaves(sample) if isinstance(leaf, (Tensor, np.ndarray))]


def _equal(first: Any, second: Any) -> bool:
    return first.shape == second.shape and bool((first == second).all())
