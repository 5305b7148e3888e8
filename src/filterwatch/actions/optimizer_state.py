"""Taking a filter's share of an optimizer's state out, and putting it back.

Adam's moments and a momentum buffer have one value for each value of a parameter, so they can be
given back for one filter. What is one number a parameter (Adam's number of steps) cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer

from filterwatch.actions.tensors import Slot

# Parameter name, index, and the name of the optimizer's value.
StateSlot = tuple[str, int, str]


def read_state(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], slots: Iterable[Slot]
) -> dict[StateSlot, Tensor]:
    """Return copies of the elementwise state that belongs to some slots."""
    return {
        (name, index, key): value[index].clone()
        for name, index, key, value in _elementwise(optimizer, tensors, slots)
    }


@torch.no_grad()
def write_state(
    optimizer: Optimizer,
    tensors: Mapping[str, Tensor],
    slots: Iterable[Slot],
    values: Mapping[StateSlot, Tensor],
) -> None:
    """Put back what `read_state` returned; what did not exist then starts anew, from zero."""
    for name, index, key, value in _elementwise(optimizer, tensors, slots):
        value[index] = values.get((name, index, key), 0)


def _elementwise(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], slots: Iterable[Slot]
) -> Iterator[tuple[str, int, str, Tensor]]:
    for name, index in slots:
        state = optimizer.state.get(tensors[name], {})
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == tensors[name].shape:
                yield name, index, key, value
