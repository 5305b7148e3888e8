"""Probed points and their clusterings on disk, by weights, configuration and the engine's code."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from filterwatch.datamodules import ImageDataModule
from filterwatch.detection.detect import detect_anomaly_filters
from filterwatch.detection.reduction import PCA
from filterwatch.experiments.maps import Maps, from_plain, probe_maps, to_plain
from filterwatch.experiments.runs import RunFolder
from filterwatch.experiments.training import read_batch, unaugmented
from filterwatch.experiments.verdicts import Clusters, LayerClusters, cluster_maps
from filterwatch.models import build_network

_DEFAULTS: dict[str, Any] = dict(detect_anomaly_filters.__kwdefaults__ or {})
_POINTS_CODE = (
    *("capture", "operators", "components", "provenance", "reduction", "streaming"),
    "kernels/power_iteration",
)
_CLUSTERING_CODE = ("cluster", "kernels/kmeans", "kernels/mixture")


@dataclass(frozen=True)
class Configuration:
    """How a network is probed; the thresholds of the criteria come on top.

    Attributes:
        probe_size: Number of samples; fewer where there are fewer.
        draw: Which of the disjoint draws of that size to take.
        source: ``"held_out"`` or ``"train"``, then without augmentation.
        max_clusters: Largest number of clusters tried.
        pca: ``"filter"`` or ``"layer"``.
        seed: Sets clusterings apart by name only: nothing in them is drawn at random.
    """

    probe_size: int = 1000
    draw: int = 0
    source: str = "held_out"
    max_clusters: int = _DEFAULTS["max_clusters"]
    pca: PCA = _DEFAULTS["pca"]
    seed: int = 0

    def points_key(self) -> str:
        """Name what decides the points."""
        key = [self.probe_size, self.draw, self.source, self.pca, code_version(_POINTS_CODE)]
        return "-".join(map(str, key))

    def clusters_key(self) -> str:
        """Name what decides the clusterings."""
        key = [self.points_key(), self.max_clusters, self.seed, code_version(_CLUSTERING_CODE)]
        return "-".join(map(str, key))


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
    maps = _maps(folder, epoch, datamodule, configuration, device)
    path = folder.path / "clusters" / configuration.clusters_key() / f"{epoch}.pt"
    if path.exists():
        plain = torch.load(path, weights_only=True)
        return maps, {name: LayerClusters(**layer) for name, layer in plain.items()}
    clusters = cluster_maps(maps, max_clusters=configuration.max_clusters)
    _write(path, {name: dict(vars(layer)) for name, layer in clusters.items()})
    return maps, clusters


def _maps(
    folder: RunFolder,
    epoch: int,
    datamodule: Callable[[], ImageDataModule],
    configuration: Configuration,
    device: str,
) -> Maps:
    path = folder.path / "points" / configuration.points_key() / f"{epoch}.pt"
    if path.exists():
        return from_plain(torch.load(path, weights_only=True))
    data = datamodule()
    images, _ = probe_images(data, configuration)
    network = load_network(folder, epoch, data).to(device)
    maps = probe_maps(network, images, pca=configuration.pca)
    _write(path, to_plain(maps))
    return maps


def _write(path: Any, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    partial.replace(path)


@cache
def code_version(modules: tuple[str, ...]) -> str:
    """Return a fingerprint of detection modules that changes with their code, not their text."""
    digest = hashlib.sha256()
    for module in modules:
        source = (files("filterwatch.detection") / f"{module}.py").read_text(encoding="utf-8")
        digest.update(ast.dump(_without_docstrings(ast.parse(source))).encode())
    return digest.hexdigest()[:8]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                part
                for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return tree
