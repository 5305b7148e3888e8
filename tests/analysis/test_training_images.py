"""Memorization of a folder of training images, and the table of suspects."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from filterwatch import MemorizationReport, score_samples
from filterwatch.analysis import (
    Analysis,
    InputError,
    LoadedModel,
    Memorization,
    analyze,
    load_model,
    measure_training_images,
    open_training_images,
    sample_probe,
    write_report,
)
from filterwatch.analysis.documents import page_memorization
from filterwatch.cli import main
from filterwatch.models import ImageClassifier
from finished_models import save, write_images

CLASSES = ["one", "three", "two", "zero"]  # as folders are sorted
NUMBERS = [1, 3, 2, 0]
N_TRAINING, N_HELD_OUT, N_WRONG = 60, 60, 8  # of each class; wrong ones come from the next class
PREPARED = ["--mean", "0.3", "--std", "0.4"]
SMALL = [*PREPARED, "--probe-size", "60", "--max-clusters", "4", "--charts", "0"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` and ``val``; the files of wrongly labeled training images are named so."""
    root = tmp_path_factory.mktemp("data")
    bunch = load_digits(n_class=4)
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    for place, number in enumerate(NUMBERS):
        own = images[bunch.target == number]
        write_images(root / "train" / CLASSES[place], own[: N_TRAINING - N_WRONG])
        write_images(
            root / "train" / CLASSES[(place + 1) % 4] / "wrong",
            own[N_TRAINING - N_WRONG : N_TRAINING],
        )
        held_out = own[N_TRAINING : N_TRAINING + N_HELD_OUT]
        write_images(root / "val" / CLASSES[place], held_out)
    return root


