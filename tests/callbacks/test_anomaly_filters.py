"""`AnomalyFilterCallback` in a Trainer: what is logged and kept, and when."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, callbacks
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional as F
from watched import DETECTION, FAST, LAYERS, TinyNet, dataset, fit, loader, trainer, watch

from filterwatch.callbacks import AnomalyFilterCallback, anomaly_filters
from filterwatch.detection import Compilation, detect_anomaly_filters

COUNTS = {"anomaly_filters", "anomaly_filters_distinct", "outlier_samples"}
KEYS = {
    *COUNTS,
    "anomaly_filters_seconds",
    *(f"anomaly_filters_by_layer/{layer}" for layer in LAYERS),
    *("memorization", "generalization_gap", "memorized_samples"),
    *("memorization/network.1", "memorization/network.4"),
}


class MetricsOfEachEpoch(Callback):
    """Reads, at an epoch's end and as a monitor would, what the last epoch but one logged."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch:
            self._read(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read(trainer)

    def _read(self, trainer: Trainer) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.epochs.append(metrics)


def test_logs_the_report_of_each_epoch() -> None:
    callback, metrics = watch(), MetricsOfEachEpoch()
    fitted = fit(callback, metrics)

    assert {name for name in metrics.epochs[0] if name != "val_loss"} == KEYS
    assert [entry["epoch"] for entry in callback.history] == [0, 1]
    for entry, logged in zip(callback.history, metrics.epochs, strict=True):
        assert logged["anomaly_filters"] == entry["count"] == sum(entry["by_layer"].values())
        assert logged["anomaly_filters_distinct"] == entry["distinct"]
        assert logged["outlier_samples"] == entry["outlier_samples"]
        assert logged["anomaly_filters_seconds"] > 0
        for layer in LAYERS:
            assert logged[f"anomaly_filters_by_layer/{layer}"] == entry["by_layer"][layer]
    assert callback.report is not None
    assert callback.report.count == callback.history[-1]["count"]
    assert "anomaly_filters" in fitted.progress_bar_metrics
    assert "outlier_samples" not in fitted.progress_bar_metrics


def test_counts_what_detection_counts_on_the_same_samples() -> None:
    callback, module = watch(seed=3), TinyNet()
    fit(callback, module=module)
    images = dataset().tensors[0][callback.probe_indices]
    expected = detect_anomaly_filters(module, images, **DETECTION, seed=3)
    assert callback.report is not None
    assert callback.report.to_dict()["anomalies"] == expected.to_dict()["anomalies"]
    assert callback.history[-1]["by_layer"] == expected.count_by_layer


def test_curves_reach_tensorboard(tmp_path: Any) -> None:
    callback = watch()
    fit(callback, logger=TensorBoardLogger(tmp_path), log_every_n_steps=1)
    events = EventAccumulator(str(next(tmp_path.rglob("events*")).parent)).Reload()
    curve = [event.value for event in events.Scalars("anomaly_filters")]
    assert curve == [entry["count"] for entry in callback.history]
    assert "anomaly_filters_by_layer/network.0" in events.Tags()["scalars"]


def test_works_without_tensorboard(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    callback = watch()
    fit(callback, logger=CSVLogger(tmp_path), log_every_n_steps=1)
    assert "anomaly_filters" in next(tmp_path.rglob("metrics.csv")).read_text()


def test_between_probes_the_last_values_are_logged_again() -> None:
    callback, metrics = watch(every_n_epochs=2), MetricsOfEachEpoch()
    fit(callback, metrics, max_epochs=4)
    assert [entry["epoch"] for entry in callback.history] == [0, 2]
    own = [{name: epoch[name] for name in KEYS} for epoch in metrics.epochs]
    assert own[0] == own[1]
    assert own[2] == own[3]
    assert own[1] != own[2]


def test_fast_dev_run_probes_once_with_few_samples() -> None:
    callback = watch(probe_size=64)
    fit(callback, fast_dev_run=True)
    assert len(callback.history) == 1
    assert callback.report is not None
    assert callback.report.n_samples < 64


@pytest.mark.parametrize("limit", [0, 2, 0.5])
def test_limit_val_batches_does_not_touch_the_probe(limit: float) -> None:
    limited, whole = watch(), watch()
    fit(limited, limit_val_batches=limit)
    fit(whole)
    assert limited.probe_indices == whole.probe_indices
    assert limited.history[0] == whole.history[0]  # validating draws, and changes later epochs
    counts = [[entry["count"] for entry in each.history] for each in (limited, whole)]
    assert counts[0] == counts[1]


def test_the_sanity_check_and_validation_alone_do_not_probe() -> None:
    callback = watch()
    validated = trainer(callback)
    validated.validate(TinyNet(), loader(), verbose=False)
    assert callback.history == []
    fit(callback, num_sanity_val_steps=2)
    assert len(callback.history) == 2


def test_a_second_fit_goes_on_where_the_trainer_does() -> None:
    callback, module = watch(), TinyNet()
    fitted = fit(callback, module=module)
    fitted.fit_loop.max_epochs = 3
    fitted.fit(module, loader(seed=1, shuffle=True), loader())
    assert [entry["epoch"] for entry in callback.history] == [0, 1, 2]
    fit(callback)
    assert [entry["epoch"] for entry in callback.history] == [0, 1]


def test_several_callbacks_log_under_prefixes_of_their_own() -> None:
    first = watch(prefix="first_", layers=["network.[0-2]"])
    second = watch(prefix="second_", layers=["network.[34]"])
    metrics = fit(first, second).callback_metrics
    assert metrics["first_anomaly_filters"] == first.history[-1]["count"]
    assert metrics["second_anomaly_filters"] == second.history[-1]["count"]
    assert list(first.history[0]["by_layer"]) == LAYERS[:3]
    assert list(second.history[0]["by_layer"]) == LAYERS[3:]
    assert first.state_key != second.state_key
    # A prefix is also what tells their states in a checkpoint apart.
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `AnomalyFilt"):
        trainer(watch(seed=0), watch(seed=1))
    fitted = trainer(watch(seed=0))
    fitted.callbacks.append(watch(seed=1))
    with pytest.raises(ValueError, match=r"prefix=''.*give each a prefix"):
        fitted.fit(TinyNet(), loader(seed=1), loader())


class TupleOutput(TinyNet):
    """A network that returns more than its logits."""

    def forward(self, images: Tensor) -> Any:
        hidden = self.network[:-1](images)
        return {"logits": self.network[-1](hidden)}, hidden

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch["image"])[0]["logits"], batch["label"])


def test_dict_batches_and_any_kind_of_output() -> None:
    def collate(samples: list[Any]) -> dict[str, Tensor]:
        images, labels = zip(*samples, strict=True)
        return {"label": torch.stack(labels), "image": torch.stack(images)}

    callback, module = watch(), TupleOutput()
    trainer(callback).fit(module, loader(collate_fn=collate), loader(collate_fn=collate))
    assert list(callback.history[-1]["by_layer"]) == LAYERS
    assert callback.report is not None
    assert callback.report.n_samples == 40


class Adversaries(LightningModule):
    """Two networks, two optimizers, and a forward that does not take images."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8)))
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(144, 1)
        )

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        noise = torch.randn(len(batch[0]), 3)
        losses = [
            -self.discriminator(self(noise)).mean(),
            self.discriminator(self(noise).detach()).mean() - self.discriminator(batch[0]).mean(),
        ]
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", self.discriminator(batch[0]).mean())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        parts = (self.generator, self.discriminator)
        return [torch.optim.SGD(part.parameters(), lr=0.01) for part in parts]


class DiscriminatorWatch(AnomalyFilterCallback):
    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        return pl_module.discriminator(batch[0])


def test_probe_step_says_how_a_batch_goes_through_an_unusual_module() -> None:
    with pytest.raises(ValueError, match=r"Adversaries cannot run the probe.*probe_step"):
        fit(watch(), module=Adversaries())
    callback = DiscriminatorWatch(**FAST)
    fit(callback, module=Adversaries())
    assert list(callback.history[-1]["by_layer"]) == ["discriminator.0", "discriminator.1"]


def test_pickle_and_deepcopy_keep_the_history() -> None:
    callback = watch(layers=["network.*"])
    fit(callback)
    for copied in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert copied.history == callback.history
        assert copied.state_key == callback.state_key


@pytest.mark.skipif(not hasattr(callbacks, "WeightAveraging"), reason="new in Lightning 2.6")
def test_beside_weight_averaging() -> None:
    alone, beside = watch(), watch()
    fit(alone)
    fit(beside, callbacks.WeightAveraging())
    assert beside.history == alone.history


def test_what_is_compiled_is_said_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first probe on a machine may have to wait, for a reason that users should know."""
    started: list[Compilation] = []

    def start() -> Compilation:
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])
        started.append(Compilation({"clustering": sleeper}, "some/folder"))
        return started[0]

    monkeypatch.setattr(anomaly_filters, "start_compiling", start)
    with caplog.at_level("INFO"):
        callback = watch()
        fit(callback, max_epochs=2)
    said = [record.message for record in caplog.records if "compiled" in record.message]
    assert len(said) == 1
    assert "some/folder" in said[0]
    assert started[0].seconds_waited > 0.5
    assert max(callback.record.seconds) < started[0].seconds_waited


def test_a_fit_that_ends_early_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    monkeypatch.setattr(
        anomaly_filters, "start_compiling", lambda: Compilation({"clustering": sleeper})
    )

    class Interrupts(Callback):
        def on_train_start(self, *_: object) -> None:
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fit(watch(), Interrupts())
    assert sleeper.returncode is not None
