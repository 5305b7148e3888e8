"""From a feature map back to the convolution filter that made it, by following the data.

Each tensor of a forward pass has a shadow of the same shape: a tag for every element that says
which convolution filter it came from, and what would be left of it if that filter were silent.
Operators that only move elements (concatenation, channel shuffle, slices) move the tags alike;
operators that act on each channel by itself keep them; where two filters meet (a residual addition)
the tag is `UNKNOWN`, and so it is behind every operator that is not known to do neither. A channel
has a source when all its elements carry one filter's tags. "If an anomaly occurs on the ReLU or
maxpool layer, we simply mask the corresponding upper convolutional filter" (paper, section 4.3):
this finds that filter, and never another one: with it silent, the channel is constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from filterwatch.observing.operators import (
    CHANNELWISE,
    CONVOLUTION,
    ELEMENTWISE,
    INDEXED,
    MOVEMENT,
    gives_zero_for_zero,
    is_batch_norm,
    normalizes_apart,
)

# Tags below zero name no filter: the value depends on the images in other ways, or not at all.
UNKNOWN = -1
CONSTANT = -2
# Filter f has the tags 2 f and 2 f + 1: where it is silent, the value is zero, or some constant.
_MAY_BE_LEFT = 1


@dataclass
class _Written:
    """Tags of a memory of which a part was written to by an operator."""

    tags: Tensor
    itemsize: int
    downstream: bool


class Provenance:
    """Tags of the tensors of one forward pass.

    Keeps every tensor that it has seen alive, so it is meant for a pass over a sample or two.

    Args:
        constants: Tensors that do not depend on the images: parameters and buffers.
    """

    def __init__(self, constants: Iterable[Tensor] = ()) -> None:
        self._shadows = {id(tensor): (tensor, _all(CONSTANT, tensor)) for tensor in constants}
        self._downstream: set[int] = set()
        self._written: dict[int, _Written] = {}
        self._sharing: dict[int, list[Tensor]] = {}
        self._kept: dict[int, torch.UntypedStorage] = {}
        self._filters: list[tuple[str, int]] = []
        self._first_filter: dict[str, int] = {}

    def tracks(self, tensor: Tensor) -> bool:
        """Return whether a convolution lies upstream of a tensor."""
        written = self._written.get(_memory(tensor))
        return id(tensor) in self._downstream if written is None else written.downstream

    def sources(self, tensor: Tensor, axis: int = 1) -> list[tuple[str, int] | None]:
        """Return the filter behind each channel of a tensor, as (module name, index)."""
        tags = _channel_tags(self._tags(tensor).transpose(1, axis)).tolist()
        return [None if tag < 0 else self._filters[tag // 2] for tag in tags]

    def record_convolution(self, module_name: str | None, maps: Tensor) -> None:
        """Give the output [B, C, h, w] of a convolution its tags, by who holds its filters."""
        n_channels = maps.shape[1]
        if module_name is None:
            tags = torch.full((n_channels,), UNKNOWN)
        else:
            if module_name not in self._first_filter:
                self._first_filter[module_name] = len(self._filters)
                self._filters += [(module_name, channel) for channel in range(n_channels)]
            tags = 2 * (torch.arange(n_channels) + self._first_filter[module_name])
        self._remember(maps, _per_channel(tags.int(), maps.shape), downstream=True)

    def record(self, name: str, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Follow one operator, by its name without an in-place mark, and what it returned."""
        if name in CONVOLUTION:
            return
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        results = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]
        tags = self._found(name, func, args, kwargs, tensors, results)
        downstream = any(self.tracks(tensor) for tensor in tensors)
        written = {id(tensor): tensor for tensor in _written_to(func, args, kwargs)}
        for result, found in zip(results, tags, strict=True):
            if written.pop(id(result), None) is None:
                self._remember(result, found, downstream=downstream)
            else:
                self._write(result, found, downstream=downstream)
        for tensor in written.values():  # and not returned
            self._write(tensor, _all(UNKNOWN, tensor), downstream=downstream)

    def _found(
        self,
        name: str,
        func: Any,
        args: Any,
        kwargs: Any,
        tensors: Sequence[Tensor],
        results: Sequence[Tensor],
    ) -> list[Tensor]:
        """Return the tags of what an operator returned."""
        unknown = [_all(UNKNOWN, result) for result in results]
        if not results:  # a number was read out of a tensor
            return []
        draws = torch.Tag.nondeterministic_seeded in func.tags and name not in CHANNELWISE
        given = tensors[1:] if name in ("copy", "fill", "zero") else tensors  # overwrite the first
        tags = [self._tags(tensor) for tensor in given]
        if draws:
            return unknown
        # What is lifted was written as numbers.
        if name == "lift_fresh" or all(bool((each == CONSTANT).all()) for each in tags):
            return [_all(CONSTANT, result) for result in results]
        if name in MOVEMENT:
            return self._moved(name, func, args, kwargs) or unknown
        result = results[0]
        keeps_zero = gives_zero_for_zero(name, args)
        if name == "copy":
            first: Tensor | None = tags[0].expand(result.shape)
        elif name == "mul":
            first = _product(tags, result.shape)
        elif name == "div":
            first = _quotient(*tags, shape=result.shape) if len(tags) == 2 else tags[0]
        elif name == "constant_pad_nd" and len(args[1]) > 4:  # not height and width alone
            first = func(tags[0].contiguous(), args[1], CONSTANT)
        elif name in CHANNELWISE or is_batch_norm(name):
            apart = normalizes_apart(name, args)
            first = _channelwise(tags[0], result.shape, name in ELEMENTWISE) if apart else None
            if first is not None and not keeps_zero:
                first = _with_something_left(first)
        elif torch.Tag.pointwise in func.tags:
            first = _met(tags, result.shape, keeps_zero=keeps_zero)
        else:
            first = None
        return unknown if first is None else [first, *unknown[1:]]

    def _moved(self, name: str, func: Any, args: Any, kwargs: Any) -> list[Tensor] | None:
        """Return what an operator that moves elements makes of their tags."""
        moved = args[0] if name in INDEXED else (args, kwargs)
        leaves = [leaf for leaf in tree_flatten(moved)[0] if isinstance(leaf, Tensor)]
        of_elements = {id(leaf) for leaf in leaves}
        depends = False

        def shadow(leaf: object) -> object:
            nonlocal depends
            if not isinstance(leaf, Tensor):
                return leaf
            if id(leaf) in of_elements:
                return self._tags(leaf).contiguous()
            if id(leaf) in self._shadows:  # made by an operator; others were written as numbers
                depends = depends or bool((self._tags(leaf) != CONSTANT).any())
            return leaf.cpu()

        tags = func(*tree_map(shadow, args), **tree_map(shadow, kwargs))
        return None if depends else tree_flatten(tags)[0]

    def _tags(self, tensor: Tensor) -> Tensor:
        written = self._written.get(_memory(tensor))
        if written is not None:
            if tensor.element_size() != written.itemsize:
                return _all(UNKNOWN, tensor)
            return written.tags.as_strided(
                tensor.shape, tensor.stride(), tensor.storage_offset()
            ).clone()
        known = self._shadows.get(id(tensor))
        # What no operator made and nobody said to be constant is an image.
        return _all(UNKNOWN, tensor) if known is None else known[1]

    def _remember(self, tensor: Tensor, tags: Tensor, *, downstream: bool) -> None:
        self._shadows[id(tensor)] = (tensor, tags)
        if downstream:
            self._downstream.add(id(tensor))
        memory = _memory(tensor)
        self._keep(memory, tensor)
        self._sharing.setdefault(memory, []).append(tensor)

    def _keep(self, memory: int, tensor: Tensor) -> None:
        """Keep a memory of known tags: ``set_`` would free it, and another take its key."""
        if memory != 0:
            self._kept.setdefault(memory, tensor.untyped_storage())

    def _write(self, tensor: Tensor, tags: Tensor, *, downstream: bool) -> None:
        """Change the tags of a tensor, and of all that share its memory."""
        memory = _memory(tensor)
        self._keep(memory, tensor)
        sharing = [other for other in self._sharing.get(memory, []) if _memory(other) == memory]
        alone = all(other is tensor for other in sharing)
        if memory == 0 or (alone and memory not in self._written and _is_whole(tensor)):
            self._remember(tensor, tags, downstream=downstream)
            return
        if memory not in self._written:
            self._written[memory] = self._gathered(tensor, sharing)
        written = self._written[memory]
        written.downstream |= downstream
        self._shadows[id(tensor)] = (tensor, tags)  # kept alive
        if tensor.element_size() == written.itemsize:
            place = written.tags.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
            place.copy_(tags)
        else:
            written.tags.fill_(UNKNOWN)

    def _gathered(self, tensor: Tensor, sharing: Sequence[Tensor]) -> _Written:
        """Return the tags of a whole memory, by all that is known to lie in it."""
        itemsize = tensor.element_size()
        n_elements = tensor.untyped_storage().nbytes() // itemsize
        tags = torch.full((n_elements,), UNKNOWN, dtype=torch.int32)
        for other in sharing:
            repeats = any(
                stride == 0 and size > 1
                for stride, size in zip(other.stride(), other.shape, strict=True)
            )
            if other.element_size() == itemsize and not repeats:
                place = tags.as_strided(other.shape, other.stride(), other.storage_offset())
                place.copy_(self._shadows[id(other)][1])
        return _Written(tags, itemsize, any(id(other) in self._downstream for other in sharing))


