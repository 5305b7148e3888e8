"""Lightning under either name: ``lightning.pytorch``, and the older ``pytorch_lightning``."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rich
import torch
from lightning.pytorch import seed_everything
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from watched import QUIET, loader, watch

from filterwatch import AnomalyCriteria, MaskFilters, StopTraining
from filterwatch._compat import either
from filterwatch.actions import FlaggedFilter
from filterwatch.callbacks import EpochTable
from filterwatch.datamodules import DigitsDataModule
from filterwatch.visuals import Pictures, progress

NAMES = ["lightning.pytorch", "pytorch_lightning"]
LENIENT = AnomalyCriteria(20, small_cluster_ratio=0, ch_ratio=0, activation_ratio=0)
FILTERS = [("network.0", 1), ("network.3", 5)]
CHECKPOINTS: dict[str, Any] = {"enable_checkpointing": True}

pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")


@pytest.fixture(params=NAMES)
def package(request: pytest.FixtureRequest) -> Any:
    """Return Lightning by one of its names."""
    return importlib.import_module(request.param)


class Body:
    """What a module does, whatever class of Lightning's it is."""

    network: nn.Module

    def forward(self, images: Tensor) -> Any:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))  # type: ignore[attr-defined]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=0.01)


def module_of(package: Any) -> Any:
    """Return a network that is a LightningModule of a package, the same each time."""
    seed_everything(0, verbose=False)
    module = type("Net", (Body, package.LightningModule), {})()
    module.network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(6 * 16, 10),
    )
    return module


def fit(package: Any, *callbacks: Any, checkpoint: Path | None = None, **options: Any) -> Any:
    """Fit a network to tiny data with the Trainer of a package; return the Trainer."""
    module = module_of(package)
    fitted = package.Trainer(callbacks=list(callbacks), **{**QUIET, **options})
    fitted.fit(module, loader(seed=1), loader(), ckpt_path=checkpoint)
    return fitted


class MaskThese(MaskFilters):
    """Masks `FILTERS`, flagged or not."""

    def choose(self, flagged: Any, report: Any, fit: Any) -> Any:
        assert all(isinstance(each, FlaggedFilter) for each in flagged)
        return FILTERS


