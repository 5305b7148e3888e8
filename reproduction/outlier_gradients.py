"""Experiment 2: do outlier samples have larger gradients (paper, section 4.2)?"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from filterwatch import AnomalyCriteria
from reproduction.kept_probes import Configuration, probe_images
from reproduction.options import Options
from reproduction.result_files import ResultFile
from reproduction.trained_cells import Reading, TrainedCell, measured_cells

# Table 3 of the paper: ((outlier, normal) well-trained, (outlier, normal) overfitting).
PAPER_TABLE_3 = {
    "simple_cnn": {
        "cifar10": ((0.063, 0.022), (0.283, 0.065)),
        "cifar100": ((0.068, 0.019), (0.384, 0.161)),
    },
    "alexnet": {
        "cifar10": ((0.005, 0.001), (0.013, 0.003)),
        "cifar100": ((0.010, 0.002), (0.052, 0.009)),
    },
    "lenet5": {
        "cifar10": ((0.455, 0.048), (2.758, 0.221)),
        "cifar100": ((0.149, 0.033), (0.261, 0.161)),
    },
}
PROBE_SIZE = 3000
SOURCES = ("train", "held_out")
# Per-sample gradients held at once, as a number of elements: bounds the memory.
_ELEMENTS = 2**26


def table3(options: Options) -> None:
    """Compare gradients of outlier and normal samples, lambda = 5 and no other criterion."""
    result = ResultFile(options, "table3", "Mean gradients of the samples on different models")
    cells = measured_cells(options, _both_states)
    result.write({"probe_size": PROBE_SIZE, "cells": cells, "paper": PAPER_TABLE_3})


def _both_states(trained: TrainedCell) -> dict[str, Any]:
    states = {"well_trained": trained.well_trained, "overfit": trained.last}
    return {
        state: {
            "epoch": epoch,
            **{source: _compare(trained, epoch, source) for source in SOURCES},
        }
        for state, epoch in states.items()
    }


def _compare(trained: TrainedCell, epoch: int, source: str) -> dict[str, Any]:
    configuration = Configuration(probe_size=PROBE_SIZE, source=source)
    reading = Reading("Table 1's row 2", configuration, AnomalyCriteria.paper(2))
    isolated = trained.verdict(epoch, reading).isolated
    images, labels = probe_images(trained.datamodule, configuration)
    device = trained.session.options.device
    gradients = mean_absolute_gradients(
        trained.network(epoch), images.to(device), labels.to(device)
    ).cpu()
    return compare_gradients(gradients, sorted(isolated))


def compare_gradients(gradients: Tensor, outliers: list[int]) -> dict[str, Any]:
    """Return the mean gradient of outlier samples, that of the others, and their ratio.

    Args:
        gradients: One number a sample, [N].
        outliers: The outlier samples.

    Returns:
        ``n_samples``, ``n_outliers``, ``outlier``, ``normal``, ``ratio``; the share of normal
        samples with a smaller gradient than an outlier's, averaged (``rank``: 0.5 is no
        difference); NaN without outliers.
    """
    is_outlier = torch.zeros(len(gradients), dtype=torch.bool)
    is_outlier[outliers] = True
    outlier, normal = gradients[is_outlier], gradients[~is_outlier]
    order = normal.sort().values
    below = torch.searchsorted(order, outlier).double()
    at_most = torch.searchsorted(order, outlier, right=True).double()
    return {
        "n_samples": len(gradients),
        "n_outliers": len(outlier),
        "outlier": float(outlier.mean()),
        "normal": float(normal.mean()),
        "ratio": float(outlier.mean() / normal.mean()),
        "rank": float(((below + at_most) / 2 / max(len(normal), 1)).mean()),
    }


def mean_absolute_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, *, chunk_size: int | None = None
) -> Tensor:
    """Return each sample's mean absolute gradient per layer, averaged over the layers.

    A layer is a module with parameters of its own; its mean runs over all of them, bias included.
    The gradient is that of the sample's own cross entropy, in evaluation mode.

    Args:
        network: From images to logits; only read.
        images: [N, C, H, W].
        labels: [N].
        chunk_size: Samples differentiated at once. Default: what 256 MiB of gradients allow, at
            most 64.

    Returns:
        float64 [N].
    """
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    buffers = {name: value.detach() for name, value in network.named_buffers()}
    layers: dict[str, list[str]] = {}
    for name in parameters:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    sizes = {
        layer: sum(parameters[name].numel() for name in names) for layer, names in layers.items()
    }
    if chunk_size is None:
        chunk_size = max(1, min(64, _ELEMENTS // sum(sizes.values())))

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, (values, buffers), (image.unsqueeze(0),))
        return F.cross_entropy(logits, label.unsqueeze(0))

    def magnitude(image: Tensor, label: Tensor) -> Tensor:
        gradients = grad(loss)(parameters, image, label)
        means = [
            torch.stack([gradients[name].abs().sum() for name in names]).sum() / sizes[layer]
            for layer, names in layers.items()
        ]
        return torch.stack(means).mean()

    training = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        parts = [
            vmap(magnitude)(*chunk)
            for chunk in zip(images.split(chunk_size), labels.split(chunk_size), strict=True)
        ]
    finally:
        for module, flag in training:
            module.training = flag
    return torch.cat(parts).double()