@pytest.fixture(scope="module")
def overfit(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network that has learned all training labels by heart."""
    probe = sample_probe(folders / "train", 1000, in_channels=1, mean=[0.3], std=[0.4])
    rows = torch.arange(len(probe))
    pixels, labels = probe.preprocessing(probe.pixels(rows), rows), probe.labels
    assert labels is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ImageClassifier("simple_cnn", num_classes=4, in_channels=1, image_size=8)
        optimizer = torch.optim.Adam(model.parameters(), 0.002)
        for _ in range(80):
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
    assert torch.equal(model.eval()(pixels).argmax(1), labels)
    return save(model, tmp_path_factory.mktemp("weights") / "overfit.ckpt")


@pytest.fixture(scope="module")
def measured(overfit: Path, folders: Path) -> Analysis:
    model = load_model(overfit)
    return with_memorization(model, folders)


def with_memorization(model: LoadedModel, folders: Path, **options: Any) -> Analysis:
    probe = sample_probe(folders / "val", 60, in_channels=1, mean=[0.3], std=[0.4])
    analysis = analyze(model, probe, max_clusters=3)
    found = measure_training_images(
        model, open_training_images(folders / "train", probe), analysis.n_outputs, **options
    )
    return Analysis(model, probe, analysis.report, analysis.n_outputs, memorization=found)


def memorization_of(analysis: Analysis) -> Memorization:
    assert analysis.memorization is not None
    return analysis.memorization


def suspects_in(output: Path) -> list[dict[str, str]]:
    with (output / "suspects.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_wrongly_labeled_files_are_the_first_suspects(
    overfit: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["--training-images", str(folders / "train")]
    place = ["--images", str(folders / "val"), "--output", str(tmp_path)]
    main(["analyze", str(overfit), *place, *train, *SMALL])
    shown = capsys.readouterr().out
    assert "Memorization of 60 training samples, against 240 held-out ones" in shown
    assert "training images: 240 of" in shown
    assert f"question first: {tmp_path / 'suspects.csv'}" in shown

    suspects = suspects_in(tmp_path)
    files = {
        path.relative_to(folders / "train").as_posix()
        for path in folders.rglob("*.png")
        if (folders / "train") in path.parents
    }
    assert len(suspects) == 240
    assert {row["file"] for row in suspects} == files
    evidence = [float(row["evidence"]) for row in suspects]
    assert evidence == sorted(evidence)
    first = suspects[: 4 * N_WRONG]
    assert sum("/wrong/" in row["file"] for row in first) >= 0.9 * len(first)
    assert shown.count("/wrong/") >= 6  # the first ones are named
    for row in suspects:
        assert row["file"].startswith(f"{row['label']}/")
        assert row["prediction"] == row["label"]  # all learned by heart
        assert row["contradicted"] == row["memorized"] == str(row["witness_label"] != row["label"])
    for row in first[:10]:
        # Wrong images come from the class before.
        assert CLASSES[(CLASSES.index(row["label"]) - 1) % 4] == row["witness_label"]

    document = json.loads((tmp_path / "report.json").read_text())["memorization"]
    report = MemorizationReport.from_dict(document)
    assert report.generalization_gap == document["generalization_gap"] > 0
    assert len(report.labels) == len(document["files"]) == 60
    for file, label in zip(document["files"], report.labels.tolist(), strict=True):
        assert file.startswith(f"{document['class_names'][label]}/")
    # The sample has the classes, and its share of the wrong labels.
    assert report.labels.bincount().tolist() == [15, 15, 15, 15]
    whole = document["all_training_images"]
    assert whole["n"] == 240
    assert whole["n_memorized"] == sum(row["memorized"] == "True" for row in suspects)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_it_measures_what_score_samples_does(measured: Analysis, folders: Path) -> None:
    found = memorization_of(measured)

    def prepared(split: str) -> tuple[torch.Tensor, torch.Tensor]:
        images = sample_probe(folders / split, 1000, in_channels=1, mean=[0.3], std=[0.4])
        assert images.labels is not None
        rows = torch.arange(len(images))
        return images.preprocessing(images.pixels(rows), rows), images.labels

    expected = score_samples(measured.model.module, prepared("train"), prepared("val"))
    torch.testing.assert_close(found.scores.evidence, expected.evidence, atol=1e-4, rtol=1e-4)
    assert torch.equal(found.scores.labels, expected.labels)
    # The report is about some of these samples.
    witness = found.report.layers[found.report.witness]
    torch.testing.assert_close(witness.evidence, found.scores.evidence[found.sample])


def test_the_sample_is_the_same_whatever_the_batches(measured: Analysis, folders: Path) -> None:
    model = measured.model
    whole = memorization_of(with_memorization(model, folders, sample_size=50, batch_size=1000))
    parts = memorization_of(with_memorization(model, folders, sample_size=50, batch_size=7))
    assert torch.equal(whole.sample, parts.sample)
    assert torch.equal(whole.report.labels, parts.report.labels)
    assert parts.report.generalization_gap == pytest.approx(
        whole.report.generalization_gap, abs=1e-4
    )
    assert sorted(whole.report.labels.bincount().tolist()) == [12, 12, 13, 13]


def test_the_page_shows_the_images_of_the_report(measured: Analysis) -> None:
    found = memorization_of(measured)
    shown = page_memorization(measured)
    assert shown is not None
    assert shown.report is found.report
    assert shown.history is None
    assert shown.images.labels == found.report.labels.tolist()
    names = [found.folders.images.files[row] for row in found.sample.tolist()]
    assert shown.images.files == names
    pixels = found.folders.images.pixels(found.sample[5:7])
    assert torch.equal(shown.images.thumbnails(torch.tensor([5, 6]), 8), pixels)
    assert page_memorization(Analysis(measured.model, measured.images, measured.report)) is None


def test_other_outputs_than_classes_leave_the_output_out(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ImageClassifier("simple_cnn", num_classes=7, in_channels=1, image_size=8)
    path = save(model, tmp_path / "seven.ckpt")
    train = ["--training-images", str(folders / "train")]
    place = ["--images", str(folders / "val"), "--output", str(tmp_path)]
    main(["analyze", str(path), *place, *train, *SMALL])
    shown = capsys.readouterr().out
    assert "7 outputs for 4 class folders" in " ".join(shown.split())
    assert "beyond chance" not in shown
    document = json.loads((tmp_path / "report.json").read_text())["memorization"]
    assert list(document["layers"])[-1] == "hidden layers"
    assert not any(name.startswith("network.fc2") for name in document["layers"])
    assert document["generalization_gap"] is None
    assert {row["prediction"] for row in suspects_in(tmp_path)} == {""}
    assert {row["memorized"] for row in suspects_in(tmp_path)} == {"False"}


def test_classes_are_matched_by_name(
    overfit: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["analyze", str(overfit), "--output", str(tmp_path / "out"), *SMALL]

    def message(train: Path, val: Path) -> str:
        return refused([*base, "--training-images", str(train), "--images", str(val)], capsys)

    # A class more in one folder would shift the numbers of those behind it.
    more = tmp_path / "more"
    shutil.copytree(folders / "train", more)
    shutil.copytree(folders / "train" / "zero", more / "nought")
    assert f"--images {folders / 'val'} lacks class folders that the other folder has: nought" in (
        message(more, folders / "val")
    )
    fewer = tmp_path / "fewer"
    shutil.copytree(folders / "train", fewer)
    shutil.rmtree(fewer / "one")
    assert f"--training-images {fewer} lacks class folders that the other folder has: one" in (
        message(fewer, folders / "val")
    )
    # An empty folder keeps the numbers; its class is left out.
    (fewer / "one").mkdir()
    main([*base, "--training-images", str(fewer), "--images", str(folders / "val")])
    shown = capsys.readouterr().out
    assert "not measured, no training samples: class 0" in shown
    assert f"note: class folders without images: one ({fewer})" in shown
    for row in suspects_in(tmp_path / "out"):
        assert row["file"].startswith(f"{row['label']}/")


def test_folders_that_do_not_go_together_are_refused_before_any_work(
    overfit: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, val, output = folders / "train", folders / "val", tmp_path / "out"
    flat, few = tmp_path / "flat", tmp_path / "few"
    write_images(flat, np.zeros((20, 8, 8), np.uint8))
    for name in CLASSES:
        write_images(few / name, np.zeros((9, 8, 8), np.uint8))
    base = ["analyze", str(overfit), "--output", str(output), *SMALL]
    for images, training, message in (
        (val, val, "are the same folder"),
        (val, folders / "no", f"--training-images {folders / 'no'} does not exist"),
        (val, flat, f"--training-images {flat} has no class folders"),
        (flat, train, f"--images {flat} has no class folders"),
        (few, train, "0 of them have the 10 samples that a decoder needs"),
        (val, folders, f"--training-images {folders} holds the splits train, val, not classes"),
    ):
        arguments = ["--images", str(images), "--training-images", str(training)]
        assert message in refused([*base, *arguments], capsys)
    both = ["--images", str(val), "--training-images", str(train)]
    assert "--held-out-size must be at least 1" in refused(
        [*base, *both, "--held-out-size", "0"], capsys
    )
    assert not (output / "report.json").exists()


def test_images_are_prepared_as_those_of_the_probe(folders: Path, tmp_path: Path) -> None:
    probe = sample_probe(folders / "val", 30, in_channels=1, mean=[0.2], std=[0.5])
    assert probe.image_size is None  # they share one
    for name in CLASSES:
        write_images(tmp_path / name, np.full((3, 20, 24), 51, np.uint8))
    opened = open_training_images(tmp_path, probe, held_out_size=80, seed=0)
    for images in (opened.images, opened.held_out):
        rows = torch.arange(4)
        pixels = images.preprocessing(images.pixels(rows), rows)
        assert pixels.shape == (4, 1, 8, 8)
    torch.testing.assert_close(
        opened.images.preprocessing(opened.images.pixels(rows), rows), torch.zeros(4, 1, 8, 8)
    )
    held_out = opened.held_out
    assert held_out.labels is not None
    assert held_out.labels.bincount().tolist() == [20, 20, 20, 20]
    assert set(probe.files) <= set(held_out.files)


def test_a_damaged_file_is_named(folders: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        write_images(tmp_path / name, np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "two" / "000.png").write_bytes(b"no image")
    probe = sample_probe(folders / "val", 30, in_channels=1)
    with pytest.raises(InputError, match=r"two/000\.png cannot be decoded"):
        open_training_images(tmp_path, probe)


def test_a_checkpoint_of_a_watched_fit_shows_its_course(
    measured: Analysis, overfit: Path, tmp_path: Path
) -> None:
    entries = [
        {
            "epoch": epoch,
            "count": 3,
            "memorization": {"network.relu1": 0.1 * epoch, "output": 0.2 * epoch},
            "memorization_errors": {"network.relu1": 0.1, "output": 0.1},
        }
        for epoch in range(3)
    ]
    curves = {"val_loss": [(0, 1.0), (1, 0.5), (2, 0.7)], "val_acc": [(0, 0.1)]}
    content = torch.load(overfit, weights_only=True)
    content["callbacks"] = {
        "ModelCheckpoint{'monitor': None}": {"history": entries[:1]},
        "AnomalyFilterCallback{'prefix': 'a'}": {"history": [{"epoch": 0, "count": 3}]},
        "AnomalyFilterCallback{'prefix': 'b'}": {"history": "lost"},
        "AnomalyFilterCallback{'prefix': ''}": {
            "history": [{"epoch": 9, "count": 1}, *entries],
            "curves": curves,
        },
    }
    torch.save(content, tmp_path / "watched.ckpt")
    model = load_model(tmp_path / "watched.ckpt")
    assert model.watched is not None
    assert model.watched.history == entries
    assert model.watched.losses == {"val_loss": curves["val_loss"]}
    analysis = replace(measured, model=model)
    shown = page_memorization(analysis)
    assert shown is not None
    assert shown.history == entries
    write_report(analysis, tmp_path / "watched.html", n_charts=0)
    assert '"lowest_loss":1' in (tmp_path / "watched.html").read_text()
    assert load_model(overfit).watched is None


def test_compare_takes_no_training_images(
    overfit: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--images", str(folders / "val"), "--output", str(tmp_path)]
    train = ["--training-images", str(folders / "train")]
    with pytest.raises(SystemExit):
        main(["compare", str(overfit), str(overfit), *place, *train])
    assert "unrecognized arguments: --training-images" in capsys.readouterr().err
