"""Memory for feature maps: how each layer's are kept within a budget, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from filterwatch.observing import Layer, Output

# Directions kept of a layer that is too large to keep whole: two are looked at, the others bring
# those two closer to what they are. With the fewest they can be far off.
MAX_RANK = 16
MIN_RANK = 4
# This share of the budget is left to work with, and for the holes that this leaves in memory.
FREE_SHARE = 0.25


class Workspace:
    """Keeps the memory that a probe's maps took on the CPU for the next probe.

    Memory that was given back is cleared by the system before it can be used again, and fetched
    from the host first on many a virtual machine: that can take as long as the rest of a probe. A
    copy of a workspace, and one that was stored, holds nothing.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()

    def empty(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return a tensor to be filled, on the device of ``like``, in its precision or float32.

        What was given out under a name before is given out under it again.
        """
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        if like.device.type != "cpu":  # where torch keeps the memory itself
            return torch.empty(shape, dtype=dtype, device=like.device)
        array = self._arrays.get(name)
        precise = np.float64 if dtype == torch.float64 else np.float32
        if array is None or array.shape != shape or array.dtype != precise:
            # NumPy asks the system for huge pages: filling torch's own memory takes longer.
            array = self._arrays[name] = np.empty(shape, precise)
        return torch.from_numpy(array)


@dataclass(frozen=True)
class Plan:
    """What is looked at each time a probe goes through a model, and how it is kept.

    Attributes:
        layers: The layers, in forward order.
        n_samples: Number of samples in the probe.
        memory_budget: Bytes that their maps may take together, `FREE_SHARE` of it left free.
        ranks: Layer name to the rank of its truncated factorization; ``None`` where maps are kept
            whole, or not kept because the probe goes through in one batch.
        workspace: Where kept maps go from probe to probe. Default: memory is freed with them.
        patterns: The patterns that chose the layers, to find them again.
        outputs: What all layers put out when these were found; ``None`` where it may differ.
    """

    layers: Sequence[Layer]
    n_samples: int
    memory_budget: int
    ranks: Mapping[str, int | None]
    workspace: Workspace | None = field(default=None, compare=False)
    patterns: Sequence[str] | None = None
    outputs: Sequence[Output] | None = None

    @property
    def names(self) -> list[str]:
        """The layers' names."""
        return [layer.name for layer in self.layers]

    @property
    def warning(self) -> str | None:
        """What to say where layers are kept as fewer than `MAX_RANK` directions, if any are."""
        kept = [rank for rank in self.ranks.values() if rank is not None]
        if not kept or min(kept) == MAX_RANK:
            return None
        return (
            f"memory_budget suffices for {min(kept)} directions of the maps of {len(kept)} in "
            f"{len(self.ranks)} layers: their points are rough, and verdicts may differ. Raise it "
            f"to {MAX_RANK / min(kept):.1f} times as much for {MAX_RANK} directions, look at fewer "
            "`layers`, or send the whole probe through in one batch (`batch_size`)"
        )


def plan_ranks(
    bytes_per_sample: Mapping[str, int],
    n_samples: int,
    memory_budget: int,
    free_share: float = 0.0,
) -> dict[str, int | None]:
    """Decide which layers are kept whole and which as a truncated factorization.

    Args:
        bytes_per_sample: Layer name to the size of its maps for one sample, in bytes.
        n_samples: Number of samples in the probe.
        memory_budget: Bytes that all kept maps may take together, with what is left free.
        free_share: Share of them that is left free, below 1.

    Returns:
        Layer name to the rank of its factorization, or ``None`` where the maps are kept whole.
    """
    total = sum(bytes_per_sample.values())
    left = int(memory_budget * (1 - free_share))
    if total * n_samples <= left:
        return dict.fromkeys(bytes_per_sample)
    rank = min(MAX_RANK, left // total)
    if rank < MIN_RANK:
        least = math.ceil(min(n_samples, MIN_RANK) * total / (1 - free_share))
        raise ValueError(
            f"memory_budget={memory_budget} bytes is too small: the maps of one sample take "
            f"{total} bytes; raise it to at least {least}, better to {MAX_RANK // MIN_RANK} times "
            "that, look at fewer `layers`, or send the whole probe through in one batch "
            "(`batch_size`)"
        )
    ranks: dict[str, int | None] = dict.fromkeys(bytes_per_sample, rank)
    left -= rank * total
    for name, size in sorted(bytes_per_sample.items(), key=lambda item: item[1]):
        extra = (n_samples - rank) * size
        if extra > left:
            break
        ranks[name] = None
        left -= max(extra, 0)
    return ranks
