"""The report: what it ranks, says and keeps."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from filterwatch.memorization import JOINT, OUTPUT, LayerMemorization, MemorizationReport

NAN = math.nan


def layer(kind: str, value: float, evidence: list[float]) -> LayerMemorization:
    return LayerMemorization(kind, value, 0.1, 0.5, 0.25, torch.tensor(evidence))


def report(*, output: bool = True) -> MemorizationReport:
    layers = {
        "conv[1]": layer("activation", 0.05, [-1.0, -2.0, -0.1, -3.0, NAN, -2.0]),
        "deep": layer("linear", 0.7, [-2.0, -4.0, -0.1, -6.0, NAN, -4.0]),
        JOINT: layer("joint", 0.35, [-1.5, -3.0, -0.1, -4.5, NAN, -3.0]),
    }
    if output:
        layers[OUTPUT] = layer("output", 1.5, [-0.5, -0.25, 0.0, -0.125, NAN, -5.0])
    return MemorizationReport(
        layers=layers,
        labels=torch.tensor([0, 1, 2, 3, 9, 1]),
        witness=JOINT,
        witness_labels=torch.tensor([1, 2, 2, 0, 1, 0]),
        predictions=torch.tensor([1, 1, 2, 3, 9, 0]) if output else torch.full((6,), -1),
        memorized_samples=2.0 if output else NAN,
        memorized_error=0.6 if output else NAN,
        n_held_out=50,
        left_out={9: "no held-out samples", 12: "no training samples", 4: "no held-out samples"},
        skipped={"dead": "its output is the same for every sample"},
    )


def test_contradicted_samples_are_ranked_worst_first() -> None:
    found = report().contradicted()
    assert [sample.index for sample in found] == [3, 1, 5, 0]  # ties in their order
    assert (found[0].label, found[0].witness_label, found[0].evidence) == (3, 0, -4.5)
    assert found[0].confidence == pytest.approx(math.exp(-0.125))
    assert [sample.index for sample in report().contradicted(2)] == [3, 1]
    assert report().contradicted(0) == []


def test_memorized_samples_are_those_that_the_network_gives_their_label() -> None:
    assert [sample.index for sample in report().memorized()] == [3, 1]
    assert report(output=False).memorized() == []
    assert math.isnan(report(output=False).contradicted(1)[0].confidence)


def test_what_is_read_off_layers() -> None:
    assert list(report().hidden) == ["conv[1]", "deep"]
    assert report().memorization == 0.7
    assert report().generalization_gap == 1.5
    assert math.isnan(report(output=False).generalization_gap)
    assert [each.is_significant for each in report().layers.values()] == [False, True, True, True]
    assert layer("linear", -0.7, []).is_significant
    assert not LayerMemorization("linear", 0.7, NAN, 0, 0, torch.zeros(0)).is_significant


@pytest.mark.parametrize("output", [True, False])
def test_round_trip(tmp_path: Path, output: bool) -> None:
    original = report(output=output)
    original.to_json(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()
    assert "NaN" not in text
    found = MemorizationReport.from_json(tmp_path / "report.json")
    assert found.to_dict() == original.to_dict()
    assert str(found) == str(original)
    assert repr(found.contradicted()) == repr(original.contradicted())
    assert found.layers["deep"].evidence.dtype == torch.float32
    assert found.labels.dtype == torch.int64
    assert found.left_out == original.left_out


@pytest.mark.parametrize("data", [{}, [], {"format": 1}, {"format": 99, "memorized_samples": 0}, 3])
def test_other_files_are_refused(tmp_path: Path, data: object) -> None:
    (tmp_path / "other.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="not a memorization report of format"):
        MemorizationReport.from_json(tmp_path / "other.json")


def test_printed() -> None:
    text = " ".join(str(report()).split())
    assert "Memorization of 6 training samples, against 50 held-out ones" in text
    assert "conv[1]" in text  # no markup
    assert "+0.70" in text
    assert "memorized samples: 2 ± 1 beyond chance; first (label, rather): 3 (3, rather 0)" in text
    assert "no held-out samples: class 9, 4" in text
    assert "skipped, its output is the same for every sample: dead" in text
    assert "memorized samples" not in str(report(output=False))


def test_in_words_and_in_a_notebook() -> None:
    assert repr(report()) == (
        "<MemorizationReport: +0.70 nats in the deepest hidden layer, +1.50 at the output, "
        "6 training samples>"
    )
    page = report()._repr_html_()
    assert page.startswith("<pre ")
    assert "conv[1]" in page


def test_a_bare_layer_is_one_line() -> None:
    assert repr(report().layers["deep"]) == (
        "LayerMemorization(kind='linear', value=0.7, standard_error=0.1, training_accuracy=0.5, "
        "held_out_accuracy=0.25)"
    )


def test_a_table_of_all_samples_worst_first() -> None:
    pytest.importorskip("pandas")
    table = report().to_pandas()
    assert table["index"].tolist() == [3, 1, 5, 0, 2, 4]
    assert table["memorized"].tolist() == [True, True, False, False, False, False]
    assert math.isnan(table["evidence"].iloc[-1])  # of a class that is not measured
    assert table["witness_label"].tolist()[:2] == [0, 2]
