import json
from pathlib import Path

import pytest

from reproduction.__main__ import recorded_command
from reproduction.claims import check_claims
from reproduction.markdown import each, mean_spread, number, table, whole
from reproduction.result_files import ResultFile, read_results, spread
from reproduction.results_page import _missing, results_page
from reproduction.run_folder import write_json


def cell(seed, early, late, **more):
    return {
        "model": "lenet5",
        "dataset": "cifar10",
        "regime": "overfit",
        "seed": seed,
        "status": "done",
        "training_seconds": 60.0,
        "well_trained": {"counts": {"default": early}, "anomaly_score": 0.5},
        "overfit": {"counts": {"default": late}, "anomaly_score": 0.75},
        **more,
    }


@pytest.fixture
def table2():
    missing = {
        "model": "alexnet",
        "dataset": "cifar10",
        "regime": "overfit",
        "seed": 0,
        "status": "not run",
        "reason": "needs a GPU",
        "command": "python -m reproduction train --models alexnet",
    }
    return {
        "title": "The number of anomaly filters in models",
        "command": "python -m reproduction table2",
        "seeds": [0, 1, 2],
        "epochs": 60,
        "train_size": None,
        "device": "cpu",
        "duration_seconds": 1.0,
        "versions": {"torch": "2.6"},
        "readings": {"default": "defaults"},
        "cells": [cell(0, 3, 10), cell(1, 5, 2), cell(2, 4, 4), missing],
        "paper": {"lenet5": {"cifar10": [3, 10]}},
    }


def test_counts_become_claims(table2):
    (claim,) = check_claims({"table2": table2})
    assert (claim.holds, claim.of) == (1, 3)
    assert claim.outcome == "contradicted in most runs"


def test_contradictions_come_first(table2):
    gradients = {"outlier": 2.0, "normal": 1.0, "ratio": 2.0, "rank": 0.9, "n_outliers": 1}
    late = gradients | {"normal": 1.5}
    row = cell(0, 0, 0)
    row["well_trained"] = dict.fromkeys(("train", "held_out"), gradients)
    row["overfit"] = dict.fromkeys(("train", "held_out"), late)
    claims = check_claims({"table3": {"cells": [row]}, "table2": table2})
    shares = [claim.holds / claim.of for claim in claims]
    assert shares == sorted(shares)
    assert "Table 2" in claims[0].text
    assert claims[-1].outcome == "holds"


def test_the_page_shows_ours_beside_the_papers(table2):
    page = results_page({"table2": table2}, {})
    assert "| LeNet-5, CIFAR-10 | defaults | 3, 5, 4 | 10, 2, 4 | 3 | 10 |" in page
    assert "`python -m reproduction table2`" in page
    assert "60 epochs (the paper trained 100)" in page
    assert page.index("Against the paper") < page.index("Table 2:")


def test_cells_that_were_not_run_are_shown_with_their_command(table2):
    page = results_page({"table2": table2}, {})
    assert "needs a GPU: `python -m reproduction train --models alexnet`" in page


def test_results_that_are_older_than_the_command_name_it_as_it_is_now(table2):
    old = table2 | {"command": "filterwatch reproduce table2 --epochs 60"}
    assert "`python -m reproduction table2 --epochs 60`" in results_page({"table2": old}, {})


def test_reduced_data_is_said_in_the_title(table2):
    page = results_page({"table2": table2 | {"train_size": 8000}}, {})
    assert "in models (reduced data: 8,000 training images)" in page


def test_columns_of_words_are_aligned_left():
    rows = [["x", "a", "1.5 ± 0.2", "–", "-1"], ["y", "b", "", "", "+2"]]
    assert table(["a", "b", "c", "d", "e"], rows).splitlines()[1] == (
        "| --- | --- | ---: | --- | ---: |"
    )
    assert table(["a", "b"], []).splitlines()[1] == "| --- | --- |"


def test_numbers_in_tables():
    assert table(["a", "b"], [["x", "1"]]).splitlines()[1] == "| --- | ---: |"
    assert whole(3) == "3"
    assert whole(3.25) == "3.2"
    assert number(None) == number(float("inf")) == "–"
    assert each([1, None, 2.5]) == "1, –, 2.5"
    assert mean_spread([1.0, 3.0, None], 1) == "2.0 ± 1.4"
    assert mean_spread([0.5], 2, 100) == "50.00"


def test_spread_by_hand():
    assert spread([1.0, 3.0])["std"] == pytest.approx(2**0.5)
    assert spread([2.0]) == {"mean": 2.0, "std": None, "values": [2.0]}
    assert spread([]) == {"mean": None, "std": None, "values": []}


class Options:
    """What a result's head is made of."""

    command = "python -m reproduction table2"
    seeds = (0,)
    epochs = 2
    train_size = None
    device = "cpu"

    def __init__(self, results):
        self.results = results


def test_a_result_holds_its_command_versions_and_no_nan(tmp_path):
    path = ResultFile(Options(tmp_path), "table2", "Counts").write(
        {"cells": [{"ratio": float("nan"), "exact": 1 / 3}]}
    )
    text = Path(path).read_text()
    assert "NaN" not in text
    read = read_results(tmp_path)["table2"]
    assert read["cells"] == [{"ratio": None, "exact": 0.333333}]
    assert read["command"] == Options.command
    assert {"python", "torch", "filterwatch"} <= read["versions"].keys()
    assert read["duration_seconds"] >= 0


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"new": float("nan")})
    assert json.loads(path.read_text()) == {"old": 1}


def test_what_was_not_run_is_one_line_for_all_its_seeds(table2):
    missing = table2["cells"].pop()
    command = "python -m reproduction train --models alexnet --seeds {} --epochs 60"
    table2["cells"] += [
        {**missing, "seed": seed, "command": command.format(seed)} for seed in (0, 1, 2)
    ]
    text = _missing(table2)
    assert text.splitlines()[2:] == [
        f"- alexnet, cifar10, overfit, seeds 0, 1, 2: needs a GPU: `{command.format('0 1 2')}`"
    ]


def test_folders_are_recorded_by_their_names():
    args = ["table2", "--data", "/home/me/images", "--runs=/tmp/runs", "--seeds", "1"]
    assert recorded_command(args) == (
        "python -m reproduction table2 --data DATA --runs=RUNS --seeds 1"
    )
