"""Probed points and their clusterings on disk, by weights, configuration and the engine's code."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import filterwatch
from filterwatch.datamodules import ImageDataModule
from filterwatch.detection import PCA, Clusterings, Reduced
from filterwatch.observing import Layer
from reproduction.cell_training import read_batch, unaugmented
from reproduction.networks import build
from reproduction.points_and_verdicts import (
    LayerPoints,
    MapStatistics,
    Probed,
    cluster,
    probe_points,
    report_on,
)
from reproduction.run_folder import RunFolder, write_tensors

_DEFAULTS: dict[str, Any] = dict(filterwatch.detect_anomaly_filters.__kwdefaults__ or {})
# Where the code lies that decides points and clusterings.
_ENGINE = ("detection", "observing")


@dataclass(frozen=True)
class Configuration:
    """How a network is probed; the thresholds of the criteria come on top.

    Attributes:
        probe_size: Number of samples; fewer where there are fewer.
        draw: Which of the disjoint draws of that size to take.
        source: ``"held_out"`` or ``"train"``, then without augmentation.
        max_clusters: Largest number of clusters tried.
        pca: ``"filter"`` or ``"layer"``.
    """

    probe_size: int = 1000
    draw: int = 0
    source: str = "held_out"
    max_clusters: int = _DEFAULTS["max_clusters"]
    pca: PCA = _DEFAULTS["pca"]

    def points_key(self) -> str:
        """Name what decides the points."""
        key = [self.probe_size, self.draw, self.source, self.pca, code_version()]
        return "-".join(map(str, key))

    def clusters_key(self) -> str:
        """Name what decides the clusterings."""
        return f"{self.points_key()}-{self.max_clusters}"


def probe_images(
    datamodule: ImageDataModule, configuration: Configuration
) -> tuple[Tensor, Tensor]:
    """Return a probe's images [N, C, H, W] and labels [N].

    Raises:
        ValueError: If there are not enough images for that draw.
    """
    datamodule.setup("fit")
    if configuration.source == "train":
        dataset = unaugmented(datamodule.train_dataset)
    else:
        dataset = datamodule.probe_dataset
    size = min(configuration.probe_size, len(dataset))
    stop = size * (configuration.draw + 1)
    if stop > len(dataset):
        raise ValueError(
            f"draw {configuration.draw} of {size} samples needs {stop} images and there are "
            f"{len(dataset)}: take a smaller probe"
        )
    return read_batch(dataset, torch.arange(stop - size, stop))


def load_network(folder: RunFolder, epoch: int, datamodule: ImageDataModule) -> torch.nn.Module:
    """Return a run's network with the weights of an epoch (-1: untrained), in evaluation mode."""
    settings = folder.settings() or {}
    network = build(
        settings["model"], datamodule.num_classes, datamodule.in_channels, datamodule.image_size
    )
    network.load_state_dict(folder.weights(epoch))
    return network.eval()


def probed(
    folder: RunFolder,
    epoch: int,
    datamodule: Callable[[], ImageDataModule],
    configuration: Configuration,
    *,
    device: str = "cpu",
) -> Probed:
    """Return what a probe of a network finds, with points and clusterings from disk if there.

    Args:
        folder: The run.
        epoch: Which of its weights.
        datamodule: Called for the run's images where the points are not on disk.
        configuration: How to probe.
        device: Where the network runs.
    """
    path = folder.path / "probed" / configuration.points_key() / f"{epoch}.pt"
    kept = _read(path)
    if kept is not None:
        points = {name: _points_of(plain) for name, plain in kept.items()}
    else:
        data = datamodule()
        images, _ = probe_images(data, configuration)
        network = load_network(folder, epoch, data).to(device)
        points = probe_points(network, images, pca=configuration.pca)
        write_tensors(path, {name: _plain(found) for name, found in points.items()})

    path = folder.path / "clusterings" / configuration.clusters_key() / f"{epoch}.pt"
    kept = _read(path)
    if kept is not None:
        clusterings = {name: _clusterings_of(plain) for name, plain in kept.items()}
    else:
        clusterings = cluster(points, max_clusters=configuration.max_clusters)
        # Labels are most of the data, and small numbers.
        write_tensors(
            path,
            {
                name: {**vars(found), "labels": found.labels.to(torch.int8)}
                for name, found in clusterings.items()
            },
        )
    return report_on(points, clusterings)


def _read(path: Path) -> dict[str, Any] | None:
    """Read what was kept of each layer, if anything was."""
    if not path.exists():
        return None
    kept: dict[str, Any] = torch.load(path, weights_only=True)
    return kept


def _plain(found: LayerPoints) -> dict[str, Any]:
    """Return a layer's points as what ``torch.load(weights_only=True)`` reads."""
    return {
        "layer": dict(vars(found.layer)),
        "reduced": found.reduced._asdict(),
        "statistics": dict(vars(found.statistics)),
    }


def _points_of(plain: dict[str, Any]) -> LayerPoints:
    return LayerPoints(
        Layer(**plain["layer"]), Reduced(**plain["reduced"]), MapStatistics(**plain["statistics"])
    )


def _clusterings_of(plain: dict[str, Any]) -> Clusterings:
    return Clusterings(**{**plain, "labels": plain["labels"].long()})


@cache
def code_version(
    package: Path = Path(filterwatch.__file__).parent, folders: tuple[str, ...] = _ENGINE
) -> str:
    """Return a fingerprint of an engine that changes with its code, not with its text."""
    digest = hashlib.sha256()
    for path in sorted(path for name in folders for path in (package / name).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        digest.update(ast.dump(_without_docstrings(ast.parse(source))).encode())
    return digest.hexdigest()[:8]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                part
                for part in node.body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return tree
