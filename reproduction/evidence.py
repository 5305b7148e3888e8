"""The questions that a reviewer asks of the method (`python -m reproduction evidence`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reproduction.cells import Cell
from reproduction.choosing_defaults import select
from reproduction.lead_time import Run, compare_alarms
from reproduction.options import Options
from reproduction.rank_correlations import correlations
from reproduction.result_files import ResultFile
from reproduction.sensitivity import last_epoch_counts, sensitivity
from reproduction.signals import epoch_signals
from reproduction.trained_cells import READINGS, TrainedCell, trained_cells

# Short runs on a reduced training set: enough of them to speak of rates.
SHORT_SEEDS = tuple(range(12))
SHORT_EPOCHS = 30
SHORT_TRAIN_SIZE = 8000
SHORT_MODELS = ("lenet5", "simple_cnn")
SHUFFLED_EPOCHS = 25


def evidence(options: Options) -> None:
    """Answer the questions, as far as their runs are there, and write after each of them."""
    result = ResultFile(options, "evidence", "Evidence beyond the paper")
    body: dict[str, Any] = {"readings": {name: read.title for name, read in READINGS.items()}}
    cells: list[dict[str, Any]] = []
    runs: dict[tuple[str, str], list[TrainedCell]] = {}
    for row, trained in trained_cells(options, options.cells()):
        cells.append(row)
        if trained is not None:
            runs.setdefault((trained.cell.model, trained.cell.regime), []).append(trained)
    body["cells"] = cells
    for model in options.models:
        overfitting = runs.get((model, "overfit"), [])
        regularised = runs.get((model, "regularised"), [])
        found: dict[str, Any] = {}
        body.setdefault("models", {})[model] = found
        found["follow"] = [_follow(trained) for trained in [*overfitting, *regularised]]
        result.write(body)
        pairs = _pairs(overfitting, regularised)
        if pairs:
            found["selection"] = select(pairs)
            result.write(body)
        found["sensitivity"] = sensitivity(overfitting, regularised)
        result.write(body)
    body["shuffled"] = _shuffled(options, cells)
    result.write(body)
    body["lead_time"] = {}
    for model in SHORT_MODELS:
        if model in options.models:
            body["lead_time"][model] = _lead_time(options, model, cells)
            result.write(body)


def _follow(trained: TrainedCell) -> dict[str, Any]:
    rows = epoch_signals(trained)
    return {
        "regime": trained.cell.regime,
        "seed": trained.cell.seed,
        "well_trained_epoch": trained.well_trained,
        "rows": rows,
        "correlations": correlations(rows),
    }


def _pairs(
    overfitting: list[TrainedCell], regularised: list[TrainedCell]
) -> list[tuple[TrainedCell, TrainedCell]]:
    partners = {trained.cell.seed: trained for trained in regularised}
    return [
        (trained, partners[trained.cell.seed])
        for trained in overfitting
        if trained.cell.seed in partners
    ]


def _shuffled(options: Options, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs on shuffled labels, beside such on the same images with their labels."""
    found: dict[str, Any] = {}
    for model in options.models:
        for regime in ("shuffled", "overfit"):
            wanted = [
                replace(_short(model, regime, seed), epochs=SHUFFLED_EPOCHS)
                for seed in options.seeds
            ]
            runs = _trained(options, wanted, cells)
            found.setdefault(model, {})[regime] = {
                name: last_epoch_counts(runs, reading) for name, reading in READINGS.items()
            }
    return found


def _lead_time(options: Options, model: str, cells: list[dict[str, Any]]) -> dict[str, Any]:
    runs = []
    for regime in ("overfit", "regularised"):
        wanted = [_short(model, regime, seed) for seed in SHORT_SEEDS]
        runs += [
            Run(
                seed=trained.cell.seed,
                overfits=regime == "overfit",
                rows=epoch_signals(trained),
            )
            for trained in _trained(options, wanted, cells)
        ]
    found: dict[str, Any] = {
        "train_size": SHORT_TRAIN_SIZE,
        "epochs": SHORT_EPOCHS,
        "runs": [
            {"seed": run.seed, "overfits": run.overfits, "minimum": run.minimum, "rows": run.rows}
            for run in runs
        ],
    }
    if {run.overfits for run in runs} == {True, False} and len({run.seed for run in runs}) > 1:
        found |= compare_alarms(runs)
    return found


def _short(model: str, regime: str, seed: int) -> Cell:
    return Cell(
        model=model,
        dataset="cifar10",
        regime=regime,
        seed=seed,
        epochs=SHORT_EPOCHS,
        train_size=SHORT_TRAIN_SIZE,
    )


def _trained(
    options: Options, wanted: list[Cell], cells: list[dict[str, Any]]
) -> list[TrainedCell]:
    runs = []
    for row, trained in trained_cells(options, wanted):
        cells.append(row)
        if trained is not None:
            runs.append(trained)
    return runs
