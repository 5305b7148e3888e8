"""`Gallery`: decides when a callback's pictures are drawn, draws them, and sends them off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from matplotlib.figure import Figure

from filterwatch._checks import check_integer
from filterwatch._compat import callbacks_of, is_fast_dev_run, scalar_step
from filterwatch._failures import Failures
from filterwatch.detection import AnomalyReport
from filterwatch.memorization import MemorizationReport
from filterwatch.visuals.drawing import render
from filterwatch.visuals.filter_figures import (
    filter_figure,
    isolated_samples_figure,
    most_anomalous,
    nearest_filter_figure,
)
from filterwatch.visuals.history_figures import Curves, layers_figure, training_figure
from filterwatch.visuals.loggers import memorization_names, send_layout, send_picture
from filterwatch.visuals.memorization_figures import memorization_map, memorized_samples_figure
from filterwatch.visuals.thumbnails import Thumbnails

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Pictures:
    """What `AnomalyFilterCallback` draws, and how often.

    Pictures are drawn after the first probe, then with the first probe that is ``every_n_epochs``
    or more after the last drawing, and at the end of the fit. ``fast_dev_run`` draws nothing.

    Args:
        every_n_epochs: Draw again after so many epochs.
        n_filters: Draw so many flagged filters each time, the most anomalous ones; 0 draws none.
        n_samples: Draw so many samples, those isolated most often, and as many memorized ones; 0
            draws none.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    every_n_epochs: int = 5
    n_filters: int = 8
    n_samples: int = 32

    def __post_init__(self) -> None:
        check_integer("every_n_epochs", self.every_n_epochs, 1)
        check_integer("n_filters", self.n_filters, 0)
        check_integer("n_samples", self.n_samples, 0)


def chosen_pictures(pictures: Pictures | bool | int) -> Pictures | None:
    """Return what a callback's argument ``pictures`` stands for; ``None`` draws nothing.

    Raises:
        TypeError: If it has the wrong type.
        ValueError: If it is an integer below 1.
    """
    if isinstance(pictures, Pictures):
        return pictures
    if isinstance(pictures, bool):
        return Pictures() if pictures else None
    if not isinstance(pictures, int):
        raise TypeError(
            f"pictures={pictures!r} says nothing about pictures: pass True or False, a number of "
            "epochs between drawings, or Pictures(...)"
        )
    if pictures < 1:
        raise ValueError(
            f"pictures={pictures} is no number of epochs between drawings: pass 1 or more, or "
            "False to draw nothing"
        )
    return Pictures(every_n_epochs=pictures)


