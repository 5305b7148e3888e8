"""Watching a forward pass: which layers run, what they put out, and which filters made it."""

from filterwatch.observing.isolation import preserved_random_state, undisturbed
from filterwatch.observing.observer import (
    Forward,
    Layer,
    Listener,
    MapConsumer,
    Masks,
    NetworkChangedError,
    Operation,
    Output,
    default_forward,
    eager_name,
    find_layers,
    observe,
    observed,
    survey,
)
from filterwatch.observing.provenance import UNKNOWN, Provenance

__all__ = [
    "UNKNOWN",
    "Forward",
    "Layer",
    "Listener",
    "MapConsumer",
    "Masks",
    "NetworkChangedError",
    "Operation",
    "Output",
    "Provenance",
    "default_forward",
    "eager_name",
    "find_layers",
    "observe",
    "observed",
    "preserved_random_state",
    "survey",
    "undisturbed",
]
