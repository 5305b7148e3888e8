"""Watching a network while it trains, without Lightning: what any loop and the callback share."""

from filterwatch.watching.entries import probe_entry
from filterwatch.watching.filter_watch import FilterWatch
from filterwatch.watching.samples import (
    STREAM_FACTOR,
    choose_like,
    choose_samples,
    dataset_labels,
    has_indexed_samples,
    reservoir,
    sample_pool,
)

__all__ = [
    "STREAM_FACTOR",
    "FilterWatch",
    "choose_like",
    "choose_samples",
    "dataset_labels",
    "has_indexed_samples",
    "probe_entry",
    "reservoir",
    "sample_pool",
]
