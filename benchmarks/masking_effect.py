"""Does masking anomaly filters while training help? Five ways to train, side by side.

    python -m benchmarks.masking_effect --data FOLDER --seeds 0 1 2 --epochs 25 \
        --output docs/results/masking_effect.json

FOLDER holds train/<class> and test/<class>, CIFAR-10 as images. The simple CNN is trained with
Adam; validation images and the probe are split off the training images, so that neither what is
masked nor which epoch is selected has seen a test image. The arms:

- none: nothing but training
- masks: MaskFilters
- verified: MaskFilters(verify=True)
- random: as many filters masked in the same epochs and layers as in the arm masks of the same seed,
  chosen at random among those that are not flagged
- weight_decay: no masks, but an L2 penalty

Each finished cell (arm and seed) is a file in a folder beside the output, and cells that are there
already are not run again. Processes may share an output: give each its own --arms or --seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

import filterwatch
from filterwatch import AnomalyCriteria, AnomalyReport, MaskFilters, StopTraining
from filterwatch.actions import FlaggedFilter, RunningFit
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.datamodules import CIFAR10DataModule, ImageFolderDataModule
from filterwatch.models import ImageClassifier

ARMS = ("none", "masks", "verified", "random", "weight_decay")

# Those of the paper's masking experiment: criteria 2 and 3 are stricter than the count's, and small
# clusters larger, so that the same filters are flagged from epoch to epoch.
CRITERIA = AnomalyCriteria.paper(3)
MASKING: dict[str, Any] = {"start_epoch": 5, "patience": 2, "max_fraction": 0.1}


class RandomMasks(MaskFilters):
    """Masks random filters, where and when another run masked flagged ones."""

    def __init__(self, events: Iterable[dict[str, Any]], seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._places = Counter(
            (entry["epoch"], entry["layer"]) for entry in events if entry["event"] == "masked"
        )
        self._seed = seed

    def choose(
        self, flagged: Sequence[FlaggedFilter], report: AnomalyReport, fit: RunningFit
    ) -> list[tuple[str, int]]:
        assert self.masks is not None
        epoch = fit.history[-1]["epoch"]
        excluded = {entry.filter for entry in flagged} | set(self.masks.filters)
        generator = torch.Generator().manual_seed(self._seed * 2**20 + epoch)
        chosen: list[tuple[str, int]] = []
        for name, layer in report.layers.items():
            places = self._places[epoch, name] if layer.kind == "convolution" else 0
            dead = set(layer.dead)
            free = [
                (name, channel)
                for channel in range(len(layer.sources))
                if (name, channel) not in excluded and channel not in dead
            ]
            order = torch.randperm(len(free), generator=generator).tolist()
            chosen += [free[index] for index in order[:places]]
        return chosen


class Curves(Callback):
    """Keeps the metrics of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wanted = ("val_loss", "val_accuracy", "anomaly_filters", "masked_filters")
        metrics = trainer.callback_metrics
        self.epochs.append({name: float(metrics[name]) for name in wanted if name in metrics})


