"""How each layer's maps are kept while a probe runs, within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from filterwatch.detection.capture import Layer

# Directions kept of a layer that is too large to keep whole: two are looked at, the others bring
# those two closer to what they are. With the fewest they can be far off.
MAX_RANK = 16
MIN_RANK = 4
# This share of the budget is left to work with, and for the holes that this leaves in memory.
FREE_SHARE = 0.25


def plan_layers(
    layers: Iterable[Layer], n_samples: int, memory_budget: int
) -> dict[str, int | None]:
    """Decide as `plan_ranks` does, with `FREE_SHARE` of the budget left free."""
    sizes = {layer.name: layer.map_bytes for layer in layers}
    return plan_ranks(sizes, n_samples, memory_budget, free_share=FREE_SHARE)


def approximation_note(ranks: Mapping[str, int | None]) -> str | None:
    """Return what to say where layers are kept as fewer than `MAX_RANK` directions, if any are."""
    kept = [rank for rank in ranks.values() if rank is not None]
    if not kept or min(kept) == MAX_RANK:
        return None
    return (
        f"memory_budget suffices for {min(kept)} directions of the maps of {len(kept)} in "
        f"{len(ranks)} layers: their points are rough, and verdicts may differ. Raise it to "
        f"{MAX_RANK / min(kept):.1f} times as much for {MAX_RANK} directions, look at fewer "
        "`layers`, or send the whole probe through in one batch (`batch_size`)"
    )


def plan_ranks(
    bytes_per_sample: Mapping[str, int],
    n_samples: int,
    memory_budget: int,
    free_share: float = 0.0,
) -> dict[str, int | None]:
    """Decide which layers are kept whole and which as a truncated factorisation.

    Args:
        bytes_per_sample: Layer name to the size of its maps for one sample, in bytes.
        n_samples: Number of samples in the probe.
        memory_budget: Bytes that all kept maps may take together, with what is left free.
        free_share: Share of them that is left free, below 1.

    Returns:
        Layer name to the rank of its factorisation, or ``None`` where the maps are kept whole.

    Raises:
        ValueError: If the budget is too small for either.
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
