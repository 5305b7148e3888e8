"""The way it is done today: a loop over scikit-learn's GaussianMixture."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import calinski_harabasz_score
from sklearn.mixture import GaussianMixture
from torch import Tensor


@dataclass(frozen=True)
class LoopResult:
    """What the loop found for C filters and K = 2 … ``max_clusters``.

    Attributes:
        log_likelihood: Mean per sample, [C, max_clusters - 1].
        cluster_sizes: Of the clustering with the highest index, largest first, [C, max_clusters].
        ch_index: That index, [C]; NaN where no clustering has one.
        fit_seconds: Processor time of the fits alone.
    """

    log_likelihood: Tensor
    cluster_sizes: Tensor
    ch_index: Tensor
    fit_seconds: float


def fit_in_a_loop(points: Tensor, max_clusters: int, seed: int, n_starts: int = 1) -> LoopResult:
    """Fit every filter and K by itself, with scikit-learn's defaults.

    Args:
        points: Standardised, so that its absolute ``reg_covar`` means what ours means, [C, N, 2].
        max_clusters: Largest K.
        seed: Its ``random_state``.
        n_starts: Its ``n_init``: of so many fits the most likely one is kept.
    """
    likelihoods = torch.empty(len(points), max_clusters - 1, dtype=torch.float64)
    sizes = torch.zeros(len(points), max_clusters, dtype=torch.int64)
    indices = torch.full((len(points),), torch.nan, dtype=torch.float64)
    spent = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for at, x in enumerate(points.numpy()):
            best = -np.inf
            for n_clusters in range(2, max_clusters + 1):
                started = time.process_time()
                mixture = GaussianMixture(n_clusters, n_init=n_starts, random_state=seed).fit(x)
                spent += time.process_time() - started
                likelihoods[at, n_clusters - 2] = mixture.score(x)
                labels = mixture.predict(x)
                if 1 < len(np.unique(labels)) < len(x):
                    index = calinski_harabasz_score(x, labels)
                    if index > best:
                        best = index
                        counts = torch.from_numpy(labels).bincount(minlength=max_clusters)
                        sizes[at] = counts.sort(descending=True).values
                        indices[at] = index
    return LoopResult(likelihoods, sizes, indices, spent)