def run_cell(arm: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one network, and test it as it is at the end and at the epoch of least loss."""
    started = time.perf_counter()
    seed_everything(seed, verbose=False)
    data = ImageFolderDataModule(
        str(arguments.data),
        mean=CIFAR10DataModule.mean,
        std=CIFAR10DataModule.std,
        seed=seed,
        batch_size=arguments.batch_size,
        train_size=arguments.train_size,
    )
    model = ImageClassifier(
        "simple_cnn",
        num_classes=data.num_classes,
        weight_decay=arguments.weight_decay if arm == "weight_decay" else 0.0,
    )
    action = _action(arm, seed, arguments)
    watching = AnomalyFilterCallback(
        probe_size=arguments.probe_size,
        max_clusters=arguments.max_clusters,
        action=action,
        strict=True,
        print_summary=False,
        pictures=False,
    )
    curves = Curves()
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, filename="best", monitor="val_loss")
        trainer = Trainer(
            accelerator=arguments.accelerator,
            max_epochs=arguments.epochs,
            logger=False,
            callbacks=[watching, curves, best],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(model, data)
        # Testing another checkpoint brings the masks and events of that one back.
        masked = 0 if action is None or action.masks is None else len(action.masks.filters)
        events = [] if action is None else list(action.history)
        last = trainer.test(model, data, verbose=False)[0]
        selected = trainer.test(model, data, ckpt_path=best.best_model_path, verbose=False)[0]
    losses = [epoch["val_loss"] for epoch in curves.epochs]
    return {
        "arm": arm,
        "seed": seed,
        "settings": _settings(arguments),
        "last": {"epoch": len(losses) - 1, **last},
        "selected": {"epoch": losses.index(min(losses)), **selected},
        "masked": masked,
        "curves": curves.epochs,
        "events": events,
        "seconds": round(time.perf_counter() - started, 1),
        "versions": {
            "filterwatch": filterwatch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "threads": torch.get_num_threads(),
    }


def markdown(cells: Sequence[dict[str, Any]]) -> str:
    """Return the table for the docs: means over seeds, with their standard deviations."""
    by_arm = {arm: {c["seed"]: c for c in cells if c["arm"] == arm} for arm in ARMS}
    lines = [
        "| arm | seeds | filters masked | test accuracy, last epoch | against none "
        "| test accuracy, selected epoch | against none |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arm, found in by_arm.items():
        if not found:
            continue
        columns = [arm, str(len(found)), _spread([c["masked"] for c in found.values()], "{:.1f}")]
        for when in ("last", "selected"):
            accuracy = {seed: 100 * c[when]["test_accuracy"] for seed, c in found.items()}
            columns.append(_spread(list(accuracy.values()), "{:.2f}"))
            differences = [
                accuracy[seed] - 100 * by_arm["none"][seed][when]["test_accuracy"]
                for seed in accuracy
                if seed in by_arm["none"]
            ]
            known = arm != "none" and bool(differences)
            columns.append(_spread(differences, "{:+.2f}") if known else "")
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def stopping(cells: Sequence[dict[str, Any]]) -> str:
    """Return what `StopTraining`, as it is by default, would have made of the cells' counts."""
    lines = [
        "| arm | seed | epoch of least validation loss | epoch that StopTraining would end at |",
        "| --- | --- | --- | --- |",
    ]
    for cell in cells:
        counts = [epoch["anomaly_filters"] for epoch in cell["curves"]]
        stop = stopped_epoch(counts)
        lines.append(
            f"| {cell['arm']} | {cell['seed']} | {cell['selected']['epoch']} | "
            f"{'none' if stop is None else stop} |"
        )
    return "\n".join(lines)


def stopped_epoch(counts: Sequence[float]) -> int | None:
    """Return the epoch that a count in each epoch would have stopped at, if any."""
    history = [{"epoch": epoch, "count": count} for epoch, count in enumerate(counts)]
    return StopTraining().epoch_to_stop(history)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    cells_folder = options.output.with_suffix("")
    cells_folder.mkdir(parents=True, exist_ok=True)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    for seed in options.seeds:
        for arm in options.arms:
            path = _cell_path(options, arm, seed)
            if path.exists():
                _check_settings(path, arm, options)
                continue
            cell = run_cell(arm, seed, options)
            _write(path, cell)
            _write(options.output, _merged(cells_folder, options))
            accuracy = [100 * cell[when]["test_accuracy"] for when in ("last", "selected")]
            print(
                f"{arm}, seed {seed}: test accuracy {accuracy[0]:.2f} (last) {accuracy[1]:.2f} "
                f"(selected), {cell['masked']} filters masked, {cell['seconds']:.0f} s",
                flush=True,
            )
    merged = _merged(cells_folder, options)
    _write(options.output, merged)
    print(markdown(merged["cells"]))
    print()
    print(stopping(merged["cells"]))


def _action(arm: str, seed: int, arguments: argparse.Namespace) -> MaskFilters | None:
    if arm in ("none", "weight_decay"):
        return None
    if arm != "random":
        return MaskFilters(verify=arm == "verified", criteria=CRITERIA, **MASKING)
    path = _cell_path(arguments, "masks", seed)
    if not path.exists():
        raise SystemExit(f"the arm random masks as many filters as masks does: run {path} first")
    events = json.loads(path.read_text(encoding="utf-8"))["events"]
    return RandomMasks(events, seed, criteria=CRITERIA, **MASKING)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("epochs", "batch_size", "train_size", "probe_size", "max_clusters", "weight_decay")
    return {
        **{name: getattr(arguments, name) for name in names},
        "masking": {**MASKING, "criteria": asdict(CRITERIA)},
    }


def _check_settings(path: Path, arm: str, arguments: argparse.Namespace) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))["settings"]
    wanted = _settings(arguments)
    if arm in ("none", "weight_decay"):
        found["masking"] = wanted["masking"]  # of no effect there
    if found != wanted:
        raise SystemExit(f"{path} was made with other settings: remove it or write elsewhere")


def _merged(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    cells.sort(key=lambda cell: (ARMS.index(cell["arm"]), cell["seed"]))
    seeds = " ".join(map(str, sorted({cell["seed"] for cell in cells})))
    settings = _settings(arguments)
    size = settings["train_size"]
    return {
        "command": (
            f"python -m benchmarks.masking_effect --data FOLDER --seeds {seeds} "
            f"--epochs {settings['epochs']} --batch-size {settings['batch_size']} "
            f"--probe-size {settings['probe_size']} --max-clusters {settings['max_clusters']} "
            f"--weight-decay {settings['weight_decay']}"
            + (f" --train-size {size}" if size is not None else "")
        ),
        "seconds": round(sum(cell["seconds"] for cell in cells), 1),
        "cells": cells,
    }


def _cell_path(arguments: argparse.Namespace, arm: str, seed: int) -> Path:
    return Path(arguments.output.with_suffix(""), f"{arm}-seed{seed}.json")


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write a file at once, so that another process never reads half of it."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def _spread(values: Sequence[float], form: str) -> str:
    if len(values) < 2:
        return form.format(values[0]) if values else ""
    return f"{form.format(statistics.mean(values))} ± {statistics.stdev(values):.2f}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "masking_effect", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with train and test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--output", type=Path, default=Path("docs/results/masking_effect.json"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--train-size", type=int, default=None, help="fewer training images")
    parser.add_argument("--probe-size", type=int, default=1000)
    parser.add_argument("--max-clusters", type=int, default=20)
    parser.add_argument("--weight-decay", type=float, default=1e-3, help="of the arm that has it")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="of torch; 1 to run side by side")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
