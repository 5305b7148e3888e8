"""`FilterMasks`: the filters of a model that are silenced now, and what they were before.

Of an optimizer's state, what has one value for each value of a parameter (Adam's moments) can be
given back for one filter. What is one number a parameter (Adam's number of steps) cannot.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from filterwatch.actions.wiring import Filter, FilterSlots, Slot, named_tensors

# Parameter name, index, and the name of the optimizer's value.
_StateSlot = tuple[str, int, str]
_AnySlot = TypeVar("_AnySlot", Slot, _StateSlot)


@dataclass(frozen=True)
class _Mask:
    slots: FilterSlots
    values: dict[Slot, Tensor]
    optimizer_values: list[dict[_StateSlot, Tensor]]


class FilterMasks(AbstractContextManager["FilterMasks"]):
    """Silences filters of one model in place, and gives them back as they were.

    Nothing is added to the model: its ``state_dict`` keeps its keys, and whoever loads it gets the
    masked network. The end of a ``with`` block gives all filters back.

    Attributes:
        unmaskable: Filters of a report that `mask_filters` could not mask, with the reason.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.unmaskable: dict[Filter, str] = {}
        self._masks: dict[Filter, _Mask] = {}
        # For each parameter with silenced slots their indices: one operation clears them all.
        self._silenced: list[tuple[Tensor, Tensor]] = []

    @property
    def filters(self) -> list[Filter]:
        """The masked filters, as (module name, index), oldest first."""
        return list(self._masks)

    def mask(
        self, filter_: Filter, slots: FilterSlots, optimizers: Sequence[Optimizer] = ()
    ) -> None:
        """Silence a filter, and keep what it and the optimizers' elementwise state of it were."""
        if filter_ in self._masks:
            return
        tensors = named_tensors(self.model)
        values = _copies(_views(tensors, (*slots.silenced, *slots.statistics)))
        states = [_copies(_state_views(each, tensors, slots.silenced)) for each in optimizers]
        self._masks[filter_] = _Mask(slots, values, states)
        _fill(_views(tensors, slots.silenced), {})
        self._gather_silenced()

    def release(self, filter_: Filter, optimizers: Sequence[Optimizer] = ()) -> None:
        """Give a filter back: its weights, the normalization behind it, its optimizer state."""
        mask, tensors = self._masks.pop(filter_), named_tensors(self.model)
        _fill(_views(tensors, mask.values), mask.values)
        kept = [*mask.optimizer_values, *[{}] * len(optimizers)]
        for optimizer, values in zip(optimizers, kept, strict=False):
            _fill(_state_views(optimizer, tensors, mask.slots.silenced), values)
        self._gather_silenced()

    def remove(self) -> None:
        """Give all filters back."""
        for filter_ in reversed(self.filters):
            self.release(filter_)

    def __exit__(self, *error: object) -> None:
        self.remove()

    @torch.no_grad()
    def enforce(self, optimizer: Optimizer) -> None:
        """Silence again what an optimizer's step has moved: momentum and weight decay do."""
        for parameter, indices in self._silenced_in(optimizer):
            parameter.index_fill_(0, indices, 0)

    @torch.no_grad()
    def clear_gradients(self, optimizer: Optimizer) -> None:
        """Keep silenced filters out of an optimizer's step, and of the norm that clips it."""
        for parameter, indices in self._silenced_in(optimizer):
            if parameter.grad is not None:
                parameter.grad.index_fill_(0, indices, 0)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Hold the model as it would be without any of the masks, and put them back bit by bit."""
        values = {slot: v for mask in self._masks.values() for slot, v in mask.values.items()}
        views = _views(named_tensors(self.model), values)
        masked = _copies(views)
        try:
            _fill(views, values)
            yield
        finally:
            _fill(views, masked)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the masks as plain lists, numbers, strings and tensors."""
        return [
            {
                "layer": layer,
                "channel": channel,
                "silenced": [list(slot) for slot in mask.slots.silenced],
                "statistics": [list(slot) for slot in mask.slots.statistics],
                "values": _as_lists(mask.values),
                "optimizer_values": [_as_lists(values) for values in mask.optimizer_values],
            }
            for (layer, channel), mask in self._masks.items()
        ]

    def load_state_dict(self, state: Sequence[dict[str, Any]]) -> list[Filter]:
        """Take over masks that `state_dict` returned; return those that the model no longer has."""
        lost, tensors = [], named_tensors(self.model)
        for entry in state:
            filter_ = (entry["layer"], entry["channel"])
            silenced, statistics = (tuple(map(tuple, entry[n])) for n in ("silenced", "statistics"))
            mask = _Mask(
                FilterSlots(silenced, statistics),
                _slot_values(entry["values"]),
                [_slot_values(values) for values in entry["optimizer_values"]],
            )
            if all(_fits(tensors, slot, value) for slot, value in mask.values.items()):
                self._masks[filter_] = mask
                _fill(_views(tensors, mask.slots.silenced), {})
            else:
                lost.append(filter_)
        self._gather_silenced()
        return lost

    def _gather_silenced(self) -> None:
        tensors = named_tensors(self.model)
        chosen: dict[str, list[int]] = defaultdict(list)
        for mask in self._masks.values():
            for name, index in mask.slots.silenced:
                if isinstance(tensors[name], nn.Parameter):
                    chosen[name].append(index)
        self._silenced = [
            (tensors[name], torch.tensor(sorted(indices), device=tensors[name].device))
            for name, indices in chosen.items()
        ]

    def _silenced_in(self, optimizer: Optimizer) -> Iterator[tuple[Tensor, Tensor]]:
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        return (entry for entry in self._silenced if id(entry[0]) in own)


def _views(tensors: Mapping[str, Tensor], slots: Iterable[Slot]) -> dict[Slot, Tensor]:
    return {(name, index): tensors[name].detach()[index] for name, index in slots}


def _state_views(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], slots: Iterable[Slot]
) -> dict[_StateSlot, Tensor]:
    return {
        (name, index, key): value[index]
        for name, index in slots
        for key, value in optimizer.state.get(tensors[name], {}).items()
        if isinstance(value, Tensor) and value.shape == tensors[name].shape
    }


def _copies(views: Mapping[_AnySlot, Tensor]) -> dict[_AnySlot, Tensor]:
    return {slot: view.clone() for slot, view in views.items()}


def _as_lists(values: Mapping[Any, Tensor]) -> list[list[Any]]:
    return [[*slot, value.cpu()] for slot, value in values.items()]


def _slot_values(lists: Iterable[list[Any]]) -> dict[Any, Tensor]:
    return {tuple(entry[:-1]): entry[-1] for entry in lists}


@torch.no_grad()
def _fill(views: Mapping[_AnySlot, Tensor], values: Mapping[_AnySlot, Tensor]) -> None:
    """Put values into their slots; what has none starts anew, from zero."""
    for slot, view in views.items():
        if slot in values:
            view.copy_(values[slot])
        else:
            view.zero_()


def _fits(tensors: Mapping[str, Tensor], slot: Slot, value: Tensor) -> bool:
    name, index = slot
    tensor = tensors.get(name)
    return tensor is not None and index < len(tensor) and tensor[index].shape == value.shape
