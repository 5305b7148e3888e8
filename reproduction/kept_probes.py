"""Probed points and their clusterings on disk, by weights, configuration and the engine's code."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

import filterwatch
from filterwatch.datamodules import ImageDataModule
from filterwatch.detection import PCA
from filterwatch.models import build_network
from reproduction.cell_training import read_batch, unaugmented
from reproduction.points_and_verdicts import (
    Clusters,
    LayerClusters,
    LayerMaps,
    Maps,
    cluster_maps,
    probe_maps,
)
from reproduction.run_folder import RunFolder, write_tensors

_DEFAULTS: dict[str, Any] = dict(filterwatch.detect_anomaly_filters.__kwdefaults__ or {})
# Where the code lies that decides points and clusterings.
_ENGINE = ("detection", "observing")

T = TypeVar("T", LayerMaps, LayerClusters)


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
    network = build_network(
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
) -> tuple[Maps, Clusters]:
    """Return a network's maps and their clusterings, from disk where they are.

    Args:
        folder: The run.
        epoch: Which of its weights.
        datamodule: Called for the run's images where the maps are not on disk.
        configuration: How to probe.
        device: Where the network runs.
    """

    def points() -> Maps:
        data = datamodule()
        images, _ = probe_images(data, configuration)
        network = load_network(folder, epoch, data).to(device)
        return probe_maps(network, images, pca=configuration.pca)

    path = folder.path / "points" / configuration.points_key() / f"{epoch}.pt"
    maps = _kept(path, LayerMaps, points)
    path = folder.path / "clusters" / configuration.clusters_key() / f"{epoch}.pt"
    cluster = partial(cluster_maps, maps, max_clusters=configuration.max_clusters)
    return maps, _kept(path, LayerClusters, cluster)


def _kept(path: Path, layer_type: type[T], make: Callable[[], dict[str, T]]) -> dict[str, T]:
    """Read layers from a file, or make and write them."""
    if path.exists():
        plain = torch.load(path, weights_only=True)
        return {name: layer_type(**layer) for name, layer in plain.items()}
    found = make()
    write_tensors(path, {name: dict(vars(layer)) for name, layer in found.items()})
    return found


@cache
def code_version(package: Path = Path(filterwatch.__file__).parent) -> str:
    """Return a fingerprint of the engine that changes with its code, not with its text."""
    digest = hashlib.sha256()
    for path in sorted(path for name in _ENGINE for path in (package / name).rglob("*.py")):
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
