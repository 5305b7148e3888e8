"""The page's JavaScript comes to the verdicts of the detection, on random numbers and on ties."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from browser import open_browser
from filterwatch import AnomalyCriteria, AnomalyReport, LayerReport
from filterwatch.detection import flag_anomalies
from filterwatch.visuals import PageModel
from filterwatch.visuals.page_numbers import page_numbers

N_SAMPLES = 400
N_LAYERS = 300
MAX_CLUSTERS = 14

# Judges every run of the payload by every one of the thresholds.
DRIVER = """
const runs = payload.runs.map(readRun);
const verdicts = payload.asked.map((criteria) =>
  runs.map((run) => Array.from(judge(run, criteria).flagged)));
"""


def random_layer(generator: torch.Generator) -> LayerReport:
    """Return filters of which some are dead and many tie with each other or with the mean."""

    def below(limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=generator))

    n_filters = 1 + below(12)
    sizes = torch.zeros(n_filters, MAX_CLUSTERS, dtype=torch.int64)
    for row in sizes:
        n_clusters = 2 + below(MAX_CLUSTERS - 1)
        # The largest first; many of the others are as large as the limits that are asked for.
        others = torch.randint(1, 1 + (4, 25)[below(2)], (n_clusters - 1,), generator=generator)
        row[1:n_clusters] = others.sort(descending=True).values
        row[0] = N_SAMPLES - others.sum()
    doubles = torch.float64
    ch_index = torch.rand(n_filters, generator=generator, dtype=doubles) * 10.0 ** below(5)
    activation = torch.rand(n_filters, generator=generator, dtype=doubles)
    if below(3) == 0:  # every filter is exactly at the mean, or halves and doubles it
        powers = torch.randint(-1, 2, (n_filters,), generator=generator)
        ch_index, activation = 30 * 2.0 ** powers.to(doubles), 0.1 * 2.0 ** powers.to(doubles)
    dead = torch.rand(n_filters, generator=generator) < (0.15, 1.0)[below(20) == 0]
    ch_index[dead], activation[dead], sizes[dead] = torch.nan, 0.0, 0
    return LayerReport(
        kind="convolution",
        ch_index=ch_index,
        n_clusters=(sizes > 0).sum(1),
        cluster_sizes=sizes,
        activation=activation,
        is_anomaly=torch.zeros(n_filters, dtype=torch.bool),
        sources=[None] * n_filters,
    )


def flags(layer: LayerReport, criteria: AnomalyCriteria) -> Tensor:
    limit = criteria.small_cluster_limit(N_SAMPLES)
    return flag_anomalies(
        layer.cluster_sizes, layer.ch_index, layer.activation, limit=limit, criteria=criteria
    )


def asked_criteria(layers: list[LayerReport]) -> list[AnomalyCriteria]:
    """Return thresholds: usual ones, switched off ones, and ones that tie with what is compared."""
    choose = random.Random(0)
    shares = [small / clusters for clusters in range(2, 15) for small in range(clusters)]
    shares += [math.nextafter(share, towards) for share in shares[1:] for towards in (0, 1)]
    alive = [layer for layer in layers if not layer.ch_index.isnan().any()]
    relative = [float(layer.ch_index[0] / layer.mean_ch_index) for layer in alive]
    active = [float(layer.activation[0] / layer.activation.mean()) for layer in alive]
    asked = [AnomalyCriteria(), *(AnomalyCriteria.paper(row) for row in (1, 2, 3))]
    for _ in range(100):
        size = choose.choice([1, 2, 3, 4, 25, 0.01, 0.0101, 0.25])
        alpha = choose.choice([None, 0.0, 0.1, 0.2, 0.3, *choose.sample(shares, 12)])
        beta = choose.choice([None, 0.0, 0.5, 1.0, 1.2, *choose.sample(relative, 4)])
        theta = choose.choice([None, 0.0, 0.2, 0.5, 1.0, 2.0, *choose.sample(active, 4)])
        asked.append(AnomalyCriteria(size, alpha, beta, theta))
    return asked


def judged_by_javascript(payload: dict[str, Any]) -> list[list[list[int]]]:
    """Run the page's own code on a payload: thresholds x runs x filters."""
    folder = files("filterwatch.visuals") / "templates"
    code = "".join((folder / name).read_text("utf-8") for name in ("data.js", "criteria.js"))
    text = json.dumps(payload, allow_nan=False)
    if shutil.which("node") is None:
        with open_browser() as driver:
            driver.get("about:blank")
            stub = "const document = { getElementById: () => ({ textContent: arguments[0] }) };"
            found: list[list[list[int]]] = driver.execute_script(
                f"{stub}{code}{DRIVER}return verdicts;", text
            )
            return found
    stub = "const text = require('fs').readFileSync(0, 'utf8');"
    stub += "const document = { getElementById: () => ({ textContent: text }) };"
    end = "process.stdout.write(JSON.stringify(verdicts));"
    done = subprocess.run(
        ["node", "-e", f"{stub}{code}{DRIVER}{end}"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    verdicts: list[list[list[int]]] = json.loads(done.stdout)
    return verdicts


def test_javascript_judges_as_python_does() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = {f"layer{at}": random_layer(generator) for at in range(N_LAYERS)}
    criteria = AnomalyCriteria(small_cluster_size=4)
    report = AnomalyReport([], layers, {}, N_SAMPLES, criteria, small_cluster_limit=4)
    asked = asked_criteria(list(layers.values()))
    payload = page_numbers([PageModel(report, "random")], []) | {
        "asked": [
            asdict(criteria) | {"limit": criteria.small_cluster_limit(N_SAMPLES)}
            for criteria in asked
        ]
    }
    verdicts = judged_by_javascript(payload)
    shares = []
    for criteria, [found] in zip(asked, verdicts, strict=True):
        expected = torch.cat([flags(layer, criteria) for layer in layers.values()])
        wrong = (torch.tensor(found) != expected).nonzero().flatten().tolist()
        assert wrong == [], criteria
        shares.append(float(expected.double().mean()))
    assert min(shares) < 0.05
    assert max(shares) > 0.5


def test_a_share_of_clusters_is_compared_in_double_precision() -> None:
    """Single precision takes a ratio just below 1/5 for 1/5, which 1 of 5 does not exceed."""
    layer = LayerReport(
        kind="convolution",
        ch_index=torch.tensor([5.0], dtype=torch.float64),
        n_clusters=torch.tensor([5]),
        cluster_sizes=torch.tensor([[200, 100, 60, 39, 1]]),
        activation=torch.tensor([1.0], dtype=torch.float64),
        is_anomaly=torch.tensor([False]),
        sources=[None],
    )
    for ratio, flagged in ((0.2, False), (math.nextafter(0.2, 0), True)):
        assert flags(layer, AnomalyCriteria(1, ratio, None, None)).tolist() == [flagged]
