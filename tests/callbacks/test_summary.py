"""The table at the end of a fit."""

from __future__ import annotations

import pytest
from rich.console import Console
from watched import LAYERS, fit, watch

from filterwatch.callbacks.probe import Probe
from filterwatch.callbacks.record import Record
from filterwatch.callbacks.summary import FitTime, summary_table
from filterwatch.detection import AnomalyCriteria, AnomalyFilter, AnomalyReport

TIME = FitTime(total=60.0, compiling=0.0)


def rendered(report: AnomalyReport, samples: Probe | None, time: FitTime = TIME) -> str:
    counts = {0: [3, 0, 0], 1: [1, 0, 0], 2: [2, 4, 0]}
    history = [
        {"epoch": epoch, "count": sum(row), "by_layer": dict(zip("abc", row, strict=True))}
        for epoch, row in counts.items()
    ]
    table = summary_table(Record(history, [0.5, 1.0, 1.5]), report, samples, time)
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def report_with(outliers: list[int], skipped: dict[str, str]) -> AnomalyReport:
    anomaly = AnomalyFilter("a", 0, "a", 0, 1.0, 2, [9, 1], 1.0, outliers)
    return AnomalyReport([anomaly, anomaly], {}, skipped, 10, AnomalyCriteria(), 1)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").strip("│\n ").split("│")]


def test_shows_first_fewest_and_last_layer_by_layer() -> None:
    text = rendered(report_with([4], {"d": "NaN", "e": "NaN"}), None)
    rows = [cells(line) for line in text.splitlines() if "│" in line or "┃" in line]
    assert rows == [
        ["layer", "first (epoch 0)", "fewest (epoch 1)", "last (epoch 2)"],
        ["a", "3", "1", "2"],
        ["b", "0", "0", "4"],
        ["1 other layers", "0", "0", "0"],
        ["all layers", "3", "1", "6"],
    ]
    assert "3.0 s in 3 probes, 5% of the fit's time" in text
    assert "compiling" not in text
    assert "skipped d, e: NaN" in text
    assert "outlier samples: 1; isolated by most filters (how many): 4 (2)" in text


def test_the_price_is_without_what_is_paid_once() -> None:
    text = rendered(report_with([4], {}), None, FitTime(67.5, 7.5))
    assert "3.0 s in 3 probes, 5% of the fit's time; 7.5 s once, compiling" in text


def test_names_samples_by_their_place_in_the_data_set() -> None:
    samples = Probe([], None, 3, "validation data", indices=[10, 20, 30], dataset_size=40)
    text = rendered(report_with([0, 2], {}), samples)
    assert "probe: 3 samples of validation data" in text
    assert "outlier samples: 2; isolated by most filters (how many): 10 (2), 30 (2)" in text


def test_is_printed_once_a_fit_unless_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    callback = watch(print_summary=True)
    fit(callback)
    printed = capsys.readouterr().out
    assert printed.count("Anomaly filters over the fit") == 1
    footer = next(line for line in printed.splitlines() if "all layers" in line)
    counts = [entry["count"] for entry in callback.history]
    assert cells(footer)[1:] == [str(n) for n in (counts[0], min(counts), counts[-1])]
    assert all(
        any(layer in line for line in printed.splitlines())
        for layer in LAYERS
        if any(entry["by_layer"][layer] for entry in callback.history)
    )
    fit(watch())
    assert "Anomaly filters" not in capsys.readouterr().out
