"""Reading and writing single channels of a model's parameters and buffers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from filterwatch.observing import eager_name

# One entry along the first dimension of a parameter or buffer, by name.
Slot = tuple[str, int]


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers by the names they have when nothing is compiled."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {eager_name(name): tensor for name, tensor in tensors}


def read(tensors: Mapping[str, Tensor], slots: Iterable[Slot]) -> dict[Slot, Tensor]:
    """Return copies of what is in some slots."""
    return {(name, index): tensors[name].detach()[index].clone() for name, index in slots}


@torch.no_grad()
def write(tensors: Mapping[str, Tensor], values: Mapping[Slot, Tensor]) -> None:
    """Put values, as `read` returned them, into their slots."""
    for (name, index), value in values.items():
        tensors[name][index] = value


@torch.no_grad()
def clear(tensors: Mapping[str, Tensor], slots: Iterable[Slot]) -> None:
    """Set slots to zero."""
    for name, index in slots:
        tensors[name][index] = 0


class ClearedSlots:
    """Slots to set to zero again and again, at the cost of one operation a tensor.

    Args:
        tensors: The model's tensors.
        slots: The slots; those of buffers are passed over.
    """

    def __init__(self, tensors: Mapping[str, Tensor], slots: Iterable[Slot]) -> None:
        indices: dict[str, list[int]] = defaultdict(list)
        for name, index in slots:
            if isinstance(tensors[name], nn.Parameter):
                indices[name].append(index)
        self._entries = [
            (tensors[name], torch.tensor(sorted(chosen), device=tensors[name].device))
            for name, chosen in indices.items()
        ]

    @torch.no_grad()
    def clear_values(self, parameters: Iterable[Tensor]) -> None:
        """Set the slots of some parameters to zero."""
        wanted = {id(parameter) for parameter in parameters}
        for tensor, indices in self._entries:
            if id(tensor) in wanted:
                tensor.index_fill_(0, indices, 0)

    @torch.no_grad()
    def clear_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Set the gradients of the slots of some parameters to zero."""
        wanted = {id(parameter) for parameter in parameters}
        for tensor, indices in self._entries:
            if id(tensor) in wanted and tensor.grad is not None:
                tensor.grad.index_fill_(0, indices, 0)
