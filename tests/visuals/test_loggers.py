"""Weights & Biases and MLflow, the real packages, without a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from PIL import Image
from test_gallery import LENIENT
from watched import fit, watch

from filterwatch.visuals import Pictures

FEW = Pictures(every_n_epochs=1, n_filters=1, n_samples=0)


def is_a_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.size == (960, 520)


def test_wandb_receives_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="an extra: pip install 'filterwatch[wandb]'")
    for name in ("WANDB_SILENT", "WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="filterwatch")
    logged: list[dict[str, Any]] = []
    run = logger.experiment
    log = run.log
    monkeypatch.setattr(run, "log", lambda data, *args: (logged.append(data), log(data, *args)))
    try:
        fit(watch(pictures=FEW, criteria=LENIENT), logger=logger, log_every_n_steps=1)
    finally:
        wandb.finish()

    def steps(name: str) -> list[int]:
        return [data["trainer/global_step"] for data in logged if name in data]

    assert steps("anomaly_filters/clusters_1") == steps("anomaly_filters") == [3, 7]
    assert steps("anomaly_filters/training") == [7]
    written = list(tmp_path.rglob("media/images/anomaly_filters/clusters_1_*.png"))
    assert len(written) == 2
    assert all(map(is_a_picture, written))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:.*memorization_by_layer")
def test_mlflow_receives_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="an extra: pip install 'filterwatch[mlflow]'")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(tracking_uri=f"file:{tmp_path}")
    with pytest.warns(RuntimeWarning, match="special characters"):
        fit(watch(pictures=FEW, criteria=LENIENT, prefix="a:"), logger=logger, log_every_n_steps=1)
    client, run_id = logger.experiment, str(logger.run_id)
    counts = client.get_metric_history(run_id, "aanomaly_filters")
    written = sorted(tmp_path.rglob("artifacts/images/aanomaly_filters*clusters_1*.png"))
    steps = sorted(int(re.findall(r"[+%]step[+%](\d+)", path.name)[0]) for path in written)
    assert steps == sorted(metric.step for metric in counts) == [3, 7]
    assert all(map(is_a_picture, written))
