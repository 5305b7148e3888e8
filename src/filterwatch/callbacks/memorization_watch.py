"""Memorization beside the count of anomaly filters: measured in the same probe, on its images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from filterwatch._failures import Failures
from filterwatch.callbacks.probe import Probe
from filterwatch.callbacks.training_probe import (
    TrainingSource,
    class_counts,
    take_held_out,
    take_training_probe,
)
from filterwatch.memorization import (
    FeatureListener,
    MemorizationReport,
    RepeatedMeasurement,
    UnmeasurableError,
    find_decoded_layers,
)

Forward = Callable[[Any], object]


class MemorizationWatch:
    """What a callback measures memorization with; does nothing where it cannot be measured.

    Args:
        source: Where training samples come from.
        failures: Says why memorization is not measured.
        batch_size: Number of samples in one forward pass.
        seed: Seed of everything random.
        enabled: Whether memorization is to be measured at all.

    Attributes:
        training: The training samples, while they are watched.
        indices: Their indices in their data set, as far as they are known.
    """

    def __init__(
        self,
        source: TrainingSource,
        failures: Failures,
        *,
        batch_size: int,
        seed: int,
        enabled: bool,
    ) -> None:
        self.training: Probe | None = None
        self.indices: list[int] | None = None
        self._enabled = enabled
        self._source = source
        self._batch_size = batch_size
        self._seed = seed
        self._failures = failures
        self._measurement: RepeatedMeasurement | None = None

    def start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        probe: Any,
        samples: Probe,
        forward: Forward,
        *,
        resumed: bool,
    ) -> None:
        """Find the layers, and take the training samples.

        Args:
            trainer: A Trainer whose training is about to start.
            pl_module: Its module.
            probe: What the user asked for as the probe.
            samples: The samples of the count, taken from it.
            forward: How a batch goes through the module.
            resumed: Whether to take the samples again whose indices are known.
        """
        self.stop()
        if not self._enabled:
            return
        with self._failures.softly("measure memorization in this fit"):
            try:
                held_out = take_held_out(
                    trainer,
                    pl_module,
                    probe,
                    samples,
                    batch_size=self._batch_size,
                    seed=self._seed,
                )
                self.training = take_training_probe(
                    trainer,
                    pl_module,
                    self._source,
                    held_out,
                    batch_size=self._batch_size,
                    seed=self._seed,
                    failures=self._failures,
                    indices=self.indices if resumed and self._source is None else None,
                )
            except UnmeasurableError as error:
                if self._source is not None:
                    raise
                self._failures.inform(str(error), f"does not measure memorization: {error}")
                return
            self.indices = self.training.indices
            found = find_decoded_layers(
                pl_module, samples.first_samples, forward=forward, seed=self._seed
            )
            shared = held_out is samples  # those that the count is taken on
            self._measurement = RepeatedMeasurement(
                held_out.batches,
                held_out.first_samples,
                self.training.batches,
                found,
                shared=shared,
                seed=self._seed,
            )
            if not shared:
                n_classes = len(class_counts(held_out))
                is_training = samples.is_training_data
                why = "holds training samples" if is_training else "has too few of each class"
                self._failures.inform(
                    "held out",
                    f"measures memorization against {held_out.n_samples} held-out samples of "
                    f"{n_classes} classes, beside its probe, which {why}",
                )

    def stop(self) -> None:
        """Let go of the samples."""
        self.training = self._measurement = None

    def listener(self) -> FeatureListener | None:
        """Return what follows the pass of the count's samples; ``None`` if nothing has to."""
        return None if self._measurement is None else self._measurement.listener()

    def measure(self, pl_module: LightningModule, forward: Forward) -> MemorizationReport | None:
        """Send the training samples through the network, after those of the count."""
        if self._measurement is None:
            return None
        return self._measurement.measure(pl_module, forward)
