"""Which parameters make up a filter: its own, and those of the normalizations behind it.

A filter set to zero still gives a constant behind a BatchNorm, whose shift is added to whatever
comes. Which normalization channels a filter feeds is found by following the data: behind an
activation, at some offset behind a concatenation, or in several normalizations at once (DenseNet).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from filterwatch.observing import (
    Forward,
    Operation,
    Provenance,
    default_forward,
    eager_name,
    observed,
    undisturbed,
)

# A convolution's module name and the index of one of its filters.
Filter = tuple[str, int]
# One entry along the first dimension of a parameter or buffer, by name.
Slot = tuple[str, int]


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters and buffers by the names they have when nothing is compiled.

    To be called anew each time: moving a model to another device replaces its buffers.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {eager_name(name): tensor for name, tensor in tensors}


@dataclass(frozen=True)
class FilterSlots:
    """Where a filter is in the model's tensors.

    Attributes:
        silenced: What is zero while it is masked: its own, and the normalizations' scale and shift.
        statistics: The running statistics of those channels, which follow the data by themselves.
    """

    silenced: tuple[Slot, ...]
    statistics: tuple[Slot, ...] = ()


@dataclass
class Wiring:
    """The filters of a model, as one forward pass showed them.

    Attributes:
        slots: Where each filter is that can be masked.
        obstacles: Why each other one cannot be silenced alone.
    """

    slots: dict[Filter, FilterSlots] = field(default_factory=dict)
    obstacles: dict[Filter, str] = field(default_factory=dict)

    @property
    def layers(self) -> Counter[str]:
        """The number of filters of each convolution."""
        return Counter(layer for layer, _ in [*self.slots, *self.obstacles])

    def obstacle(self, filter_: Filter) -> str | None:
        """Return why a filter cannot be masked, or ``None`` if it can."""
        if filter_ in self.slots:
            return None
        return self.obstacles.get(filter_, "no such filter took part in the forward pass")


def trace_wiring(model: nn.Module, batch: Any, *, forward: Forward | None = None) -> Wiring:
    """Find what every convolution filter of a model consists of, in one forward pass.

    The batch is images [B, C, H, W], or whatever ``forward`` takes; one or two samples are enough.
    The model comes back exactly as it went in.
    """
    trace = _Trace(model)
    with undisturbed(model), observed(model, trace.record, trace.provenance):
        (forward or default_forward(model))(batch)
    return trace.wiring()


@dataclass(frozen=True)
class _Channel:
    """A channel of a normalization layer; two calls of a module have the same ones."""

    layer: str = field(compare=False)
    index: int
    affine: tuple[Slot, ...]
    statistics: tuple[Slot, ...]


class _Trace:
    def __init__(self, model: nn.Module) -> None:
        self.provenance = Provenance([*model.parameters(), *model.buffers()])
        self._modules = {eager_name(name): module for name, module in model.named_modules()}
        self._tensors = named_tensors(model)
        self._names = {id(tensor): name for name, tensor in self._tensors.items()}
        self._own: dict[Filter, dict[Slot, None]] = defaultdict(dict)
        self._obstacles: dict[Filter, str] = {}
        # The filters that feed a normalization channel, None for anything else.
        self._fed: dict[_Channel, set[Filter | None]] = defaultdict(set)

    def record(self, operation: Operation) -> None:
        if operation.kind == "convolution":
            self.provenance.record_convolution(operation.owner, operation.maps)
            if operation.owner is not None:
                self._record_filters(operation.owner, operation)
        elif operation.kind == "normalization":
            self._record_normalization(operation)

    def wiring(self) -> Wiring:
        silenced = {filter_: list(own) for filter_, own in self._own.items()}
        statistics: dict[Filter, list[Slot]] = defaultdict(list)
        obstacles = dict(self._obstacles)
        for channel, feeding in self._fed.items():
            for filter_ in filter(None, feeding):
                silenced[filter_] += channel.affine
                statistics[filter_] += channel.statistics
                if len(feeding) > 1:
                    obstacles[filter_] = (
                        f"channel {channel.index} of the normalization {channel.layer} gets other "
                        "maps too, which would be silenced with it"
                    )
        slots = {
            filter_: FilterSlots(tuple(names), tuple(statistics[filter_]))
            for filter_, names in silenced.items()
            if filter_ not in obstacles
        }
        return Wiring(slots, obstacles)

    def _record_filters(self, owner: str, operation: Operation) -> None:
        roles = zip(operation.args[1:3], ("weight", "bias"), strict=False)
        names = [self._name(value, operation, role) for value, role in roles if value is not None]
        reason = None
        if None in names:
            reason = "its weights are computed from other parameters"
        elif len(operation.args) > 6 and operation.args[6] is True:
            reason = "it belongs to a transposed convolution"
        for index in range(operation.maps.shape[1]):
            if reason is not None:
                self._obstacles[owner, index] = reason
            self._own[owner, index].update(((name, index), None) for name in names if name)

    def _record_normalization(self, operation: Operation) -> None:
        maps = operation.args[0]
        if not self.provenance.tracks(maps):
            return
        tensors, axis = _normalization_arguments(operation.args)
        roles = ("weight", "bias", "running_mean", "running_var")
        *affine_names, mean_name, variance_name = (
            self._name(tensor, operation, role) for tensor, role in zip(tensors, roles, strict=True)
        )
        names = [name for name in affine_names if name is not None]
        kept = [name for name in (mean_name, variance_name) if name is not None]
        if not names and mean_name is not None:
            # Without scale and shift it gives zero for zero where it expects zero.
            names = [mean_name]
        if not names or self._tensors[names[0]].ndim != 1:
            return
        n_channels = len(self._tensors[names[0]])
        for position, source in enumerate(self.provenance.sources(maps, axis)):
            # Instance normalization runs with the samples' channels side by side.
            index = position % n_channels
            channel = _Channel(
                operation.module_name,
                index,
                tuple((name, index) for name in names),
                tuple((name, index) for name in kept),
            )
            self._fed[channel].add(source)

    def _name(self, tensor: Tensor | None, operation: Operation, role: str) -> str | None:
        """Return the name of a parameter or buffer that an operator was given."""
        if tensor is None:
            return None
        # Mixed precision hands operators a copy in another type.
        module = self._modules[operation.module_name]
        own = module._parameters.get(role, module._buffers.get(role))
        return self._names.get(id(tensor), self._names.get(id(own)))


def _normalization_arguments(args: Sequence[Any]) -> tuple[Sequence[Any], int]:
    """Return (scale, shift, running mean, running variance) and the axis of the channels."""
    if not isinstance(args[1], Tensor | None):  # layer normalization: the normalized shape
        return (args[2], args[3], None, None), args[0].ndim - 1
    if isinstance(args[3], int):  # group normalization: the number of samples
        return (args[1], args[2], None, None), 1
    return args[1:5], 1