def _all(tag: int, tensor: Tensor) -> Tensor:
    """Return one tag for all elements of a tensor, without memory."""
    return torch.full((), tag, dtype=torch.int32).expand(tensor.shape)


def _per_channel(tags: Tensor, shape: torch.Size) -> Tensor:
    """Spread tags [C] over a shape [B, C, h, w], without memory."""
    return tags.view(1, -1, 1, 1).expand(shape)


def _channel_tags(tags: Tensor) -> Tensor:
    """Return the one tag [C] of each channel of [B, C, …], `UNKNOWN` where there are several."""
    per_channel = tags.transpose(0, 1).flatten(1)
    return _merged(per_channel.T)


def _merged(tags: Tensor, *, keeps_zero: bool = True) -> Tensor:
    """Return what elements depend on that are made of several each, [several, …]."""
    constant = tags == CONSTANT
    filters = tags.div(2, rounding_mode="floor")
    largest = filters.where(~constant, -1).amax(0)
    alike = (constant | ((filters == largest) & (tags >= 0))).all(0)
    left = ((tags % 2 == 1) | constant).any(0) | (not keeps_zero)
    merged = (2 * largest + left.int()).where(alike, UNKNOWN)
    return merged.where(~constant.all(0), CONSTANT).int()


def _with_something_left(tags: Tensor) -> Tensor:
    return tags.where(tags < 0, tags | _MAY_BE_LEFT)


