"""What the benchmarks print and write, on rows made by hand: their figures are not for tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_rows_know_whether_a_goal_is_reached() -> None:
    from benchmarks.rows import at_least, at_most, informs

    assert at_least("speed", 126.0, 100).reached is True
    assert at_least("speed", 99.9, 100).reached is False
    assert at_most("cost", 1.06, 1.05).reached is False
    assert informs("floor", 0.2, "0.2 s").met == ""


def test_tables_go_between_their_markers() -> None:
    from benchmarks.render import between, goals_table
    from benchmarks.rows import at_most, informs

    group = {
        "command": "python -m benchmarks --only training",
        "data": "digits",
        "epochs": 1,
        "processor": "one",
        "versions": {"torch": "2"},
        "rows": [at_most("an epoch", 1.06, 1.05).as_dict(), informs("a", 1.0, "b").as_dict()],
    }
    table = goals_table(group)
    assert "| an epoch | 1.06 | <= 1.05 | **no** |" in table
    assert "| a |" not in table
    text = "x\n<!-- benchmarks:begin -->\nold\n<!-- benchmarks:end -->\ny"
    assert between(text, "benchmarks", table).count("an epoch") == 1
    assert "old" not in between(text, "benchmarks", table)
    with pytest.raises(ValueError, match="stability"):
        between(text, "stability", table)


def test_the_page_has_the_markers() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("benchmarks", "stability", "masking"):
        assert f"<!-- {name}:begin -->" in text
        assert f"<!-- {name}:end -->" in text


def test_the_page_shows_the_results_that_are_there() -> None:
    from benchmarks.render import masking_table

    text = PAGE.read_text(encoding="utf-8")
    results = ROOT / "docs" / "results" / "masking_effect.json"
    table = masking_table(json.loads(results.read_text(encoding="utf-8")))
    assert f"<!-- masking:begin -->\n{table}\n<!-- masking:end -->" in text
    assert "reduced data" in table
    assert "| random | 3 |" in table


def test_the_loop_over_scikit_learn_finds_what_the_engine_finds() -> None:
    from benchmarks.reference import fit_in_a_loop
    from filterwatch import cluster_points

    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]], dtype=torch.float64)
    points = centers.repeat_interleave(20, 0)
    points = points + 0.1 * torch.randn(2, 60, 2, generator=generator, dtype=torch.float64)
    loop, own = fit_in_a_loop(points, 3, seed=0), cluster_points(points, max_clusters=3)
    assert torch.equal(loop.cluster_sizes, own.cluster_sizes)
    torch.testing.assert_close(loop.ch_index, own.ch_index)


def test_the_rows_of_a_gpu_can_be_made_on_any_device() -> None:
    from benchmarks.large import device_rows

    rows = device_rows(torch.device("cpu"), "this one", image_size=67, n_samples=20)
    whole, *parts = rows
    assert whole.what == "CUDA: AlexNet at 67 x 67, N = 20, every layer"
    assert whole.shown.endswith(" s on this one")
    assert whole.value is not None
    assert whole.reached == (whole.value <= 0.5)
    assert len(parts) == 2
    assert all(row.reached is None for row in parts)
    assert parts[0].value is not None
    assert parts[0].value < whole.value  # the forward passes are a part of it
