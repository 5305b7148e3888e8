"""`Gallery`: decides when a callback's pictures are drawn, draws them, and sends them off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from filterwatch.detection import AnomalyReport, Layer
from filterwatch.visuals.curves import Curves
from filterwatch.visuals.figures import render
from filterwatch.visuals.figures_filters import filter_figure, most_anomalous
from filterwatch.visuals.figures_history import layers_figure, training_figure
from filterwatch.visuals.figures_samples import isolated_samples_figure
from filterwatch.visuals.loggers import scalar_step, send_picture
from filterwatch.visuals.pictures import Pictures
from filterwatch.visuals.tensorboard import scalar_layout, write_projection, writers
from filterwatch.visuals.thumbnails import Thumbnails

if TYPE_CHECKING:  # these import this module
    from filterwatch.callbacks.probe import Probe
    from filterwatch.callbacks.warn_once import WarnOnce

History = Sequence[Mapping[str, Any]]


class Gallery:
    """The pictures of one callback; every method does nothing where there are to be none.

    Pictures have the step of their epoch's scalars, and these names, behind the count's:

    - ``/clusters_1`` …: the most anomalous filter and the next ones,
    - ``/isolated_samples``: the samples that most flagged filters isolate,
    - ``/layers``: the count of each layer in each epoch,
    - ``/training``: at the end of the fit, the count beside accuracy and loss.

    Methods that take a Trainer are called in every process; the first one draws. What fails while
    drawing warns, once for each reason, and training goes on.

    Args:
        pictures: What to draw; ``None`` for nothing.
        metric: The name that the count is logged by, with its prefix.
        warnings: Where failures are told.
        strict: Whether a failure ends the training instead.
    """

    def __init__(
        self, pictures: Pictures | None, metric: str, warnings: WarnOnce, strict: bool = False
    ) -> None:
        self.pictures = pictures
        self.metric = metric
        self.strict = strict
        self.layers: list[str] = []
        self.curves = Curves()
        self._warnings = warnings
        self._active = False
        self._thumbnails: Thumbnails | None = None
        self._report: AnomalyReport | None = None
        # Of the last drawing: the flagged maps, not the report, which may be large.
        self._drawn: set[tuple[str, int]] | None = None
        self._drawn_epoch = 0
        self._is_drawn = False
        self._step = self._report_step = 0
        self._has_layout = False

    def start(self, trainer: Trainer, samples: Probe, layers: Sequence[Layer]) -> None:
        """Begin a fit.

        Args:
            trainer: The Trainer.
            samples: The probe.
            layers: The layers that are watched.

        Raises:
            ValueError: If the projector is to show a filter that there is not, or there is no
                logger that writes for it.
        """
        self._active = self.pictures is not None and not trainer.fast_dev_run  # type: ignore[attr-defined]
        self._thumbnails = self._report = self._drawn = None
        if not self._active:
            return
        self._check_projector(trainer, layers)
        self.layers = [layer.name for layer in layers]
        self.curves.keep_before(trainer.current_epoch)
        self._thumbnails = Thumbnails.of(trainer, samples)
        self._has_layout = False

    def watching(self, forward: Callable[[Any], object]) -> Callable[[Any], object]:
        """Return a forward pass of the probe that also notes what the network predicts."""
        return forward if self._thumbnails is None else self._thumbnails.watching(forward)

    def end_epoch(self, trainer: Trainer, report: AnomalyReport | None, history: History) -> None:
        """Note the epoch's curves, and draw if it is time to; call it in ``on_train_epoch_end``.

        Args:
            trainer: The Trainer.
            report: The newest report.
            history: The callback's history.
        """
        if not self._active:
            return
        self._step = scalar_step(trainer)
        # Every process reads the metrics, because reading may synchronise.
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        own = [gallery.metric for gallery in _galleries(trainer)]
        self.curves.add(
            trainer.current_epoch,
            {name: metrics[name] for name in metrics if not any(part in name for part in own)},
        )
        if trainer.is_global_zero and not self._has_layout:
            self._has_layout = True
            self._attempt(trainer, self._write_layout)
        if report is None or report is self._report:
            return
        self._report, self._report_step, self._is_drawn = report, self._step, False
        if self._is_due(trainer.current_epoch, report):
            self._draw(trainer, history)

    def finish(self, trainer: Trainer, history: History) -> None:
        """Draw the last report and the whole fit; call it in ``on_train_end``.

        Args:
            trainer: The Trainer.
            history: The callback's history.
        """
        if self._active and self._report is not None:
            if not self._is_drawn:
                self._draw(trainer, history)
            if trainer.is_global_zero:
                self._attempt(trainer, self._draw_training, history)
                self._attempt(trainer, self._write_projection)
        self._active = False
        self._thumbnails = self._report = self._drawn = None

    def _check_projector(self, trainer: Trainer, layers: Sequence[Layer]) -> None:
        assert self.pictures is not None
        if self.pictures.projector is None:
            return
        layer, channel = self.pictures.projector
        channels = {found.name: len(found.sources) for found in layers}
        if layer not in channels:
            raise ValueError(
                f"projector: no layer {layer!r} is watched, only {', '.join(channels)}"
            )
        if channel >= channels[layer]:
            raise ValueError(
                f"projector: there is no channel {channel} in {layer}, which has {channels[layer]}"
            )
        if not any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
            raise ValueError(
                f"projector={self.pictures.projector} is for TensorBoard: give the Trainer a "
                "TensorBoardLogger, or leave the projector out"
            )

    def _is_due(self, epoch: int, report: AnomalyReport) -> bool:
        assert self.pictures is not None
        if self._drawn is None or epoch - self._drawn_epoch >= self.pictures.every_n_epochs:
            return True
        if self.pictures.change is None:
            return False
        now = _flagged(report)
        return len(now ^ self._drawn) > self.pictures.change * len(now | self._drawn)

    def _draw(self, trainer: Trainer, history: History) -> None:
        assert self._report is not None
        self._drawn, self._drawn_epoch = _flagged(self._report), trainer.current_epoch
        self._is_drawn = True
        if trainer.is_global_zero:
            self._attempt(trainer, self._draw_report, history)

    def _draw_report(self, trainer: Trainer, history: History) -> None:
        for name, figure in self._figures(history):
            self._send(trainer, name, figure, self._report_step)

    def _figures(self, history: History) -> Iterator[tuple[str, Figure]]:
        report, pictures, thumbnails = self._report, self.pictures, self._thumbnails
        assert report is not None
        assert pictures is not None
        assert thumbnails is not None
        for place, anomaly in enumerate(most_anomalous(report, pictures.n_filters), start=1):
            yield f"clusters_{place}", filter_figure(report, anomaly, thumbnails)
        if pictures.n_samples and report.outlier_samples():
            figure = isolated_samples_figure(report, thumbnails, pictures.n_samples)
            yield "isolated_samples", figure
        yield "layers", layers_figure(history)

    def _draw_training(self, trainer: Trainer, history: History) -> None:
        figure = training_figure(history, self.curves.accuracy, self.curves.loss)
        self._send(trainer, "training", figure, self._step)

    def _send(self, trainer: Trainer, name: str, figure: Figure, step: int) -> None:
        send_picture(trainer, f"{self.metric}/{name}", render(figure), step)

    def _write_layout(self, trainer: Trainer) -> None:
        """Write the layout of TensorBoard's custom scalars, for all callbacks of the Trainer."""
        galleries = _galleries(trainer)
        if galleries[0] is not self:
            return  # a run has one layout, and it is written already
        layout = scalar_layout(
            bool(self.curves.loss),
            bool(self.curves.accuracy),
            {gallery.metric: gallery.layers for gallery in galleries},
        )
        for writer in writers(trainer):
            writer.add_custom_scalars(layout)

    def _write_projection(self, trainer: Trainer) -> None:
        report, thumbnails = self._report, self._thumbnails
        assert self.pictures is not None
        assert report is not None
        assert thumbnails is not None
        if self.pictures.projector is None:
            return
        layer, channel = self.pictures.projector
        if layer not in report.layers:
            raise ValueError(f"projector: {layer} was skipped: {report.skipped.get(layer)}")
        points, labels = report.layers[layer].points, report.layers[layer].labels
        assert points is not None
        assert labels is not None
        for writer in writers(trainer):
            write_projection(
                writer,
                f"{layer}, channel {channel}",
                points[channel],
                labels[channel],
                thumbnails,
                self._report_step,
            )

    def _attempt(self, trainer: Trainer, draw: Callable[..., None], *args: Any) -> None:
        try:
            draw(trainer, *args)
        except Exception as error:
            if self.strict:
                raise
            reason = f"{type(error).__name__}: {error}"
            self._warnings.warn(
                reason, f"AnomalyFilterCallback could not draw; training goes on. {reason}"
            )


def _galleries(trainer: Trainer) -> list[Gallery]:
    """Return the galleries that draw in this fit."""
    return [
        gallery
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(gallery := getattr(callback, "_gallery", None), Gallery) and gallery._active
    ]


def _flagged(report: AnomalyReport) -> set[tuple[str, int]]:
    return {(anomaly.layer, anomaly.channel) for anomaly in report.anomalies}
