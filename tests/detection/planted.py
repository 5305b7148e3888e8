"""A network built by hand in which it is known which filters must be flagged, and for what."""

from __future__ import annotations

from typing import Any

import torch
from clouds import same_partition, separated
from torch import Tensor, nn

from filterwatch.detection import AnomalyCriteria, AnomalyReport, detect_anomaly_filters

SIDE = 4
UNEVEN = [40, 38, 2, 2, 1]  # 83 samples, 5 of them in clusters of at most 2
EVEN = [17, 17, 17, 16, 16]
SMALL = 2  # lambda
N_SAMPLES = sum(UNEVEN)
N_CLUSTERS = len(UNEVEN)
OUTLIERS = [78, 79, 80, 81, 82]

# What each filter of `bank` is. For each criterion there is one that fails it alone.
ANOMALY, BALANCED, LOW_CH, INACTIVE, DEAD = 0, 1, 2, 3, 4
LOOSE = [5, 6]  # balanced and loose: they keep the layer's mean index below the tight ones'
N_FILTERS = 7
FAILS_ALONE = {
    "small_cluster_ratio": BALANCED, "ch_ratio": LOW_CH, "activation_ratio": INACTIVE,
}  # fmt: skip


def images(*, seed: int = 0) -> Tensor:
    """Return images [83, 7, 4, 4]: channel c holds the maps that filter c is to put out.

    A map is a picture, the same for every sample, plus two patterns times the coordinates of the
    sample's point: its two principal components are the points, but for a rotation. All values are
    positive, so that a ReLU changes nothing, and each 2 x 2 block is constant, so that a max-pool
    does not either.
    """
    generator = torch.Generator().manual_seed(seed)
    tight, _ = separated(UNEVEN, seed=seed, spread=0.02, n_problems=N_FILTERS)
    loose, _ = separated(UNEVEN, seed=seed, spread=0.15, n_problems=N_FILTERS)
    even, _ = separated(EVEN, seed=seed, spread=0.02, n_problems=N_FILTERS)
    even_loose, _ = separated(EVEN, seed=seed, spread=0.3, n_problems=N_FILTERS)
    points = torch.stack(
        [
            tight[0],
            even[1][torch.randperm(N_SAMPLES, generator=generator)],
            loose[2],
            tight[3],
            torch.zeros(N_SAMPLES, 2),
            even_loose[5][torch.randperm(N_SAMPLES, generator=generator)],
            even_loose[6][torch.randperm(N_SAMPLES, generator=generator)],
        ],
        dim=1,
    ).float()  # [N, C, 2]
    coarse = torch.randn(N_FILTERS, 2, (SIDE // 2) ** 2, generator=generator)
    coarse = torch.linalg.qr(coarse.mT)[0].mT.unflatten(2, (SIDE // 2, SIDE // 2))
    patterns = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    picture = 8 + torch.rand(N_FILTERS, SIDE // 2, SIDE // 2, generator=generator)
    picture = picture.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return picture + torch.einsum("nck,ckhw->nchw", points, patterns)


def bank() -> nn.Sequential:
    """Return a convolution whose filter c copies channel c, a ReLU and a max-pool."""
    convolution = nn.Conv2d(N_FILTERS, N_FILTERS, 1, bias=True)
    scales = torch.ones(N_FILTERS)
    scales[INACTIVE] = 0.02
    scales[DEAD] = 0.0
    with torch.no_grad():
        convolution.weight.copy_(torch.diag(scales).view(N_FILTERS, N_FILTERS, 1, 1))
        convolution.bias.zero_()
    return nn.Sequential(convolution, nn.ReLU(inplace=True), nn.MaxPool2d(2))


CRITERIA = AnomalyCriteria(small_cluster_size=SMALL)
LAYERS = ["0", "1", "2"]


def detect(model: nn.Module | None = None, probe: Any = None, **options: Any) -> AnomalyReport:
    defaults = {"criteria": CRITERIA, "max_clusters": N_CLUSTERS}
    return detect_anomaly_filters(
        bank() if model is None else model,
        images() if probe is None else probe,
        **{**defaults, **options},
    )


def flagged(report: AnomalyReport) -> dict[str, list[int]]:
    return {
        name: layer.is_anomaly.nonzero().flatten().tolist() for name, layer in report.layers.items()
    }


def assert_same_verdicts(
    report: AnomalyReport, expected: AnomalyReport, tolerance: float = 1e-3
) -> None:
    assert flagged(report) == flagged(expected)
    assert list(report.layers) == list(expected.layers)
    for layer, other in zip(report.layers.values(), expected.layers.values(), strict=True):
        for labels, others in zip(layer.labels, other.labels, strict=True):
            assert same_partition(labels, others)
        assert torch.equal(layer.cluster_sizes, other.cluster_sizes)
        torch.testing.assert_close(
            layer.ch_index, other.ch_index, rtol=tolerance, atol=0, equal_nan=True
        )
        torch.testing.assert_close(layer.activation, other.activation, rtol=1e-5, atol=0)
    assert [anomaly.outliers for anomaly in report.anomalies] == [
        anomaly.outliers for anomaly in expected.anomalies
    ]
    assert report.isolations == expected.isolations
