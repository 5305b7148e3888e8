"""Experiment 3: does masking anomaly filters help generalisation (paper, section 4.3)?

Filters are flagged on the probe, which is held out; accuracies are those on training images and on
the test images, which nothing was selected with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from filterwatch import AnomalyCriteria, mask_filters
from filterwatch.datamodules import ImageDataset, seeded_generator
from reproduction.cell_training import evaluate, read_batch, unaugmented
from reproduction.kept_probes import Configuration, probe_images
from reproduction.options import Options
from reproduction.result_files import ResultFile, spread
from reproduction.run_folder import write_json
from reproduction.trained_cells import Reading, TrainedCell, measured_cells

# Table 4 of the paper: (lowers training accuracy, raises validation accuracy, of how many).
PAPER_TABLE_4 = {
    "simple_cnn": {"cifar10": (3, 2, 4), "cifar100": (10, 8, 10)},
    "alexnet": {"cifar10": (5, 5, 7), "cifar100": (13, 12, 19)},
    "lenet5": {"cifar10": (3, 1, 3), "cifar100": (1, 0, 1)},
}
# Table 5 of the paper: change of validation accuracy in percent (anomaly filter, normal filter).
PAPER_TABLE_5 = {
    "simple_cnn": {"cifar10": (0.03, -1.19), "cifar100": (-0.31, -1.12)},
    "alexnet": {"cifar10": (0.01, -0.87), "cifar100": (0.00, -0.50)},
    "lenet5": {"cifar10": (-1.81, -3.86), "cifar100": (-1.70, -7.32)},
}
# Table 6 of the paper, a simple CNN on CIFAR-100: outlier samples by (right before, right after).
PAPER_TABLE_6 = {"kept_right": 26, "became_right": 16, "became_wrong": 30, "stayed_wrong": 107}

READING = Reading(
    "the paper's row 3, λ = 50 of 1,000 held-out images", Configuration(), AnomalyCriteria.paper(3)
)
Filter: TypeAlias = tuple[str, int]
_TRAINING_IMAGES = 4000
_MOST_FILTERS = 48  # flagged filters masked one by one, drawn at random where there are more
_RANDOM_DRAWS = 5


def table4(options: Options) -> None:
    """Mask single filters: how many lower training accuracy, how many raise test accuracy."""
    result = ResultFile(
        options, "table4", "Single-filter masking: training accuracy down, test accuracy up"
    )
    cells = measured_cells(options, lambda trained: _by_kind(trained, proportions))
    result.write({"reading": READING.title, "cells": cells, "paper": PAPER_TABLE_4})


def table5(options: Options) -> None:
    """Mask single filters: the mean change of test accuracy, against random live filters."""
    result = ResultFile(options, "table5", "The accuracy change when a single filter is masked")
    cells = measured_cells(options, lambda trained: _by_kind(trained, _changes))
    result.write({"reading": READING.title, "cells": cells, "paper": PAPER_TABLE_5})


def table6(options: Options) -> None:
    """Mask all anomaly filters at once: what becomes of the outlier samples' predictions."""
    result = ResultFile(
        options, "table6", "Predictions of outlier samples before and after masking"
    )

    def measure(trained: TrainedCell) -> dict[str, Any]:
        masked = {source: _mask_all(trained, source) for source in ("held_out", "train")}
        return {"epoch": trained.last, **masked}

    cells = measured_cells(options, measure)
    result.write({"reading": READING.title, "cells": cells, "paper": PAPER_TABLE_6})


def _by_kind(
    trained: TrainedCell, of: Callable[[list[dict[str, Any]]], dict[str, Any]]
) -> dict[str, Any]:
    """Apply a function to what masking each anomaly filter did, and each random one."""
    masked = single_masks(trained)
    kinds = {
        kind: of([entry for entry in masked if entry["kind"] == kind])
        for kind in ("anomaly", "random")
    }
    return {"epoch": trained.last, **kinds}


def _changes(masked: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        part: spread([entry[f"{part}_change"] for entry in masked]) for part in ("test", "train")
    }


def proportions(masked: list[dict[str, Any]]) -> dict[str, int]:
    """Count the filters whose masking lowers training accuracy, raises test accuracy, or both."""
    lowers = [entry["train_change"] < 0 for entry in masked]
    raises = [entry["test_change"] > 0 for entry in masked]
    return {
        "filters": len(masked),
        "train_down": sum(lowers),
        "test_up": sum(raises),
        "both": sum(down and up for down, up in zip(lowers, raises, strict=True)),
    }


