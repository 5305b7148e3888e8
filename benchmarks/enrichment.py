"""Are isolated images mislabelled ones more often than chance?

    python -m benchmarks.enrichment [--seeds 0 1 2] [--output docs/results/enrichment.json]

The quickstart's run with a probe of its own training images, a fifth of them with wrong labels on
purpose. After the last epoch: which share of the images that flagged filters isolate is
mislabelled, against the share in the whole probe.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything

from benchmarks.setting import quiet_trainer, versions
from filterwatch import AnomalyCriteria, AnomalyFilterCallback
from filterwatch.datamodules import (
    DigitsDataModule,
    Stream,
    seeded_generator,
    stratified_split,
)
from filterwatch.models import ImageClassifier

MOST_ISOLATED = 32


def run(seed: int, epochs: int) -> dict[str, Any]:
    """Train once and compare shares.

    Args:
        seed: Seed of data, weights and order.
        epochs: Number of epochs.
    """
    seed_everything(seed, verbose=False)
    datamodule = DigitsDataModule(
        train_size=300, label_noise=0.2, batch_size=32, probe_size=300, seed=seed
    )
    datamodule.setup("fit")
    train = datamodule.train_dataset
    generator = seeded_generator(seed, Stream.PROBE)
    probe = train.select(stratified_split(train.labels, [len(train)], generator)[0])
    watch = AnomalyFilterCallback(
        probe=probe,
        max_clusters=20,
        criteria=AnomalyCriteria(small_cluster_size=0.05),
        pictures=False,
        print_summary=False,
    )
    trainer = quiet_trainer(max_epochs=epochs, callbacks=[watch])
    trainer.fit(ImageClassifier("simple_cnn", in_channels=1), datamodule=datamodule)
    assert watch.report is not None
    assert watch.probe_indices is not None
    wrong = probe.is_mislabelled[watch.probe_indices].double()
    result: dict[str, Any] = {"seed": seed, "base": float(wrong.mean())}
    for name, all_filters in (("flagged filters", False), ("all filters", True)):
        isolated = list(watch.report.outlier_samples(all_filters=all_filters))
        for label, chosen in ((name, isolated), (f"{name}, most", isolated[:MOST_ISOLATED])):
            share = float(wrong[chosen].mean()) if chosen else None
            result[label] = {"isolated": len(chosen), "mislabelled": share}
    return result


def main() -> None:
    """Run every seed, print the shares and write them."""
    parser = argparse.ArgumentParser(prog="benchmarks.enrichment", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("docs/results/enrichment.json"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    runs = [run(seed, arguments.epochs) for seed in arguments.seeds]
    for kind in [key for key in runs[0] if key not in ("seed", "base")]:
        ratios = [
            one[kind]["mislabelled"] / one["base"]
            for one in runs
            if one[kind]["mislabelled"] is not None
        ]
        mean = statistics.mean(ratios) if ratios else float("nan")
        print(f"{kind}: enrichment {[round(ratio, 2) for ratio in ratios]}, mean {mean:.2f}")
    seeds = " ".join(map(str, arguments.seeds))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(
        json.dumps(
            {
                "command": f"python -m benchmarks.enrichment --seeds {seeds} "
                f"--epochs {arguments.epochs}",
                "duration_seconds": round(time.perf_counter() - started, 1),
                "versions": versions(),
                "runs": runs,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
