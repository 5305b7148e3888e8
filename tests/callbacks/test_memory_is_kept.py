"""What the callback keeps between probes, and when it lets go of it."""

from __future__ import annotations

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from watched import fit, watch

from filterwatch.callbacks import AnomalyFilterCallback


class Addresses(Callback):
    """Keeps where the maps' memory is at each epoch's end, and may end the fit there."""

    def __init__(self, callback: AnomalyFilterCallback, fails: bool = False) -> None:
        self.callback = callback
        self.fails = fails
        self.seen: list[dict[str, int]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        readouts = self.callback._readouts
        assert readouts is not None
        plan = readouts.plan
        assert plan.workspace is not None
        arrays = plan.workspace._arrays
        self.seen.append({name: array.ctypes.data for name, array in arrays.items()})
        if self.fails:
            raise RuntimeError("the disk is full")


def test_probes_of_a_fit_share_their_memory() -> None:
    callback = watch(batch_size=16)
    addresses = Addresses(callback)
    fit(callback, addresses, max_epochs=3)
    assert len(addresses.seen) == 3
    assert addresses.seen[0]
    assert addresses.seen[1:] == addresses.seen[:1] * 2


def test_nothing_is_kept_after_the_fit() -> None:
    callback = watch(batch_size=16)
    fit(callback, max_epochs=1)
    assert callback.report is not None
    assert callback.samples is None
    assert callback._readouts is None


def test_nor_after_one_that_failed() -> None:
    callback = watch(batch_size=16)
    addresses = Addresses(callback, fails=True)
    with pytest.raises(RuntimeError, match="the disk is full"):
        fit(callback, addresses, max_epochs=1)
    assert addresses.seen[0]
    assert callback.samples is None
    assert callback._readouts is None