def single_masks(trained: TrainedCell) -> list[dict[str, Any]]:
    """Mask anomaly filters of the last epoch one by one, and random live filters likewise.

    Returns:
        One entry a filter: ``kind`` (``"anomaly"`` or ``"random"``), ``layer``, ``channel``,
        ``train_change`` and ``test_change`` of the accuracy, as fractions. Kept on disk.
    """
    key = READING.configuration.clusters_key()
    path = trained.folder.path / "masking" / key / f"{trained.last}.json"
    if path.exists():
        kept: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    network = trained.network(trained.last).to(memory_format=torch.channels_last)
    images = _evaluation_images(trained)
    before = _accuracies(network, images, trained)
    flagged, controls = choose_filters(trained, READING)
    sample, _ = read_batch(images["test"], torch.arange(2))
    entries = []
    for kind, filters in (("anomaly", flagged), ("random", controls)):
        for layer, channel in filters:
            with mask_filters(network, [(layer, channel)], images=sample):
                after = _accuracies(network, images, trained)
            changes = {f"{name}_change": after[name] - before[name] for name in before}
            entries.append({"kind": kind, "layer": layer, "channel": channel, **changes})
    write_json(path, entries)
    return entries


def choose_filters(trained: TrainedCell, reading: Reading) -> tuple[list[Filter], list[Filter]]:
    """Return the flagged filters of the last epoch, and random live ones of the same layers.

    There are two random filters for each flagged one of a layer, or as many as there are.
    """
    flagged = trained.verdict(trained.last, reading).sources
    generator = seeded_generator(trained.cell.seed, trained.last)
    order = torch.randperm(len(flagged), generator=generator)[:_MOST_FILTERS]
    chosen = [flagged[index] for index in sorted(order.tolist())]
    controls = draw_controls(
        live_filters(trained, reading), flagged, Counter(layer for layer, _ in chosen), 2, generator
    )
    return chosen, controls


def draw_controls(
    live: list[Filter],
    flagged: list[Filter],
    wanted: Counter[str],
    factor: int,
    generator: torch.Generator,
) -> list[Filter]:
    """Draw live filters that are not flagged, ``factor`` for each that is wanted of a layer."""
    controls: list[Filter] = []
    for layer, number in wanted.items():
        candidates = [one for one in live if one[0] == layer and one not in flagged]
        order = torch.randperm(len(candidates), generator=generator)[: factor * number]
        controls += [candidates[index] for index in order.tolist()]
    return controls


def live_filters(trained: TrainedCell, reading: Reading) -> list[Filter]:
    """Return the filters of the last epoch that none of their maps shows dead."""
    report = trained.probed(trained.last, reading.configuration).report
    alive: dict[Filter, bool] = {}
    for layer in report.layers.values():
        dead = torch.isnan(layer.ch_index).tolist()
        for source, is_dead in zip(layer.sources, dead, strict=True):
            if source is not None:
                alive[source] = alive.get(source, True) and not is_dead
    return [source for source, is_alive in alive.items() if is_alive]


def confusion(before: Tensor, after: Tensor) -> dict[str, int]:
    """Count samples by whether they were right before and are right after, as Table 6 does."""
    return {
        "kept_right": int((before & after).sum()),
        "became_right": int((~before & after).sum()),
        "became_wrong": int((before & ~after).sum()),
        "stayed_wrong": int((~before & ~after).sum()),
    }


def _mask_all(trained: TrainedCell, source: str) -> dict[str, Any]:
    configuration = Configuration(source=source)
    reading = Reading(READING.title, configuration, READING.criteria)
    verdict = trained.verdict(trained.last, reading)
    images, labels = probe_images(trained.datamodule, configuration)
    network = trained.network(trained.last)
    device = trained.session.options.device
    is_outlier = torch.zeros(len(labels), dtype=torch.bool)
    is_outlier[sorted(verdict.outliers)] = True
    before = _is_right(network, images, labels, device)
    with mask_filters(network, verdict.sources, images=images[:2]):
        after = _is_right(network, images, labels, device)
    generator = seeded_generator(trained.cell.seed, trained.last)
    live = live_filters(trained, reading)
    wanted = Counter(layer for layer, _ in verdict.sources)
    controls = []
    for _ in range(_RANDOM_DRAWS):
        drawn = draw_controls(live, verdict.sources, wanted, 1, generator)
        with mask_filters(network, drawn, images=images[:2]):
            right = _is_right(network, images, labels, device)
        controls.append(confusion(before[is_outlier], right[is_outlier]))
    return {
        "masked": len(verdict.sources),
        "outliers": confusion(before[is_outlier], after[is_outlier]),
        "others": confusion(before[~is_outlier], after[~is_outlier]),
        "outliers_random_masks": controls,
    }


@torch.no_grad()
def _is_right(network: nn.Module, images: Tensor, labels: Tensor, device: str) -> Tensor:
    parts = [network(part.to(device)).argmax(1).cpu() for part in images.split(256)]
    return torch.cat(parts) == labels


def _evaluation_images(trained: TrainedCell) -> dict[str, ImageDataset]:
    trained.datamodule.setup("test")
    train = unaugmented(trained.datamodule.train_dataset)
    first = torch.arange(min(_TRAINING_IMAGES, len(train)))
    return {"train": train.select(first), "test": trained.datamodule.test_dataset}


def _accuracies(
    network: nn.Module, images: dict[str, ImageDataset], trained: TrainedCell
) -> dict[str, float]:
    device = trained.session.options.device
    return {name: evaluate(network, dataset, device=device)[1] for name, dataset in images.items()}
