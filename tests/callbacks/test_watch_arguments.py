"""Bad arguments are refused with the value and the remedy; good ones can be written in YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningCLI
from watched import TinyNet, loader

from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.detection import AnomalyCriteria


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"probe_size": 0}, ValueError, "probe_size=0.*at least 1"),
        ({"probe_size": 10.5}, TypeError, "probe_size=10.5.*integer"),
        ({"probe_size": 10}, ValueError, "10 samples.*max_clusters=14.*lower max_clusters"),
        ({"max_clusters": 1}, ValueError, "max_clusters=1.*at least 2"),
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs=0.*at least 1"),
        ({"batch_size": -1}, ValueError, "batch_size=-1.*at least 1"),
        ({"memory_budget": 0}, ValueError, "memory_budget=0.*at least 1"),
        ({"seed": -1}, ValueError, "seed=-1.*at least 0"),
        ({"seed": 2**32}, ValueError, "seed=4294967296.*4294967295"),
        ({"strict": 1}, TypeError, "strict=1.*True or False"),
        ({"print_summary": None}, TypeError, "print_summary=None.*True or False"),
        ({"layers": "conv1"}, TypeError, "layers='conv1'.*list"),
        ({"layers": [1]}, TypeError, r"layers=\[1\].*strings"),
        ({"layers": []}, ValueError, "layers.*None for every layer"),
        ({"criteria": 0.1}, TypeError, "criteria=0.1.*AnomalyCriteria"),
        ({"criteria": AnomalyCriteria(500), "probe_size": 500}, ValueError, "size=500.*lower"),
        ({"pca": "both"}, ValueError, "pca='both'.*'filter' or 'layer'"),
        ({"probe": "test"}, ValueError, "probe='test'.*'train'"),
        ({"probe": 3}, TypeError, "probe=3.*dataloader"),
        ({"prefix": 3}, TypeError, "prefix=3.*string"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AnomalyFilterCallback(**arguments)


class TinyData(LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader(seed=1)

    def val_dataloader(self) -> Any:
        return loader()


def test_every_argument_can_be_written_in_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {
        "probe_size": 50,
        "layers": ["network.[0-2]"],
        "criteria": {"small_cluster_size": 2, "ch_ratio": None},
        "max_clusters": 3,
        "every_n_epochs": 2,
        "seed": 5,
        "strict": True,
        "pca": "layer",
        "batch_size": 32,
        "memory_budget": 10**6,
        "probe": "train",
        "prefix": "tiny_",
        "print_summary": False,
    }
    callback = {"class_path": "filterwatch.callbacks.AnomalyFilterCallback", "init_args": arguments}
    options = {"callbacks": [callback], "max_epochs": 1, "logger": False, "accelerator": "cpu"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"trainer": options}))
    monkeypatch.setattr(sys, "argv", ["tiny", "--config", str(path)])
    cli = LightningCLI(
        TinyNet, TinyData, run=False, save_config_callback=None, seed_everything_default=0
    )
    (built,) = [
        callback
        for callback in cli.trainer.callbacks
        if isinstance(callback, AnomalyFilterCallback)
    ]
    expected = {**arguments, "criteria": AnomalyCriteria(2, ch_ratio=None)}
    assert {name: getattr(built, name) for name in arguments} == expected


def test_images_are_accepted_as_they_are() -> None:
    assert isinstance(AnomalyFilterCallback(probe=torch.zeros(20, 1, 8, 8)).probe, torch.Tensor)
