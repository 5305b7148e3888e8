"""The null: values over standard errors where nothing can have been memorized."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import torch

from filterwatch.memorization import MemorizationReport
from reproduction.cells import Cell
from reproduction.memorization_features import Features, chosen, measured
from reproduction.networks import build
from reproduction.trained_cells import TrainedCell

# Of each set; those of the callback's defaults.
N_SAMPLES = 1000
# How many training and held-out images an untrained network is shown that is slow to run.
N_IMAGES = 2000

# One list of ratios, a row of the report each, for every draw.
Draws = list[list[float]]


def held_out_draws(features: Features, n_draws: int, first_seed: int) -> Draws:
    """Draw two sets of held-out images, and measure one of them against the other.

    Args:
        features: Of a network, trained or not.
        n_draws: How often.
        first_seed: Seed of the first draw; another one a network, as many share their images.
    """
    labels = features.held_out.labels
    assert labels is not None
    draws = []
    for seed in range(first_seed, first_seed + n_draws):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        size = min(N_SAMPLES, len(order) // 2)
        here, there = (
            chosen(features.held_out, part) for part in (order[:size], order[size : 2 * size])
        )
        draws.append(_ratios(measured(features.layers, here, there, seed=seed)))
    return draws


def untrained_draws(features: Features, n_draws: int, first_seed: int) -> Draws:
    """Draw training and held-out images, and measure the former against the latter.

    Args:
        features: Of an untrained network.
        n_draws: How often.
        first_seed: Seed of the first draw.
    """
    draws = []
    for seed in range(first_seed, first_seed + n_draws):
        generator = torch.Generator().manual_seed(seed)
        here, there = (
            chosen(part, torch.randperm(_length(part), generator=generator)[:N_SAMPLES])
            for part in (features.training, features.held_out)
        )
        draws.append(_ratios(measured(features.layers, here, there, seed=seed)))
    return draws


def untrained_network_draws(trained: TrainedCell, name: str, n_draws: int) -> Draws:
    """Draw training and held-out images of a run for an untrained network of another kind."""
    cell = trained.cell
    datamodule = trained.session.images(cell.dataset).divided(
        Cell(name, cell.dataset, seed=cell.seed, train_size=cell.train_size)
    )
    datamodule.setup("fit")
    torch.manual_seed(cell.seed)
    network = build(name, datamodule.num_classes, datamodule.in_channels, datamodule.image_size)
    features = Features.of_network(
        network.eval(), datamodule, n_training=N_IMAGES, n_held_out=N_IMAGES
    )
    return untrained_draws(features, n_draws, first_seed=0)


def summarized(draws: Mapping[tuple[str, str], Draws]) -> list[dict[str, Any]]:
    """Return one row for each network and state, and one for all together.

    Args:
        draws: Network and state to what was drawn.

    Returns:
        ``draws``, ``ratios`` (how many), their ``mean`` and ``std``, and ``beyond_three``, the
        share of ratios beyond three.
    """
    groups = [
        *draws.items(),
        (("all", "everything"), [draw for each in draws.values() for draw in each]),
    ]
    rows = []
    for (model, state), those in groups:
        ratios = [ratio for draw in those for ratio in draw]
        if ratios:
            rows.append(
                {
                    "model": model,
                    "state": state,
                    "draws": len(those),
                    "ratios": len(ratios),
                    "mean": statistics.fmean(ratios),
                    "std": statistics.pstdev(ratios),
                    "beyond_three": sum(abs(ratio) > 3 for ratio in ratios) / len(ratios),
                }
            )
    return rows


def _ratios(report: MemorizationReport) -> list[float]:
    ratios = [row.value / row.standard_error for row in report.layers.values()]
    return [ratio for ratio in ratios if math.isfinite(ratio)]


def _length(features: Any) -> int:
    return len(features.labels)
