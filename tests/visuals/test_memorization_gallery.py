"""The pictures of memorization on their way to loggers, beside those of the count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from memorized import HISTORY, memorization_report
from PIL import Image
from shown import images, report
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_tensorboard import charts
from watched import TinyNet, trainer
from watched import loader as samples

from filterwatch._failures import Failures
from filterwatch.visuals import Pictures
from filterwatch.visuals.drawing import render
from filterwatch.visuals.gallery import Gallery
from filterwatch.visuals.memorization_figures import memorization_map, memorized_samples_figure
from filterwatch.visuals.thumbnails import Thumbnails

MEASURED = [entry for entry in HISTORY if "memorization" in entry]
TRAINING = ([(images(6), torch.tensor([0, 1, 2, 0, 1, 2]))], [30, 31, 32, 33, 34, 35])


class Showing(Callback):
    """Logs and shows known memorization, as the real callback does what it measures."""

    def __init__(self, prefix: str = "", n_samples: int = 4, *, measures: bool = True) -> None:
        self.prefix, self.measures = prefix, measures
        self.history: list[dict[str, Any]] = []
        self.gallery = Gallery(
            Pictures(every_n_epochs=2, n_filters=0, n_samples=n_samples),
            f"{prefix}count",
            Failures("a test", strict=True),
            memorization=f"{prefix}memorization",
        )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        probe = [(images(), torch.arange(60) % 2)]
        self.gallery.start(trainer, probe, None, TRAINING if self.measures else None)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        entry = {**MEASURED[min(trainer.current_epoch, 2)], "epoch": trainer.current_epoch}
        if not self.measures:
            del entry["memorization"]
        self.history.append(entry)
        values = dict(entry.get("memorization", {}))
        values.pop("output", None)
        pl_module.log(f"{self.prefix}count", 1.0)
        if self.measures:
            for name in ("memorization", "generalization_gap", "memorized_samples"):
                pl_module.log(self.prefix + name, 1.0)
            for name, value in values.items():
                pl_module.log(f"{self.prefix}memorization/{name}", value)
        found = memorization_report() if self.measures else None
        self.gallery.end_epoch(trainer, report(n_filters=1), self.history, found)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.gallery.finish(trainer, self.history)


def run(*callbacks: Callback, **options: Any) -> None:
    fitted = trainer(*callbacks, log_every_n_steps=1, **options)
    fitted.fit(TinyNet(), samples(seed=1), samples())


def events(directory: Path) -> EventAccumulator:
    written = next(directory.rglob("events*")).parent
    return EventAccumulator(str(written), size_guidance={"images": 0}).Reload()


def test_tensorboard_gets_both_with_the_steps_of_their_epochs(tmp_path: Path) -> None:
    run(Showing(), logger=TensorBoardLogger(tmp_path), max_epochs=4)
    found = events(tmp_path)
    scalars = [event.step for event in found.Scalars("count")]
    for name in ("layers", "samples"):
        drawn = [event.step for event in found.Images(f"memorization/{name}")]
        assert drawn == [scalars[0], scalars[2], scalars[3]]


def test_without_a_logger_for_images_they_are_files(tmp_path: Path) -> None:
    callback = Showing()
    logger = CSVLogger(tmp_path, name="run", version=0)
    run(callback, logger=logger, max_epochs=1)
    (folder,) = (tmp_path / "run/version_0/memorization").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["layers.png", "samples.png"]
    expected = {
        "layers": memorization_map(callback.history, callback.gallery.curves.loss),
        "samples": memorized_samples_figure(memorization_report(), Thumbnails(*TRAINING), 4),
    }
    for name, figure in expected.items():
        with Image.open(folder / f"{name}.png") as picture:
            assert np.array_equal(np.asarray(picture), render(figure))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n_samples": 0}, {"layers"}),
        ({"measures": False}, set()),
    ],
)
def test_what_is_not_wanted_or_not_known_is_not_drawn(
    options: Any, expected: set[str], tmp_path: Path
) -> None:
    run(Showing(**options), logger=False, max_epochs=1, default_root_dir=tmp_path)
    drawn = {path.stem for path in tmp_path.glob("memorization/*/*.png")}
    assert drawn == expected
    assert list(tmp_path.glob("count/*/layers.png"))


def test_the_layout_matches_what_is_logged(tmp_path: Path) -> None:
    """With names that pass for losses, and a callback first that measures no memorization."""
    first, second = Showing("plain_", measures=False), Showing("lossy_")
    run(first, second, logger=TensorBoardLogger(tmp_path), max_epochs=2)
    tags = events(tmp_path).Tags()["scalars"]
    found = {
        dashboard: {
            title: {tag for tag in tags if any(re.match(pattern, tag) for pattern in patterns)}
            for title, patterns in some.items()
        }
        for dashboard, some in charts(tmp_path).items()
    }
    assert found["Overfitting"] == {
        title: {title}
        for title in (
            "lossy_memorization",
            "lossy_generalization_gap",
            "lossy_memorized_samples",
            "val_loss",
            "plain_count",
            "lossy_count",
        )
    }
    assert list(second.gallery.curves.by_metric) == ["val_loss"]
