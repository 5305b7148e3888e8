"""Does memorization say whether, where, when, and because of which samples a network overfits?

``python -m reproduction memorization``. Everything that is measured of a run is kept in its folder,
so that the command can be called again when more runs have finished.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from zlib import crc32

from reproduction.cells import REGIMES, Cell
from reproduction.lead_time import Run
from reproduction.memorization_alarms import compare_memorization_alarms, memorization_by_epoch
from reproduction.memorization_features import Features, kept
from reproduction.memorization_layers import layers_set_back
from reproduction.memorization_null import (
    Draws,
    held_out_draws,
    summarized,
    untrained_draws,
    untrained_network_draws,
)
from reproduction.memorization_retraining import retraining
from reproduction.memorization_rivals import confident_learning
from reproduction.memorization_suspects import find_wrong_labels, judged
from reproduction.options import Options
from reproduction.result_files import ResultFile
from reproduction.run_folder import UNTRAINED
from reproduction.trained_cells import TrainedCell, trained_cells

# Every other regime is for the simple CNN alone.
REGIMES_OF_ALL = ("overfit", "regularised", "shuffled", "wrong20")
MOST_EPOCHS = {"narrow_resnet18": 10}
# Networks of the package that are looked at before training alone.
UNTRAINED_NETWORKS = ("alexnet", "resnet18")
N_TRAINING = 2000  # all, where labels are wrong
N_HELD_OUT = 4000
DRAWS = 4
UNTRAINED_DRAWS = 12

Body = dict[str, Any]


def memorization(options: Options) -> None:
    """Answer the questions of memorization, as far as runs are there; write after each of them."""
    result = ResultFile(options, "memorization", "Memorization")
    runs: list[TrainedCell] = []
    draws: dict[tuple[str, str], Draws] = {}
    body: Body = {"cells": [], "runs": [], "null": [], "alarms": {}, "retraining": []}
    for row, trained in trained_cells(options, _cells(options)):
        body["cells"].append(row)
        if trained is not None:
            runs.append(trained)
            body["runs"].append(_measure(trained, draws))
            body["null"] = summarized(draws)
            result.write(body)
    for trained in runs[:1]:
        for name in UNTRAINED_NETWORKS:
            draws[name, "untrained"] = kept(
                trained,
                f"null-{name}-{UNTRAINED_DRAWS}",
                partial(untrained_network_draws, trained, name, UNTRAINED_DRAWS),
            )
        body["null"] = summarized(draws)
        result.write(body)
    for model in options.models:
        body["alarms"][model] = _alarms([run for run in runs if run.cell.model == model])
        result.write(body)
    for trained in runs:
        if (trained.cell.model, trained.cell.regime) == ("simple_cnn", "wrong20"):
            body["retraining"].append(retraining(trained))
            result.write(body)


def _cells(options: Options) -> list[Cell]:
    return [
        replace(cell, epochs=min(cell.epochs, MOST_EPOCHS.get(cell.model, cell.epochs)))
        for cell in options.cells()
        if cell.model == "simple_cnn" or cell.regime in REGIMES_OF_ALL
    ]


def _measure(trained: TrainedCell, draws: dict[tuple[str, str], Draws]) -> Body:
    """Measure a run in its best and its last epoch; add to the draws of the null."""
    cell = trained.cell
    body: Body = {"model": cell.model, "regime": cell.regime, "seed": cell.seed}
    if cell.regime == "overfit":  # the others begin with the same weights
        features = _Features(trained, UNTRAINED)
        for state, draw in (
            ("untrained, held-out images alone", held_out_draws),
            ("untrained", untrained_draws),
        ):
            draws.setdefault((cell.model, state), []).extend(
                features.kept_draws(draw, UNTRAINED_DRAWS)
            )
    for state, epoch in (("best", trained.well_trained), ("last", trained.last)):
        features = _Features(trained, epoch)
        draws.setdefault((cell.model, f"{state} epoch, held-out images alone"), []).extend(
            features.kept_draws(held_out_draws, DRAWS)
        )
        body[state] = {"epoch": epoch, **features.kept("values", _values)}
        if REGIMES[cell.regime].wrong_labels:
            body[state]["which"] = _which(trained, epoch, features)
    body["where"] = features.kept("layers", lambda last: layers_set_back(trained, last.report()))
    return body


class _Features:
    """A run's features in one epoch, made when they are first wanted."""

    def __init__(self, trained: TrainedCell, epoch: int) -> None:
        self._trained = trained
        self._epoch = epoch
        self._made: Features | None = None

    def kept(self, name: str, measure: Callable[[Features], Any]) -> Any:
        """Return what is measured of them, from disk where it was measured before."""
        return kept(self._trained, f"{name}-{self._epoch}", lambda: measure(self._get()))

    def kept_draws(self, draw: Callable[[Features, int, int], Draws], n_draws: int) -> Draws:
        """Return draws of the null, which differ from those of every other run and epoch."""
        first_seed = crc32(f"{self._trained.cell.name} {self._epoch}".encode())
        draws: Draws = self.kept(
            f"{draw.__name__}-{n_draws}", lambda features: draw(features, n_draws, first_seed)
        )
        return draws

    def _get(self) -> Features:
        if self._made is None:
            wrong = REGIMES[self._trained.cell.regime].wrong_labels > 0
            self._made = Features.of(
                self._trained,
                self._epoch,
                n_training=len(self._trained.datamodule.train_dataset) if wrong else N_TRAINING,
                n_held_out=N_HELD_OUT,
            )
        return self._made


def _values(features: Features) -> Body:
    report = features.report()
    return {
        "deepest": list(report.hidden)[-1],
        "rows": {name: [row.value, row.standard_error] for name, row in report.layers.items()},
        "memorized_share": [
            value / len(report.labels)
            for value in (report.memorized_samples, report.memorized_error)
        ],
    }


def _which(trained: TrainedCell, epoch: int, features: _Features) -> Body:
    found: Body = features.kept("which", partial(find_wrong_labels, trained, epoch))
    quality = confident_learning(trained)
    if quality is not None:
        wrong = trained.datamodule.train_dataset.is_mislabelled
        found["scores"] |= judged(wrong, {"cleanlab": quality})
    return found


def _alarms(runs: list[TrainedCell]) -> Body | None:
    """Compare alarms on runs that overfit and runs that do not; None without both, or of a seed."""
    those = [
        Run(
            seed=trained.cell.seed,
            overfits=trained.cell.regime == "overfit",
            rows=kept(
                trained,
                f"by_epoch-{trained.last}",
                partial(memorization_by_epoch, trained),
            ),
        )
        for trained in runs
        if trained.cell.regime in ("overfit", "regularised")
    ]
    seeds = {
        overfits: {run.seed for run in those if run.overfits is overfits}
        for overfits in (True, False)
    }
    common = seeds[True] & seeds[False]
    if len(common) < 2:
        return None
    those = [run for run in those if run.seed in common]
    return {
        "epochs": len(those[0].rows),
        "runs": [
            {"seed": run.seed, "overfits": run.overfits, "minimum": run.minimum} for run in those
        ],
        "rules": compare_memorization_alarms(those),
    }
