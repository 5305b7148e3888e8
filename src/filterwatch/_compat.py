"""What we need of Lightning that it does not promise to keep."""

from __future__ import annotations

from lightning.pytorch import Trainer


def scalar_step(trainer: Trainer) -> int:
    """Return the step that metrics of the running epoch's end are logged with.

    Call it in every process, in ``on_train_epoch_end``: a metric named "step" sets the step of all
    others, and reading it may synchronise processes.
    """
    logged = trainer.callback_metrics.get("step")
    if logged is not None:
        return int(logged)
    # Lightning counts one back for the epoch's end; global_step counts optimizers, not batches.
    batches: int = trainer.fit_loop.epoch_loop._batches_that_stepped
    return max(batches - 1, 0)