class Gallery:
    """The pictures of one callback; every method does nothing where there are to be none.

    Pictures have the step of their epoch's scalars, and these names, behind that of memorization:

    - ``/layers``: the memorization of each layer in each epoch,
    - ``/samples``: the training samples learned by heart,

    and behind the count's:

    - ``/clusters_1`` …: the most anomalous filter and the next ones, or, with none flagged, the one
      that comes nearest,
    - ``/isolated_samples``: the samples that most flagged filters isolate,
    - ``/layers``: the count of each layer in each epoch,
    - ``/training``: at the end of the fit, the count beside accuracy and loss.

    Methods that take a Trainer are called in every process; the first one draws. The callback has
    its gallery as the attribute ``gallery``, by which those of one Trainer find each other. The
    count is logged by the name ``metric``, the memorization by its own.
    """

    def __init__(
        self,
        pictures: Pictures | None,
        metric: str,
        failures: Failures,
        *,
        memorization: str = "memorization",
    ) -> None:
        self.pictures = pictures
        self.metric = metric
        self.memorization = memorization
        self.curves = Curves()
        self._failures = failures
        self._thumbnails: Thumbnails | None = None  # while a fit runs that is drawn
        self._training: Thumbnails | None = None  # those of the training probe
        self._report: AnomalyReport | None = None
        self._memorized: MemorizationReport | None = None
        self._is_drawn = False
        self._drawn_epoch: int | None = None
        self._step = self._report_step = 0
        self._has_layout = False
        self.is_measured = False  # whether memorization is known

    def start(
        self,
        trainer: Trainer,
        batches: list[Any],
        indices: list[int] | None,
        training: tuple[list[Any], list[int] | None] | None = None,
    ) -> None:
        """Begin a fit.

        Batches and indices, of the probe and of the training probe, are as in `Thumbnails`.
        """
        self._thumbnails = self._training = self._report = self._memorized = None
        self._drawn_epoch = None
        if self.pictures is None or is_fast_dev_run(trainer):
            return
        self.curves.keep_before(trainer.current_epoch)
        self._has_layout = False
        # Images that only `probe_step` finds are not there to be drawn.
        with self._failures.softly("draw", "no pictures are drawn"):
            self._thumbnails = Thumbnails.of(trainer, batches, indices)
        if training is not None:
            with self._failures.softly("draw", "no memorized samples are drawn"):
                self._training = Thumbnails.of(trainer, *training)

    def noting_predictions(self, forward: Callable[[Any], object]) -> Callable[[Any], object]:
        """Return a forward pass of the probe that also notes what the network predicts."""
        return forward if self._thumbnails is None else self._thumbnails.noting_predictions(forward)

    def end_epoch(
        self,
        trainer: Trainer,
        report: AnomalyReport | None,
        history: History,
        memorization: MemorizationReport | None = None,
    ) -> None:
        """In ``on_train_epoch_end``: note the curves, and draw the newest reports if that is due.

        Args:
            trainer: The Trainer.
            report: The newest report.
            history: That of the callback.
            memorization: The report of the same probe; ``None`` where it was not measured.
        """
        if self.pictures is None or self._thumbnails is None:
            return
        epoch = trainer.current_epoch
        self._step = scalar_step(trainer)
        galleries = _galleries(trainer)
        own = tuple(
            name
            for gallery in galleries
            for name in (gallery.metric, *memorization_names(gallery.memorization))
        )
        # Every process reads the metrics, because reading may synchronize.
        metrics = trainer.callback_metrics.items()
        known = {name: float(value) for name, value in metrics if not name.startswith(own)}
        self.curves.add(epoch, known)
        if not self._has_layout:
            self._has_layout = True
            self.is_measured = bool(history and history[-1].get("memorization"))
            self._write_layout(trainer, galleries, known)
        if report is None or report is self._report:
            return
        self._report, self._report_step, self._is_drawn = report, self._step, False
        self._memorized = memorization
        last = self._drawn_epoch
        if last is None or epoch - last >= self.pictures.every_n_epochs:
            self._draw(trainer, history)

    def finish(self, trainer: Trainer, history: History) -> None:
        """In ``on_train_end``: draw the last report and the whole fit."""
        if self._report is not None:
            if not self._is_drawn:
                self._draw(trainer, history)
            self._send(trainer, self._whole_fit(history), self._step)
        self._thumbnails = self._training = self._report = self._memorized = None

    def _draw(self, trainer: Trainer, history: History) -> None:
        self._drawn_epoch, self._is_drawn = trainer.current_epoch, True
        self._send(trainer, self._figures(history), self._report_step)

    def _figures(self, history: History) -> Iterator[tuple[str, Figure]]:
        report, pictures, thumbnails = self._report, self.pictures, self._thumbnails
        assert report is not None
        assert pictures is not None
        assert thumbnails is not None
        yield from self._memorization_figures(history)
        shown = most_anomalous(report, pictures.n_filters)
        for place, anomaly in enumerate(shown, start=1):
            yield f"{self.metric}/clusters_{place}", filter_figure(report, anomaly, thumbnails)
        if pictures.n_filters and not shown:
            yield f"{self.metric}/clusters_1", nearest_filter_figure(report, thumbnails)
        if pictures.n_samples:
            drawn = isolated_samples_figure(report, thumbnails, pictures.n_samples)
            yield f"{self.metric}/isolated_samples", drawn
        yield f"{self.metric}/layers", layers_figure(history)

    def _memorization_figures(self, history: History) -> Iterator[tuple[str, Figure]]:
        assert self.pictures is not None
        if any("memorization" in entry for entry in history):
            yield f"{self.memorization}/layers", memorization_map(history, self.curves.loss)
        n_samples, report, thumbnails = self.pictures.n_samples, self._memorized, self._training
        if n_samples and report and thumbnails and not math.isnan(report.memorized_samples):
            drawn = memorized_samples_figure(report, thumbnails, n_samples)
            yield f"{self.memorization}/samples", drawn

    def _whole_fit(self, history: History) -> Iterator[tuple[str, Figure]]:
        drawn = training_figure(history, self.curves.accuracy, self.curves.loss)
        yield f"{self.metric}/training", drawn

    def _send(self, trainer: Trainer, drawn: Iterator[tuple[str, Figure]], step: int) -> None:
        if trainer.is_global_zero:
            with self._failures.softly("draw"):
                for name, figure in drawn:
                    send_picture(trainer, name, render(figure), step)

    def _write_layout(
        self, trainer: Trainer, galleries: list[Gallery], known: Mapping[str, float]
    ) -> None:
        """Write the layout of TensorBoard's custom scalars: one, for all callbacks of the fit."""
        if trainer.is_global_zero and galleries[-1:] == [self]:  # when all know what is measured
            loss, accuracy = (
                # What loggers have of a metric that is logged by step, too.
                [f"{name}_epoch" if f"{name}_epoch" in known else name for name in curves]
                for curves in (self.curves.loss, self.curves.accuracy)
            )
            counts = [gallery.metric for gallery in galleries]
            memorization = [gallery.memorization for gallery in galleries if gallery.is_measured]
            with self._failures.softly("draw"):
                send_layout(trainer, loss, accuracy, counts, memorization)


def _galleries(trainer: Trainer) -> list[Gallery]:
    """Return the galleries that draw in this fit."""
    found = (getattr(callback, "gallery", None) for callback in callbacks_of(trainer))
    return [item for item in found if isinstance(item, Gallery) and item._thumbnails is not None]
