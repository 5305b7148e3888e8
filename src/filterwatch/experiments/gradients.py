"""How large the gradient of each single sample is (paper, section 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

# Per-sample gradients held at once, as a number of elements: bounds the memory.
_ELEMENTS = 2**26


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
