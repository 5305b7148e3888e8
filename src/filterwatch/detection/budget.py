"""How each layer's maps are kept while a probe runs, within a memory budget."""

from __future__ import annotations

from collections.abc import Mapping

# Directions kept of a layer that is too large to keep whole: two are looked at, the others make
# those two right.
MAX_RANK = 16
MIN_RANK = 4


def plan_ranks(
    bytes_per_sample: Mapping[str, int], n_samples: int, memory_budget: int, reserved: int = 0
) -> dict[str, int | None]:
    """Decide which layers are kept whole and which as a truncated factorisation.

    Args:
        bytes_per_sample: Layer name to the size of its maps for one sample, in bytes.
        n_samples: Number of samples in the probe.
        memory_budget: Bytes that all kept maps may take together, with what is reserved.
        reserved: Bytes of them that are left to work with.

    Returns:
        Layer name to the rank of its factorisation, or ``None`` where the maps are kept whole.

    Raises:
        ValueError: If the budget is too small for either.
    """
    total = sum(bytes_per_sample.values())
    left = memory_budget - reserved
    if total * n_samples <= left:
        return dict.fromkeys(bytes_per_sample)
    rank = min(MAX_RANK, left // total)
    if rank < MIN_RANK:
        raise ValueError(
            f"memory_budget={memory_budget} bytes is too small: the maps of one sample take "
            f"{total} bytes, and at least {MIN_RANK} times that is needed"
            + (f", and {reserved} to work with" if reserved else "")
            + "; raise it, look at fewer `layers`, or send the whole probe through in one batch"
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
