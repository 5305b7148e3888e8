"""`FilterMasks`: the filters of a model that are silenced now, and what they were before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from filterwatch.actions.optimizer_state import StateSlot, read_state, write_state
from filterwatch.actions.tensors import ClearedSlots, Slot, clear, named_tensors, read, write
from filterwatch.actions.wiring import Filter, FilterSlots


@dataclass(frozen=True)
class _Mask:
    slots: FilterSlots
    values: dict[Slot, Tensor]
    optimizer_values: list[dict[StateSlot, Tensor]]


class FilterMasks:
    """Silences filters of one model in place, and gives them back as they were.

    A silenced filter's weights and bias, and scale and shift of the normalization channels behind
    it, are zero, so that it puts out exactly zero there. Nothing is added to the model: its
    ``state_dict`` keeps its keys, and whoever loads it gets the masked network.

    Args:
        model: The network whose filters are named.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._masks: dict[Filter, _Mask] = {}
        self._cleared = ClearedSlots({}, [])

    @property
    def filters(self) -> list[Filter]:
        """The masked filters, as (module name, index), oldest first."""
        return list(self._masks)

    def mask(
        self, filter_: Filter, slots: FilterSlots, optimizers: Sequence[Optimizer] = ()
    ) -> None:
        """Silence a filter, and keep what it was.

        Args:
            filter_: The filter.
            slots: Where it is.
            optimizers: Those whose elementwise state is to be kept too.
        """
        if filter_ in self._masks:
            return
        tensors = self._tensors
        values = read(tensors, (*slots.silenced, *slots.statistics))
        states = [read_state(optimizer, tensors, slots.silenced) for optimizer in optimizers]
        self._masks[filter_] = _Mask(slots, values, states)
        clear(tensors, slots.silenced)
        self._refresh()

    def release(self, filter_: Filter, optimizers: Sequence[Optimizer] = ()) -> None:
        """Give a filter back: its weights, the normalization behind it, its optimizer state."""
        mask, tensors = self._masks.pop(filter_), self._tensors
        write(tensors, mask.values)
        kept = [*mask.optimizer_values, *[{}] * len(optimizers)]
        for optimizer, values in zip(optimizers, kept, strict=False):
            write_state(optimizer, tensors, mask.slots.silenced, values)
        self._refresh()

    def enforce(self, optimizer: Optimizer) -> None:
        """Silence again what an optimizer's step has moved: momentum and weight decay do."""
        self._cleared.clear_values(_parameters(optimizer))

    def clear_gradients(self, optimizer: Optimizer) -> None:
        """Keep silenced filters out of an optimizer's step, and of the norm that clips it."""
        self._cleared.clear_gradients(_parameters(optimizer))

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Hold the model as it would be without any of the masks, and put them back bit by bit."""
        tensors = self._tensors
        masked = read(tensors, [slot for mask in self._masks.values() for slot in mask.values])
        try:
            for mask in self._masks.values():
                write(tensors, mask.values)
            yield
        finally:
            write(tensors, masked)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the masks as plain lists, numbers, strings and tensors."""
        return [
            {
                "layer": layer,
                "channel": channel,
                "silenced": [list(slot) for slot in mask.slots.silenced],
                "statistics": [list(slot) for slot in mask.slots.statistics],
                "values": [[*slot, value.cpu()] for slot, value in mask.values.items()],
                "optimizer_values": [
                    [[*slot, value.cpu()] for slot, value in values.items()]
                    for values in mask.optimizer_values
                ],
            }
            for (layer, channel), mask in self._masks.items()
        ]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> list[Filter]:
        """Take over masks that `state_dict` returned, on a model whose weights have them.

        Returns:
            Those that could not be taken over, because the model has no such filter any more.
        """
        lost, tensors = [], self._tensors
        for entry in state:
            filter_ = (entry["layer"], entry["channel"])
            mask = _Mask(
                FilterSlots(_slots(entry["silenced"]), _slots(entry["statistics"])),
                {(name, index): value for name, index, value in entry["values"]},
                [
                    {(name, index, key): value for name, index, key, value in values}
                    for values in entry["optimizer_values"]
                ],
            )
            if all(_fits(tensors, slot, value) for slot, value in mask.values.items()):
                self._masks[filter_] = mask
                clear(tensors, mask.slots.silenced)
            else:
                lost.append(filter_)
        self._refresh()
        return lost

    @property
    def _tensors(self) -> dict[str, Tensor]:
        # Looked up anew: moving a model to another device replaces its buffers.
        return named_tensors(self.model)

    def _refresh(self) -> None:
        silenced = (slot for mask in self._masks.values() for slot in mask.slots.silenced)
        self._cleared = ClearedSlots(self._tensors, silenced)


def _fits(tensors: Mapping[str, Tensor], slot: Slot, value: Tensor) -> bool:
    name, index = slot
    tensor = tensors.get(name)
    return tensor is not None and index < len(tensor) and tensor[index].shape == value.shape


def _slots(entries: Sequence[Sequence[Any]]) -> tuple[Slot, ...]:
    return tuple((name, index) for name, index in entries)


def _parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
