"""What Lightning and torchmetrics keep to themselves, have in some versions only, or have twice."""

from __future__ import annotations

import copy
import sys
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer, callbacks
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor
from torchmetrics import Metric

T = TypeVar("T")


def either(*classes: type[T]) -> tuple[type[T], ...]:
    """Return classes of ``lightning.pytorch`` and those of their names in ``pytorch_lightning``.

    That older package is the same code under another name, so `isinstance` has to ask for both. It
    is looked at where the user has imported it, and never imported here. Before 2.6 its Trainer
    refuses callbacks of the other package ("Expected a parent").
    """
    found = list(classes)
    for each in classes:
        module = sys.modules.get(each.__module__.replace("lightning.pytorch", "pytorch_lightning"))
        if hasattr(module, each.__name__):
            found.append(getattr(module, each.__name__))
    return tuple(found)


def weight_averaging() -> tuple[type[Callback], ...]:
    """Return the callbacks that average weights; the oldest Lightning has one of the two only."""
    packages = (callbacks, sys.modules.get("pytorch_lightning.callbacks"))
    names = ("WeightAveraging", "StochasticWeightAveraging")
    return tuple(
        getattr(package, name) for package in packages for name in names if hasattr(package, name)
    )


def is_older_trainer(trainer: object) -> bool:
    """Return whether a Trainer is that of ``pytorch_lightning``."""
    return not isinstance(trainer, Trainer) and isinstance(trainer, either(Trainer))


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return a Trainer's callbacks."""
    found: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return found


def is_fast_dev_run(trainer: Trainer) -> bool:
    """Return whether a Trainer only tries a batch or a few."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def validation_loaders(trainer: Trainer) -> Any:
    """Return what a Trainer validates with, also where nothing was validated yet."""
    if trainer.val_dataloaders is not None:
        return trainer.val_dataloaders
    # Not set up where the first epochs go without validation, or all of them do.
    source = trainer.fit_loop.epoch_loop.val_loop._data_source
    return source.dataloader() if source.is_defined() and source.instance is not None else None


def missing_setting(trainer: Trainer, callback: Callback) -> str | None:
    """Return what makes a callback read at an epoch's end; ``None`` where that is not needed."""
    if isinstance(callback, either(EarlyStopping)) and not callback._check_on_train_epoch_end:
        return "check_on_train_epoch_end"
    if isinstance(callback, either(ModelCheckpoint)):
        at_epoch_end = callback._should_save_on_train_epoch_end(trainer)
        return None if at_epoch_end else "save_on_train_epoch_end"
    return None


def transferred(trainer: Trainer, pl_module: LightningModule, batch: Any) -> Any:
    """Return a batch on the module's device, by way of its transfer hooks and the precision."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
    return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


def metric_state(metric: Metric) -> dict[str, Any]:
    """Return copies of what a metric has accumulated, to be put back into its ``__dict__``."""
    names = (*metric._defaults, "_update_count", "_computed", "_forward_cache")
    state = {name: metric.__dict__[name] for name in names if name in metric.__dict__}
    return {
        name: value.clone() if isinstance(value, Tensor) else copy.copy(value)
        for name, value in state.items()
    }


def limits_training(trainer: Trainer) -> bool:
    """Return whether a Trainer trains on a part of its data."""
    limit: float = trainer.limit_train_batches
    overfit: float = trainer.overfit_batches  # type: ignore[attr-defined]
    return not is_fast_dev_run(trainer) and (limit != 1.0 or overfit > 0)


def keeps_metrics_as_files(trainer: Trainer) -> bool:
    """Return whether a logger keeps each metric in a file of its name, as MLflow's file store does.

    There, no metric can be named like the beginning of another's path.
    """
    stores = (
        getattr(logger, "_tracking_uri", None) or ""
        for logger in trainer.loggers
        if isinstance(logger, either(MLFlowLogger))
    )
    return any(store.startswith("file:") or "://" not in store for store in stores)


def scalar_step(trainer: Trainer) -> int:
    """Return the step that metrics of the running epoch's end are logged with.

    Call it in every process, in ``on_train_epoch_end``: a metric named "step" sets the step of all
    others, and reading it may synchronize processes.
    """
    logged = trainer.callback_metrics.get("step")
    if logged is not None:
        return int(logged)
    # Lightning counts one back for the epoch's end; global_step counts optimizers, not batches.
    batches: int = trainer.fit_loop.epoch_loop._batches_that_stepped
    return max(batches - 1, 0)
