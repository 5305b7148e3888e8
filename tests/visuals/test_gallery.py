"""When pictures are drawn, at which step, and what happens when drawing fails."""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from matplotlib.figure import Figure
from PIL import Image
from shown import N_SAMPLES, images, report
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from watched import TinyNet, fit, loader, trainer, watch

from filterwatch._failures import Failures
from filterwatch.detection import AnomalyCriteria
from filterwatch.visuals import Pictures, gallery
from filterwatch.visuals.gallery import Gallery
from filterwatch.visuals.thumbnails import Thumbnails

# Flags whatever has a cluster of at most half the probe.
LENIENT = AnomalyCriteria(20, small_cluster_ratio=0, ch_ratio=0, activation_ratio=0)
FEW = Pictures(every_n_epochs=2, n_filters=1, n_samples=2)


class Accurate(TinyNet):
    """Logs an accuracy, a loss of each step and of each epoch, and what a subclass likes."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)
        images, labels = batch
        self.log("val_accuracy", (self(images).argmax(1) == labels).float().mean())


class OwnStep(Accurate):
    """Counts its epochs as steps."""

    def on_train_epoch_end(self) -> None:
        self.log("step", float(self.current_epoch))

    def on_validation_epoch_end(self) -> None:
        self.log("step", float(self.current_epoch))


class TwoOptimizers(Accurate):
    """Steps two optimizers a batch, which count as two global steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        optimizers: Any = self.optimizers()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    def configure_optimizers(self) -> Any:
        halves = (self.network[0].parameters(), self.network[3].parameters())
        return [torch.optim.SGD(half, lr=0.01) for half in halves]


def events(directory: Path) -> EventAccumulator:
    written = next(directory.rglob("events*")).parent
    return EventAccumulator(str(written), size_guidance={"images": 0}).Reload()


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (Accurate, {}),
        (Accurate, {"accumulate_grad_batches": 3}),
        (TwoOptimizers, {}),
        (OwnStep, {}),
    ],
)
def test_pictures_have_the_step_of_their_epochs_scalars(
    module: type[TinyNet], options: Any, tmp_path: Path
) -> None:
    callback = watch(pictures=FEW, criteria=LENIENT)
    logger = TensorBoardLogger(tmp_path)
    fit(callback, module=module(), max_epochs=4, logger=logger, log_every_n_steps=1, **options)
    found = events(tmp_path)
    scalars = [event.step for event in found.Scalars("anomaly_filters")]
    assert len(set(scalars)) == 4

    def steps(name: str) -> list[int]:
        return [event.step for event in found.Images(f"anomaly_filters/{name}")]

    # After the first epoch, two epochs later, and the last one at the end.
    due = [scalars[0], scalars[2], scalars[3]]
    assert steps("layers") == steps("clusters_1") == steps("isolated_samples") == due
    assert steps("training") == [scalars[3]]
    assert [event.step for event in found.Images("memorization/layers")] == due
    assert set(found.Tags()["images"]) - {"memorization/layers", "memorization/samples"} == {
        f"anomaly_filters/{name}"
        for name in ("layers", "clusters_1", "isolated_samples", "training")
    }


def test_between_probes_there_is_nothing_new_to_draw(tmp_path: Path) -> None:
    callback = watch(every_n_epochs=3, pictures=Pictures(1, n_filters=1, n_samples=0))
    fit(callback, max_epochs=5, logger=TensorBoardLogger(tmp_path), log_every_n_steps=1)
    found = events(tmp_path)
    scalars = [event.step for event in found.Scalars("anomaly_filters")]
    drawn = [event.step for event in found.Images("anomaly_filters/layers")]
    assert drawn == [scalars[0], scalars[3]]
    assert [event.step for event in found.Images("anomaly_filters/training")] == [scalars[4]]


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*.png")}