def test_a_fit_and_its_continuation_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    histories, weights = [], []
    for name in NAMES:
        package = importlib.import_module(name)
        checkpoints = package.callbacks.ModelCheckpoint(
            tmp_path / name, "{epoch}", monitor="anomaly_filters", save_top_k=-1
        )
        stopping = package.callbacks.EarlyStopping("anomaly_filters", mode="min", patience=9)
        action = MaskThese(max_fraction=0.3)
        whole = watch(action=[action, StopTraining(patience=9)], print_summary=True)
        fit(package, whole, stopping, checkpoints, EpochTable(), max_epochs=4, **CHECKPOINTS)
        assert action.masks is not None
        assert action.masks.filters == FILTERS
        printed = capsys.readouterr().out
        assert "masked at the end: 2 filters" in printed
        assert "val_loss" in printed
        assert stopping.best_score == min(entry["count"] for entry in whole.history)

        action = MaskThese(max_fraction=0.3)
        resumed = watch(action=[action, StopTraining(patience=9)])
        path = tmp_path / name / "epoch=1.ckpt"
        fitted = fit(package, resumed, checkpoint=path, max_epochs=4)
        assert resumed.history == whole.history
        assert resumed.probe_indices == whole.probe_indices
        assert action.masks is not None
        assert action.masks.filters == FILTERS
        histories.append(whole.history)
        weights.append(nn.utils.parameters_to_vector(fitted.lightning_module.parameters()))
    assert histories[0] == histories[1]
    assert torch.equal(weights[0], weights[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_each_logger_gets_the_pictures(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="an extra: pip install 'filterwatch[wandb]'")
    pytest.importorskip("mlflow", reason="an extra: pip install 'filterwatch[mlflow]'")
    for name in ("WANDB_SILENT", "WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    loggers = [
        package.loggers.CSVLogger(tmp_path / "csv"),
        package.loggers.TensorBoardLogger(tmp_path / "tensorboard"),
        package.loggers.WandbLogger(save_dir=tmp_path, offline=True, project="filterwatch"),
        package.loggers.MLFlowLogger(tracking_uri=f"file:{tmp_path / 'mlflow'}"),
    ]
    pictures = Pictures(every_n_epochs=1, n_filters=1, n_samples=0)
    callback = watch(pictures=pictures, criteria=LENIENT)
    try:
        with pytest.warns(UserWarning, match="memorization_by_layer"):
            fit(package, callback, logger=loggers, log_every_n_steps=1, max_epochs=1)
    finally:
        wandb.finish()
    events = EventAccumulator(loggers[1].log_dir)
    events.Reload()
    assert "anomaly_filters/clusters_1" in events.Tags()["images"]
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    assert list(tmp_path.rglob("media/images/anomaly_filters/clusters_1_*.png"))
    assert list(tmp_path.rglob("artifacts/images/*clusters_1*.png"))
    assert "anomaly_filters" in Path(loggers[0].log_dir, "metrics.csv").read_text()
    # All of them took it, so there is no file instead.
    assert not list(tmp_path.rglob("step_*/*.png"))


def test_without_a_logger_for_pictures_they_go_beside_the_table_of_metrics(
    package: Any, tmp_path: Path
) -> None:
    logger = package.loggers.CSVLogger(tmp_path)
    pictures = Pictures(every_n_epochs=1, n_filters=1, n_samples=0)
    callback = watch(pictures=pictures, criteria=LENIENT)
    fit(package, callback, logger=logger, log_every_n_steps=1, max_epochs=1)
    assert (Path(logger.log_dir) / "anomaly_filters/step_0000003/clusters_1.png").is_file()


def test_averaged_weights_and_masks_are_refused(package: Any) -> None:
    kinds = package.callbacks
    averaging = [kinds.StochasticWeightAveraging(swa_lrs=0.01)]
    if hasattr(kinds, "EMAWeightAveraging"):
        averaging.append(kinds.EMAWeightAveraging())
    for callback in averaging:
        with pytest.raises(ValueError, match=f"cannot work with {type(callback).__name__}"):
            fit(package, watch(action=MaskFilters()), callback)


@pytest.mark.parametrize("name", ["DeepSpeedStrategy", "FSDPStrategy", "ModelParallelStrategy"])
def test_sharded_parameters_and_masks_are_refused(package: Any, name: str) -> None:
    """Made without their constructors, which want a GPU."""
    strategy = getattr(package.strategies, name)
    sharded: Any = type("Sharded", (), {"strategy": strategy.__new__(strategy), "callbacks": []})
    with pytest.raises(ValueError, match=f"cannot work with {name}"):
        MaskFilters().check(sharded)


def test_monitors_that_would_read_too_early_are_warned_about(package: Any, tmp_path: Path) -> None:
    early = package.callbacks.EarlyStopping("anomaly_filters", mode="min", strict=False)
    with pytest.warns(UserWarning, match="check_on_train_epoch_end=True"):
        fit(package, watch(), early, val_check_interval=0.5, max_epochs=1)
    checkpoint = package.callbacks.ModelCheckpoint(tmp_path, monitor="outlier_samples")
    with pytest.warns(UserWarning, match="save_on_train_epoch_end=True"):
        fit(package, watch(), checkpoint, check_val_every_n_epoch=2, max_epochs=1, **CHECKPOINTS)


@pytest.mark.parametrize("kind", ["RichProgressBar", "TQDMProgressBar"])
def test_long_probes_are_a_line_of_the_progress_bar(
    package: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.delenv("CI", raising=False)
    for name, value in {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(rich, "_console", None)  # what the bar's options are written into
    options = {"console_kwargs": {"file": shown, "force_terminal": True, "width": 120}}
    bar = getattr(package.callbacks, kind)(**(options if kind == "RichProgressBar" else {}))
    fit(package, watch(), bar, enable_progress_bar=True, max_epochs=1)
    assert "probe: feature maps, network." in shown.getvalue()


def test_the_older_package_is_told_what_it_cannot_take() -> None:
    package: Any = pytest.importorskip("pytorch_lightning")
    data = DigitsDataModule()
    trainer = package.Trainer(**QUIET)
    with pytest.raises(TypeError, match=r"pass train_dataloader\(\) and val_dataloader\(\)"):
        trainer.fit(module_of(package), datamodule=data)
    # What the message says.
    data.prepare_data()
    data.setup("fit")
    callback = watch(probe=data.probe_dataloader())
    trainer = package.Trainer(callbacks=[callback], **{**QUIET, "max_epochs": 1})
    trainer.fit(module_of(package), data.train_dataloader(), data.val_dataloader())
    assert len(callback.history) == 1


def test_the_older_package_is_never_imported_by_us() -> None:
    code = (
        "import sys, filterwatch.callbacks, filterwatch.datamodules, filterwatch.visuals.gallery\n"
        "from lightning.pytorch import Trainer\n"
        "from filterwatch._compat import either\n"
        "assert either(Trainer) == (Trainer,)\n"
        "assert 'pytorch_lightning' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_both_classes_are_asked_for() -> None:
    newer, older = (importlib.import_module(name).Trainer for name in NAMES)
    assert newer is not older
    assert either(newer) == (newer, older)
