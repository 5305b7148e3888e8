"""The benchmark of masking: its arms, its files and its tables."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from acted import MaskThese, fit, watch

from filterwatch import MaskFilters

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import masking_effect

    return masking_effect


def cell(arm: str, seed: int, last: float, selected: float, masked: int = 0) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "last": {"epoch": 3, "test_accuracy": last},
        "selected": {"epoch": 1, "test_accuracy": selected},
        "masked": masked,
        "curves": [{"anomaly_filters": count} for count in (1, 20, 20, 20)],
        "events": [],
        "seconds": 2.0,
    }


CELLS = [
    cell("none", 0, 0.60, 0.70),
    cell("none", 1, 0.62, 0.71),
    cell("masks", 0, 0.61, 0.69, 4),
    cell("masks", 1, 0.62, 0.72, 6),
    cell("verified", 0, 0.65, 0.75, 2),
]


def test_the_table_has_means_spreads_and_paired_differences(benchmark: Any) -> None:
    assert benchmark.markdown(CELLS).splitlines()[2:] == [
        "| none | 2 | 0.0 ± 0.00 | 61.00 ± 1.41 |  | 70.50 ± 0.71 |  |",
        "| masks | 2 | 5.0 ± 1.41 | 61.50 ± 0.71 | +0.50 ± 0.71 | 70.50 ± 2.12 | +0.00 ± 1.41 |",
        "| verified | 1 | 2.0 | 65.00 | +5.00 | 75.00 | +5.00 |",
    ]


def test_the_table_of_stops(benchmark: Any) -> None:
    counts = [*[0, 12, 25, 28, 30], *[25] * 6, *[50] * 6]
    assert benchmark.stopped_epoch(counts[:13]) is None
    assert benchmark.stopped_epoch(counts) == 14
    assert benchmark.stopping(CELLS[:1]).splitlines()[-1] == "| none | 0 | 1 | none |"


def test_finished_cells_are_kept_and_not_run_again(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ran: list[tuple[str, int]] = []
    interrupted = [OSError("the power failed")]

    def run_cell(arm: str, seed: int, arguments: Any) -> dict[str, Any]:
        if arm == "verified" and interrupted:
            raise interrupted.pop()
        ran.append((arm, seed))
        return {**cell(arm, seed, 0.6, 0.7), "settings": benchmark._settings(arguments)}

    monkeypatch.setattr(benchmark, "run_cell", run_cell)
    output = tmp_path / "results" / "effect.json"
    options = ["--data", "unused", "--output", str(output), "--seeds", "0"]
    with pytest.raises(OSError, match="power"):
        benchmark.main(options)
    assert [c["arm"] for c in json.loads(output.read_text())["cells"]] == ["none", "masks"]
    benchmark.main(options)
    assert ran == [(arm, 0) for arm in benchmark.ARMS]
    content = json.loads(output.read_text())
    assert [c["arm"] for c in content["cells"]] == list(benchmark.ARMS)
    assert content["command"].startswith(
        "python -m benchmarks.masking_effect --data FOLDER --seeds 0"
    )
    assert "| weight_decay | 1 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="other settings"):
        benchmark.main([*options, "--epochs", "3"])


def test_the_random_arm_masks_as_many_filters_at_other_places(benchmark: Any) -> None:
    events = [
        {"event": "masked", "epoch": 0, "layer": "network.4", "channel": 0},
        {"event": "masked", "epoch": 0, "layer": "network.4", "channel": 1},
        {"event": "masked", "epoch": 1, "layer": "network.0", "channel": 2},
        {"event": "rejected", "epoch": 1, "layer": "network.0", "channel": 3},
    ]
    options = {"max_fraction": 0.75}
    first, again, other = (benchmark.RandomMasks(events, s, **options) for s in (0, 0, 5))
    callbacks = [watch(action=action) for action in (first, again, other)]
    for callback in callbacks:
        fit(callback, max_epochs=3)
    for action in (first, again, other):
        masked = [e for e in action.history if e["event"] == "masked"]
        assert Counter((e["epoch"], e["layer"]) for e in masked) == {
            (0, "network.4"): 2,
            (1, "network.0"): 1,
        }
        assert all(event["reason"] == "chosen though not flagged" for event in masked)
    assert first.history == again.history
    assert first.history != other.history
    assert isinstance(first, MaskFilters)
    assert not isinstance(first, MaskThese)
