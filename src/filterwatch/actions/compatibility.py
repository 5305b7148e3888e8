"""What masking cannot work with, refused before training starts."""

from __future__ import annotations

from lightning.pytorch import Trainer, callbacks
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

# Weight averaging is newer than the oldest Lightning that is supported.
_AVERAGING = tuple(
    getattr(callbacks, name)
    for name in ("WeightAveraging", "StochasticWeightAveraging")
    if hasattr(callbacks, name)
)


def refuse_for_masking(trainer: Trainer) -> None:
    """Raise ``ValueError`` if a Trainer shards or averages the parameters that masks are on."""
    strategy = trainer.strategy
    if isinstance(strategy, (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)):
        raise ValueError(
            f"MaskFilters cannot work with {type(strategy).__name__}: a process holds a part of "
            "each parameter, not whole filters. Use strategy='ddp', or leave out the action"
        )
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, _AVERAGING):
            raise ValueError(
                f"MaskFilters cannot work with {type(callback).__name__}: the averaged weights "
                "would keep what a filter was before it was masked. Leave out one of the two"
            )
