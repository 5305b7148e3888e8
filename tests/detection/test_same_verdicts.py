"""Verdicts on real networks are, bit for bit, those that were recorded.

A change that is meant to leave verdicts alone is held against them. Rounding differs between
processors and versions, so the record holds for the machine that made it; to compare two commits
elsewhere, record at the first one: ``python tests/detection/test_same_verdicts.py``.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from filterwatch import (
    AnomalyCriteria,
    AnomalyFilterCallback,
    AnomalyReport,
    MaskFilters,
    cluster_points,
    detect_anomaly_filters,
    mask_filters,
)
from filterwatch.models import LeNet5, ResNet18, SimpleCNN

RECORD = Path(__file__).with_name("same_verdicts.json")
SMALL = {"small_cluster_size": 0.02}


def machine() -> str:
    """Name what rounding depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    wanted = ("cpu family", "model\t", "model name")
    processor = [line for line in text.split("\n\n")[0].splitlines() if line.startswith(wanted)]
    parts = [platform.machine(), *(line.split(":")[1].strip() for line in processor)]
    return ", ".join([*parts, f"torch {torch.__version__}", f"numba {numba.__version__}"])


def _hash(*values: Any) -> str:
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, Tensor):
            digest.update(str((value.dtype, tuple(value.shape))).encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        else:
            digest.update(json.dumps(value, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def summary(report: AnomalyReport) -> dict[str, Any]:
    """Return hashes of a report's numbers, stage by stage, and its counts."""
    layers = report.layers.values()

    def tensors(*names: str) -> str:
        columns = (getattr(one, name) for one in layers for name in names)
        # Reports keep labels in a byte where that is enough; what was recorded are their values.
        wide = (column.long() if column.dtype == torch.int8 else column for column in columns)
        return _hash(list(report.layers), *wide)

    return {
        "points": tensors("points", "activation"),
        "labels": tensors("labels", "n_clusters", "cluster_sizes"),
        "index": tensors("ch_index"),
        "flags": tensors("is_anomaly"),
        "anomalies": _hash(
            [
                [a.layer, a.channel, a.source_layer, a.source_channel, sorted(a.outliers)]
                for a in report.anomalies
            ],
            sorted(report.outlier_samples().items()),
            sorted(report.outlier_samples(all_filters=True).items()),
            sorted(report.skipped),
        ),
        "count": report.count,
        "distinct": len(report.filters),
        "maps": sum(len(one.ch_index) for one in layers),
    }


def images(n_samples: int, size: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Return smooth images with a few odd ones among them, and labels that they show."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_samples) % 10
    coarse = torch.randn(n_samples, channels, 4, 4, generator=generator)
    coarse[:, 0, 0] += labels.view(-1, 1) / 3
    smooth = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    smooth[::40] *= -3
    return smooth, labels


def trained(network: nn.Module, data: tuple[Tensor, Tensor], epochs: int) -> nn.Module:
    """Train a network a little, the same way at each call."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    pictures, labels = data
    network.train()
    for _ in range(epochs):
        for batch, targets in zip(pictures.split(40), labels.split(40), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(network(batch), targets).backward()
            optimizer.step()
    return network.eval()


def _detect(network: nn.Module, data: tuple[Tensor, Tensor], **options: Any) -> AnomalyReport:
    """Detect over several batches, so that maps are kept."""
    loader = DataLoader(TensorDataset(*data), batch_size=64)
    criteria = options.pop("criteria", AnomalyCriteria(**SMALL))
    return detect_anomaly_filters(network, loader, criteria=criteria, **options)


def _network(name: str) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    import torchvision

    torch.manual_seed(0)
    if name == "lenet5":
        return trained(LeNet5(), data := images(400, 32), 4), data
    if name == "simple_cnn":
        return trained(SimpleCNN(), data := images(400, 32), 4), data
    if name == "resnet18_small":
        return trained(ResNet18(), data := images(160, 16), 1), data
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(num_classes=10, **options)
    return network.eval(), images(200, 64)


def detections(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the cases of one network."""
    network, data = _network(name)
    report = _detect(network, data)
    yield "kept", summary(report)
    yield "layer", summary(_detect(network, data, pca="layer"))
    whole = detect_anomaly_filters(network, data[0], criteria=AnomalyCriteria(**SMALL))
    yield "one batch", summary(whole)
    yield "small budget", summary(_detect(network, data, memory_budget=_small_budget(name)))
    if name in ("densenet121", "mobilenet_v2", "resnet18"):
        return
    yield "votes", summary(_detect(network, data, votes=8, max_clusters=8))
    for row in (1, 2, 3):
        strict = AnomalyCriteria.paper(row)
        yield f"paper {row}", summary(_detect(network, data, criteria=strict))
    chosen = [(a.source_layer, a.source_channel) for a in report.anomalies if a.source_layer]
    with mask_filters(network, chosen[:3], images=data[0][:2]) as masks:
        yield "masked", summary(_detect(network, data))
        yield "judged unmasked", summary(_detect(network, data, masks=masks))


def _small_budget(name: str) -> int:
    return {"lenet5": 2**21, "simple_cnn": 2**24, "resnet18_small": 2**25}.get(name, 2**26)


class _Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = SimpleCNN(in_channels=1, image_size=16)

    def forward(self, batch: Tensor) -> Any:
        return self.network(batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.003)


def fits(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a callback records of fits, with and without masks."""
    actions: dict[str, Callable[[], MaskFilters | None]] = {
        "watched": lambda: None,
        "masked": lambda: MaskFilters(patience=1, max_fraction=0.2),
        "verified": lambda: MaskFilters(patience=1, verify=True),
        "released": lambda: MaskFilters(patience=1, release=True, max_fraction=0.2),
        "stricter": lambda: MaskFilters(patience=1, criteria=AnomalyCriteria(ch_ratio=1.5)),
    }
    training, validation = images(400, 16, 1), images(360, 16, 1)
    for name, action in actions.items():
        callback = AnomalyFilterCallback(
            probe_size=300,
            criteria=AnomalyCriteria(small_cluster_size=0.04),
            action=action(),
            print_summary=False,
            pictures=False,
        )
        module = _Classifier()
        trainer = Trainer(
            max_epochs=5,
            accelerator="cpu",
            logger=False,
            callbacks=[callback],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(
            module,
            DataLoader(TensorDataset(*training), batch_size=40),
            DataLoader(TensorDataset(*validation), batch_size=60),
        )
        report = callback.report
        assert report is not None
        yield (
            name,
            {
                **summary(report),
                "history": [
                    {key: entry[key] for key in ("epoch", "count", "distinct", "by_layer")}
                    for entry in callback.history
                ],
                "weights": _hash(*module.state_dict().values()),
            },
        )


def clusterings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield clusterings of bare points, heavy-tailed ones and odd ones among them."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(60, 500, 2, generator=generator, dtype=torch.float64)
    points[:20] = points[:20] ** 3
    points[20:40, ::9] = 0.0
    points[40] = 1.0
    points[41, 1:] = 0.0
    points[42, :, 1] = points[42, :, 0]
    for max_clusters in (2, 7, 14, 20):
        found = cluster_points(points, max_clusters=max_clusters)
        yield (
            f"K to {max_clusters}",
            {
                "labels": _hash(found.labels, found.cluster_sizes, found.n_clusters),
                "index": _hash(found.ch_index),
                "likelihood": _hash(found.log_likelihood),
            },
        )


CASES = (
    *("lenet5", "simple_cnn", "resnet18_small"),
    *("resnet18", "mobilenet_v2", "densenet121", "googlenet"),
    *("fits", "clusterings"),
)


def measure(case: str, folder: Path) -> dict[str, Any]:
    """Return the summaries of one group of cases, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if case == "fits":
            return dict(fits(folder))
        return dict(clusterings() if case == "clusterings" else detections(case))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_verdicts_are_those_recorded(case: str, tmp_path: Path) -> None:
    record = json.loads(RECORD.read_text())
    if record["machine"] != machine():
        pytest.skip(f"recorded on {record['machine']}, and this is {machine()}")
    assert measure(case, tmp_path) == record["cases"][case]


if __name__ == "__main__":
    import sys
    import tempfile

    # Names of cases as arguments record those alone.
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    cases = record.get("cases", {}) if record.get("machine") == machine() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for case in sys.argv[1:] or CASES:
            cases[case] = measure(case, Path(scratch))
    RECORD.write_text(json.dumps({"machine": machine(), "cases": cases}, indent=1) + "\n")
