"""What goes wrong: before training it is an error, while watching a warning."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from watched import FAST, LAYERS, TinyNet, TrainOnly, fit, loader, trainer, watch

from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.detection import AnomalyCriteria


class NoForward(LightningModule):
    """A LightningModule that does everything in its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNet().network

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.network(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.network(batch[0]).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class TwoInputs(TinyNet):
    def forward(self, images: Tensor, scale: Any) -> Any:  # type: ignore[override]
        return super().forward(images * scale)

    def loss(self, batch: Any) -> Tensor:
        return self(batch[0], 1.0).square().mean()


class Dense(TinyNet):
    """A network without convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (NoForward(), {}, r"NoForward cannot run the probe.*forward.*override probe_step"),
        (TwoInputs(), {}, r"TwoInputs cannot run the probe.*scale.*override probe_step"),
        (Dense(), {}, r"Dense ran no 2-D convolution"),
        (TinyNet(), {"layers": ["features.*"]}, r"'features.\*' matches none of: network.0, netw"),
        (TinyNet(), {"max_clusters": 65, "probe_size": 65}, r"probe of 64 .*max_clusters=65"),
        (
            TinyNet(),
            {"criteria": AnomalyCriteria(64), "probe_size": 65},
            r"small_cluster_size=64 makes every cluster of a probe of 64",
        ),
        (
            TinyNet(),
            {"batch_size": 10, "memory_budget": 5000},
            r"memory_budget=5000 bytes is too small.* at least \d+, .* fewer `layers`",
        ),
    ],
)
def test_what_cannot_work_is_an_error_before_training(
    module: LightningModule, options: dict[str, Any], message: str, strict: bool
) -> None:
    callback = watch(strict=strict, **options)
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(ValueError, match=message):
        fit(callback, module=module)
    assert all(map(torch.equal, before, module.parameters()))


def test_a_probe_that_goes_through_in_one_batch_needs_no_memory_for_maps() -> None:
    callback = watch(batch_size=64, memory_budget=1, strict=True)
    fit(callback)
    assert len(callback.history) == 2


def test_rough_points_are_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"memory_budget suffices for \d+ directions .* rough"):
        fit(watch(batch_size=10, memory_budget=20_000, strict=True))


def test_no_validation_data_is_an_error_that_names_the_ways_out() -> None:
    for module in (TrainOnly(),):
        with pytest.raises(ValueError, match=r"no validation.*probe_dataloader\(\).*pass probe="):
            trainer(watch()).fit(module, loader())


def test_batches_without_images_are_an_error() -> None:
    class Flat(TinyNet):
        def forward(self, vectors: Tensor) -> Any:
            return self.network(vectors.unflatten(1, (1, 8, 8)))

    def collate(samples: Any) -> Any:
        images, labels = zip(*samples, strict=True)
        return torch.stack(images).flatten(1), torch.stack(labels)

    with pytest.raises(ValueError, match=r"no images.*\[2, 64\].*probe_step"):
        trainer(watch()).fit(Flat(), loader(collate_fn=collate), loader(collate_fn=collate))


class Failing(AnomalyFilterCallback):
    """Fails to probe in the epochs given, counted from 0."""

    def __init__(self, epochs: set[int], **options: Any) -> None:
        super().__init__(**FAST, **options)
        self.epochs = epochs
        self.trying = True

    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        if not self.trying and pl_module.current_epoch in self.epochs:
            raise RuntimeError(f"out of memory: {torch.rand(1).item()} bytes")
        return super().probe_step(pl_module, batch)

    def on_train_epoch_start(self, trainer: Any, pl_module: LightningModule) -> None:
        self.trying = False


def test_a_failure_warns_once_and_the_last_value_is_logged_again(tmp_path: Path) -> None:
    callback = Failing({1, 2})
    with pytest.warns(UserWarning, match="out of memory") as caught:
        fit(callback, logger=CSVLogger(tmp_path), log_every_n_steps=1, max_epochs=4)
    (message,) = [str(w.message) for w in caught if "could not probe" in str(w.message)]
    assert "in epoch 1; training goes on" in message
    assert [entry["epoch"] for entry in callback.history] == [0, 3]
    counts = [entry["count"] for entry in callback.history]
    assert logged_counts(tmp_path) == [counts[0], counts[0], counts[0], counts[1]]


def test_a_failure_of_the_first_probe_upsets_no_monitor_and_no_curve(tmp_path: Path) -> None:
    callback = Failing({0, 1})
    early_stopping = EarlyStopping("anomaly_filters", mode="min", patience=10)
    checkpoint = ModelCheckpoint(
        tmp_path / "best", monitor="anomaly_filters", mode="min", save_top_k=1
    )
    with pytest.warns(UserWarning, match="could not probe the network in epoch 0"):
        fit(
            callback,
            early_stopping,
            checkpoint,
            max_epochs=3,
            logger=CSVLogger(tmp_path),
            log_every_n_steps=1,
            enable_checkpointing=True,
        )
    (entry,) = callback.history
    assert entry["epoch"] == 2
    assert early_stopping.best_score == checkpoint.best_model_score == entry["count"]
    assert logged_counts(tmp_path) == [entry["count"]]


def test_strict_raises() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(Failing({1}, strict=True))


class Diverging(TinyNet):
    """Puts NaN into the maps of some layers from the second epoch on."""

    def __init__(self, layers: slice) -> None:
        super().__init__()
        self.broken = self.network[layers]
        # NaN travels back in gradients, too.
        self.network[: layers.start].requires_grad_(False)

    def on_train_epoch_end(self) -> None:
        if self.current_epoch == 0:
            for parameter in self.broken.parameters():
                nn.init.constant_(parameter, math.nan)


def test_a_layer_with_nan_is_skipped_once_with_its_reason() -> None:
    callback = watch()
    with pytest.warns(UserWarning, match=r"skips the layer network.[34]: ") as caught:
        fit(callback, module=Diverging(slice(3, 4)), max_epochs=3)
    (message,) = [str(w.message) for w in caught if "network.3" in str(w.message)]
    assert "NaN" in message
    assert list(callback.history[0]["by_layer"]) == LAYERS
    assert list(callback.history[2]["by_layer"]) == LAYERS[:3]
    assert callback.report is not None
    assert set(callback.report.skipped) == set(LAYERS[3:])


def test_a_network_of_nan_alone_has_no_count_of_zero() -> None:
    callback = watch()
    with pytest.warns(UserWarning, match="no layer can be judged"):
        fitted = fit(callback, module=Diverging(slice(0, None)), max_epochs=3)
    assert [entry["epoch"] for entry in callback.history] == [0]
    assert fitted.callback_metrics["anomaly_filters"] == callback.history[0]["count"]


def test_a_healthy_run_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(watch())
    assert [w.message for w in caught if "AnomalyFilterCallback" in str(w.message)] == []


def logged_counts(path: Path) -> list[float]:
    """Return the curve that a CSVLogger wrote."""
    header, *rows = next(path.rglob("metrics.csv")).read_text().splitlines()
    column = header.split(",").index("anomaly_filters")
    return [float(row.split(",")[column]) for row in rows if row.split(",")[column]]