@pytest.mark.parametrize("has_logger", [True, False])
def test_without_a_logger_for_images_they_are_files(has_logger: bool, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="run", version=0) if has_logger else False
    fit(
        watch(pictures=FEW, criteria=LENIENT),
        logger=logger,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
    )
    steps = ["step_0000003", "step_0000007"]
    folder = tmp_path / ("run/version_0" if has_logger else ".") / "anomaly_filters"
    expected = {
        *(f"{step}/{name}.png" for step in steps for name in ("clusters_1", "layers")),
        *(f"{step}/isolated_samples.png" for step in steps),
        f"{steps[1]}/training.png",
    }
    assert files(folder) == expected
    if has_logger:
        metrics = (tmp_path / "run/version_0/metrics.csv").read_text().splitlines()
        column = metrics[0].split(",").index("step")
        assert {row.split(",")[column] for row in metrics[1:]} == {"3", "7"}
    with Image.open(folder / steps[1] / "clusters_1.png") as picture:
        assert picture.size == (960, 520)


def test_every_logger_gets_what_it_takes(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "tensorboard")]
    callback = watch(pictures=FEW, prefix="own_", criteria=LENIENT)
    fit(callback, logger=loggers, max_epochs=1, log_every_n_steps=1)
    assert files(tmp_path) == set()
    found = events(tmp_path / "tensorboard")
    assert "own_anomaly_filters/clusters_1" in found.Tags()["images"]


@pytest.mark.parametrize("options", [{"pictures": False}, {"pictures": True, "fast_dev_run": True}])
def test_no_pictures_where_there_are_to_be_none(options: Any, tmp_path: Path) -> None:
    callback = watch(pictures=options.pop("pictures"))
    fit(callback, default_root_dir=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
    assert "curves" not in callback.state_dict()


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
def test_losses_and_accuracies_survive_a_resume(tmp_path: Path) -> None:
    def run(callback: Any, epochs: int, name: str, **options: Any) -> None:
        fitted = trainer(
            callback,
            ModelCheckpoint(tmp_path / name, filename="last"),
            max_epochs=epochs,
            default_root_dir=tmp_path,
            enable_checkpointing=True,
        )
        fitted.fit(Accurate(), loader(seed=1), loader(), **options)

    whole, first, resumed = (watch(pictures=Pictures(50, n_filters=0)) for _ in range(3))
    run(first, 2, "first")
    run(resumed, 4, "resumed", ckpt_path=tmp_path / "first/last.ckpt")
    run(whole, 4, "whole")
    curves = resumed.gallery.curves.by_metric
    assert set(curves) == {"train_loss", "val_loss", "val_accuracy"}
    assert [epoch for epoch, _ in curves["val_loss"]] == [0, 1, 2, 3]
    assert list(resumed.gallery.curves.accuracy) == ["val_accuracy"]
    state = torch.load(tmp_path / "whole/last.ckpt", weights_only=True)
    assert state["callbacks"][whole.state_key]["curves"]["val_loss"][3][0] == 3


def broken(*args: Any, **kwargs: Any) -> Figure:
    raise RuntimeError("no ink")


def test_failing_to_draw_warns_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "layers_figure", broken)
    callback = watch(pictures=1)
    with pytest.warns(UserWarning, match="could not draw; training goes on. RuntimeError: no ink"):
        fitted = fit(callback, default_root_dir=tmp_path, max_epochs=3)
    assert fitted.current_epoch == 3
    assert len(callback.history) == 3
    with pytest.raises(RuntimeError, match="no ink"):
        fit(watch(pictures=1, strict=True), default_root_dir=tmp_path)


class Counter:
    """Counts the pictures that a Trainer would send."""

    is_global_zero = True
    current_epoch = 0
    loggers: tuple[Any, ...] = ()

    def __init__(self, directory: Path) -> None:
        self.default_root_dir = directory


