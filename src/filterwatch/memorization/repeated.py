"""Memorization measured on the same samples again and again, beside what else looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from filterwatch.memorization.evidence import HeldOut
from filterwatch.memorization.features import (
    BatchFeatures,
    DecodedLayer,
    FeatureListener,
    find_decoded_layers,
    joined,
)
from filterwatch.memorization.measure import TrainingRecord, hear_training, read_features
from filterwatch.memorization.report import MemorizationReport
from filterwatch.observing import Forward


class RepeatedMeasurement:
    """Measures memorization of a network as it is now.

    Args:
        held_out: Batches of held-out samples.
        first: A batch of one or two of them.
        training: Batches of training samples.
        layers: The layers, as `find_decoded_layers` found them; they are looked for again each
            time, for a network may change.
        shared: Whether the held-out samples go through the network anyway, followed by `listener`,
            so that they need not go again.
        seed: Seed of the division into halves, and of whatever the model draws.
    """

    def __init__(
        self,
        held_out: Sequence[Any],
        first: Any,
        training: Sequence[Any],
        layers: list[DecodedLayer],
        *,
        shared: bool,
        seed: int,
    ) -> None:
        self._held_out = held_out
        self._first = first
        self._training = training
        self._layers = layers
        self._shared = shared
        self._seed = seed
        self._gathered: list[BatchFeatures] = []

    def listener(self) -> FeatureListener | None:
        """Return what follows the pass of the held-out samples; ``None`` if nothing has to."""
        self._gathered = []
        if not self._shared:
            return None
        return FeatureListener({layer.name for layer in self._layers}, self._gathered.append)

    def measure(self, model: nn.Module, forward: Forward | None) -> MemorizationReport:
        """Send the training samples through the network, after the pass that was listened to.

        Raises:
            UnmeasurableError: See `measure_memorization`.
        """
        found = find_decoded_layers(model, self._first, forward=forward, seed=self._seed)
        if self._shared and found == self._layers:
            features = joined(self._gathered)
        else:  # the network may have changed
            self._layers = found
            features = read_features(model, self._held_out, found, forward=forward, seed=self._seed)
        self._gathered = []
        held_out = HeldOut.fit(found, features, seed=self._seed)
        record = TrainingRecord(held_out)
        hear_training(model, self._training, held_out, record.add, forward=forward, seed=self._seed)
        return record.report()
