"""Training samples against held-out ones, class by class, with a standard error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from filterwatch._words import first_few
from filterwatch.memorization.decoder import FEWEST_IN_HALF
from filterwatch.memorization.evidence import UnmeasurableError


@dataclass(frozen=True)
class Contrast:
    """Which samples two sets are compared by, class by class.

    Attributes:
        training: Which training samples are measured, bool [N].
        held_out: Which held-out samples are, bool [M].
        left_out: Class to the reason why its samples are not.
    """

    training: Tensor
    held_out: Tensor
    left_out: dict[int, str]
    _training_class: Tensor  # place of its class among the measured ones, [n]
    _held_out_class: Tensor
    _n: int  # of classes

    @classmethod
    def of(cls, training_labels: Tensor, held_out_labels: Tensor, decoded: Tensor) -> Contrast:
        """Take the classes that both sets have, and that are decoded.

        Raises:
            UnmeasurableError: If there is none.
        """
        here, there = set(training_labels.tolist()), set(held_out_labels.tolist())
        common = torch.tensor(sorted(here & set(decoded.tolist())), dtype=torch.int64)
        left_out = {}
        for label in sorted((here | there) - set(common.tolist())):
            if label < 0:
                left_out[label] = "not a class"
            elif label not in there:
                left_out[label] = "no held-out samples"
            elif label not in here:
                left_out[label] = "no training samples"
            else:
                left_out[label] = f"fewer than {2 * FEWEST_IN_HALF} held-out samples"
        if not len(common):
            raise UnmeasurableError(
                f"no class of the training samples ({_few_of(here)}) has {2 * FEWEST_IN_HALF} "
                f"held-out samples (there are classes {_few_of(there)}): pass samples of the same "
                "classes, numbered alike"
            )
        training = torch.isin(training_labels, common)
        held_out = torch.isin(held_out_labels, common)
        return cls(
            training,
            held_out,
            left_out,
            torch.searchsorted(common, training_labels[training]),
            torch.searchsorted(common, held_out_labels[held_out]),
            len(common),
        )

    def difference(self, training: Tensor, held_out: Tensor) -> tuple[float, float]:
        """Return the mean of values [N] less that of values [M], and its standard error.

        NaN among the training samples' values is not counted. With one sample of each class there
        is no error to be had: it is NaN.

        Held-out classes weigh as much as they do among the training samples, so that another mix of
        classes makes no difference; the error is that of samples about the means of their classes.
        """
        here, there = training[self.training].double(), held_out[self.held_out].double()
        known = ~here.isnan()
        counts, means, variance = _by_class(here[known], self._training_class[known], self._n)
        other_counts, other_means, other_variance = _by_class(there, self._held_out_class, self._n)
        weights = counts / counts.sum()
        squared = variance / counts.sum() + other_variance * (weights.square() / other_counts).sum()
        return float((weights * (means - other_means)).sum()), float(squared.sqrt())


def _by_class(values: Tensor, member: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return count and mean of each of n classes, and the variance within classes."""
    counts = member.bincount(minlength=n).double()
    means = torch.zeros_like(counts).index_add_(0, member, values) / counts.clamp(min=1)
    squares = (values - means[member]).square().sum()
    freedom = len(values) - int((counts > 0).sum())
    return counts, means, squares / freedom  # NaN without any


def _few_of(labels: set[int]) -> str:
    return first_few([str(label) for label in sorted(labels)], 6)