def _channelwise(tags: Tensor, shape: torch.Size, is_elementwise: bool) -> Tensor | None:
    if is_elementwise:
        return tags if tags.shape == shape else None
    if len(shape) == tags.ndim == 4 and shape[1] == tags.shape[1]:
        return _per_channel(_channel_tags(tags), shape)
    return None


def _met(tags: Sequence[Tensor], shape: torch.Size, *, keeps_zero: bool) -> Tensor:
    """Return the tags of elements that are made of one element each of several tensors."""
    return _merged(torch.stack([each.expand(shape) for each in tags]), keeps_zero=keeps_zero)


def _product(tags: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Return the tags of a product: zero where a factor is, whatever the others are.

    The filter of a whole factor goes before that of one which is spread over it: a gate.
    """
    met = _met(tags, shape, keeps_zero=len(tags) > 1)
    for factors in ([each for each in tags if each.shape == shape], tags):
        # Where a factor is silenced by one filter, and another by another, either would do.
        silent = torch.stack([each.expand(shape) for each in factors]) if factors else met[None]
        silenced = (silent >= 0) & (silent % 2 == 0)
        filters = silent.where(silenced, -1).amax(0)
        one = ((silent == filters) | ~silenced).all(0) & (filters >= 0)
        if bool(one.any()):
            return filters.where(one, met)
    return met


def _quotient(numerator: Tensor, denominator: Tensor, *, shape: torch.Size) -> Tensor:
    """Return the tags of a quotient: zero where the numerator is, unless the other is as well."""
    numerator, denominator = numerator.expand(shape), denominator.expand(shape)
    is_zero = (numerator >= 0) & (numerator % 2 == 0)
    both = is_zero & (numerator == denominator)
    quotient = numerator.where(is_zero, _met([numerator, denominator], shape, keeps_zero=False))
    return quotient.where(~both, UNKNOWN)


def _written_to(func: Any, args: Any, kwargs: Any) -> Iterable[Tensor]:
    """Yield the tensors that an operator writes to, by its schema."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from (leaf for leaf in tree_flatten(given)[0] if isinstance(leaf, Tensor))


def _memory(tensor: Tensor) -> int:
    """Return what tells a tensor's memory from another's; 0 where it has none of its own."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return 0


def _is_whole(tensor: Tensor) -> bool:
    """Return whether a tensor fills its memory."""
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