def filled_gallery(n_filters: int = 8) -> Gallery:
    """Return a gallery at work on a small probe."""
    shown = report(n_filters=n_filters)
    drawn = Gallery(
        Pictures(n_filters=n_filters), "anomaly_filters", Failures("a test", strict=True)
    )
    drawn._report = shown
    drawn._thumbnails = Thumbnails([(images(size=32), torch.arange(N_SAMPLES) % 2)])
    return drawn


HISTORY = [
    {"epoch": epoch, "count": epoch % 7, "by_layer": {f"layer{at}": epoch % 5 for at in range(10)}}
    for epoch in range(100)
]


def test_the_drawings_of_a_hundred_epochs_leave_nothing_behind(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="measures memory, on POSIX systems")
    drawn, running = filled_gallery(n_filters=1), Counter(tmp_path)

    def peak_memory(n_times: int) -> int:
        for number in range(n_times):
            drawn._draw(running, HISTORY[:10])  # type: ignore[arg-type]
            if number % 5 == 4:  # else the peak depends on when the collector comes by itself
                gc.collect()
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux

    before = peak_memory(5)
    after = peak_memory(100 // Pictures().every_n_epochs)
    # The three pictures of one drawing have 1.5, 0.7 and 1 megabytes: 20 drawings have 64.
    assert after - before < 20_000
    # Not isinstance: some of torch's objects warn when they are asked for their class.
    assert [item for item in gc.get_objects() if type(item) is Figure] == []


def crowded_gallery(size: int) -> Gallery:
    """Return a gallery at work on 1,000 samples in 14 clusters a filter, with many outliers."""
    n_samples, n_filters = 1000, 8
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(n_filters, n_samples, 2, generator=generator).double()
    labels = torch.arange(n_samples).expand(n_filters, -1) * 11 // n_samples
    outliers = [list(range(40 * at, 40 * at + 30)) for at in range(n_filters)]
    for row, samples in zip(labels := labels.clone(), outliers, strict=True):
        row[samples] = torch.arange(30) // 10 + 11
    points[torch.arange(n_filters)[:, None], torch.tensor(outliers)] *= 9
    sizes = torch.stack([row.bincount(minlength=14) for row in labels])
    few = report(n_filters=n_filters)
    layer = replace(few.layers["features.conv"], points=points, labels=labels, cluster_sizes=sizes)
    anomalies = [
        replace(anomaly, outliers=samples, cluster_sizes=row.tolist(), n_clusters=14)
        for anomaly, samples, row in zip(few.anomalies, outliers, sizes, strict=True)
    ]
    drawn = Gallery(Pictures(), "anomaly_filters", Failures("a test", strict=True))
    drawn._report = replace(
        few, layers={"features.conv": layer}, anomalies=anomalies, n_samples=n_samples
    )
    noise = torch.randn(256, 3, size, size, generator=generator)
    batches = [(noise[:n], torch.arange(n) % 10) for n in (256, 256, 256, 232)]
    names = [f"class {number}" for number in range(10)]
    drawn._thumbnails = Thumbnails(batches, None, [0.5] * 3, [0.25] * 3, names)
    drawn._thumbnails.predictions = torch.arange(n_samples) % 7
    curve = [(epoch, 1 / (1 + epoch)) for epoch in range(100)]
    drawn.curves.by_metric = dict.fromkeys(["train_loss", "val_loss", "val_accuracy"], curve)
    return drawn


@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage takes time of its own")
@pytest.mark.parametrize("size", [32, 224])
def test_drawing_stays_within_its_budget_of_time(size: int, tmp_path: Path) -> None:
    """At most 1.5 s a time, on one core, whatever else that core has to do."""
    drawn, running = crowded_gallery(size), Counter(tmp_path)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        drawn._draw(running, HISTORY)  # type: ignore[arg-type]
        drawn._send(running, drawn._whole_fit(HISTORY), 0)  # type: ignore[arg-type]
        seconds.append(time.process_time() - started)
    print(f"{size} pixels: {min(seconds):.2f} s")
    assert len(files(tmp_path)) == 11
    assert min(seconds) < 1.5
