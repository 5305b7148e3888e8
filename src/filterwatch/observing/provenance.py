"""From a feature map back to the convolution filter that made it, by following the data.

Each tensor of a forward pass has a shadow of the same shape: an integer tag for every element that
says which convolution filter it came from. Operators that only move elements (concatenation,
channel shuffle, slices) move the tags alike; operators that act on each channel by itself keep
them; where two filters meet (a residual addition) the tag is `UNKNOWN`. A channel has a source when
all its elements carry one tag. "If an anomaly occurs on the ReLU or maxpool layer, we simply mask
the corresponding upper convolutional filter" (paper, section 4.3): this finds that filter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from filterwatch.observing.operators import CHANNELWISE, CONVOLUTION, MOVEMENT, is_batch_norm

UNKNOWN = -1


class Provenance:
    """Tags of the tensors of one forward pass.

    Keeps every tensor that it has seen alive, so it is meant for a pass over a sample or two.
    """

    def __init__(self) -> None:
        self._shadows: dict[int, tuple[Tensor, Tensor]] = {}
        self._filters: list[tuple[str, int]] = []
        self._first_tag: dict[str, int] = {}

    def tracks(self, tensor: Tensor) -> bool:
        """Return whether a convolution lies upstream of a tensor."""
        return id(tensor) in self._shadows

    def sources(self, tensor: Tensor, axis: int = 1) -> list[tuple[str, int] | None]:
        """Return the filter behind each channel of a tracked tensor, as (module name, index)."""
        tags = self._shadows[id(tensor)][1].transpose(1, axis)
        return [
            None if tag == UNKNOWN else self._filters[tag] for tag in _channel_tags(tags).tolist()
        ]

    def record_convolution(self, module_name: str | None, maps: Tensor) -> None:
        """Give the output [B, C, h, w] of a convolution its tags, by who holds its filters."""
        n_channels = maps.shape[1]
        if module_name is None:
            tags = torch.full((n_channels,), UNKNOWN)
        else:
            if module_name not in self._first_tag:
                self._first_tag[module_name] = len(self._filters)
                self._filters += [(module_name, channel) for channel in range(n_channels)]
            tags = torch.arange(n_channels) + self._first_tag[module_name]
        self._remember(maps, _per_channel(tags, maps.shape))

    def record(self, name: str, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Follow one operator, by its name without an in-place mark, and what it returned."""
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if name in CONVOLUTION or not any(self.tracks(tensor) for tensor in tensors):
            return
        if name in MOVEMENT:
            self._replay(func, args, kwargs, output)
            return
        results = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]
        if not results:  # a number was read out of a tensor
            return
        for other in results[1:]:
            self._remember(other, self._unknown(other))
        result = results[0]
        if name in CHANNELWISE or is_batch_norm(name):
            tags = self._channelwise(tensors[0], result)
        elif torch.Tag.pointwise in func.tags:
            tags = self._pointwise(name, tensors, result)
        else:
            tags = None
        self._remember(result, self._unknown(result) if tags is None else tags)

    def _remember(self, tensor: Tensor, tags: Tensor) -> None:
        self._shadows[id(tensor)] = (tensor, tags)

    def _tags(self, tensor: Tensor) -> Tensor:
        if self.tracks(tensor):
            return self._shadows[id(tensor)][1]
        return self._unknown(tensor)

    @staticmethod
    def _unknown(tensor: Tensor) -> Tensor:
        return torch.full((1,) * tensor.ndim, UNKNOWN).expand(tensor.shape)

    def _replay(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        def shadow(leaf: object) -> object:
            # Indices (of index and index_select) are not maps: they are used as they are.
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                return self._tags(leaf).contiguous()
            return leaf.cpu() if isinstance(leaf, Tensor) else leaf

        tags = func(*tree_map(shadow, args), **tree_map(shadow, kwargs))
        outputs, shadows = tree_flatten(output)[0], tree_flatten(tags)[0]
        for tensor, tensor_tags in zip(outputs, shadows, strict=True):
            self._remember(tensor, tensor_tags)

    def _channelwise(self, source: Tensor, result: Tensor) -> Tensor | None:
        if not self.tracks(source):
            return None
        tags = self._tags(source)
        if result.shape == tags.shape:
            return tags
        if result.ndim == tags.ndim == 4 and result.shape[1] == tags.shape[1]:
            return _per_channel(_channel_tags(tags), result.shape)
        return None

    def _pointwise(self, name: str, tensors: list[Tensor], result: Tensor) -> Tensor | None:
        full = [tensor for tensor in tensors if tensor.shape == result.shape]
        tracked = [self._tags(tensor) for tensor in full if self.tracks(tensor)]
        if not tracked or any(not torch.equal(tracked[0], other) for other in tracked[1:]):
            return None
        if name not in ("mul", "div"):
            # A factor leaves a silenced map silent; a summand that is a map itself does not.
            untracked_full = len(full) > len(tracked)
            tracked_broadcast = any(self.tracks(t) for t in tensors if t.shape != result.shape)
            if untracked_full or tracked_broadcast:
                return None
        return tracked[0]


def _per_channel(tags: Tensor, shape: torch.Size) -> Tensor:
    """Spread tags [C] over a shape [B, C, h, w], without memory."""
    return tags.view(1, -1, 1, 1).expand(shape)


def _channel_tags(tags: Tensor) -> Tensor:
    """Return the one tag [C] of each channel of [B, C, …], `UNKNOWN` where there are several."""
    per_channel = tags.transpose(0, 1).flatten(1)
    first = per_channel[:, 0]
    return torch.where((per_channel == first[:, None]).all(dim=1), first, UNKNOWN)
