"""The probe that is drawn from a folder."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from filterwatch.analysis import InputError, sample_probe
from finished_models import digits, write_images


def test_it_is_balanced_random_and_repeatable(folder: Path) -> None:
    probe = sample_probe(folder, 40, seed=1)
    assert probe.labels is not None
    assert probe.labels.bincount().tolist() == [10, 10, 10, 10]
    assert probe.class_names == ["<script>", "a&b", "one", "two"]
    assert probe.n_available == 150
    assert probe.files == sample_probe(folder, 40, seed=1).files
    assert probe.files != sample_probe(folder, 40, seed=2).files
    firsts = [f"one/{number:03}.png" for number in range(10)]
    assert [file for file in probe.files if file.startswith("one/")] != firsts
    for file, label in zip(probe.files, probe.labels.tolist(), strict=True):
        assert file.startswith(probe.class_names[label])


def test_images_are_those_of_the_files(folder: Path) -> None:
    probe = sample_probe(folder, 40, in_channels=1)
    row = next(row for row, file in enumerate(probe.files) if file.startswith("<script>"))
    number = int(probe.files[row].removeprefix("<script>/").removesuffix(".png"))
    assert torch.equal(probe.pixels(torch.tensor([row]))[0, 0], torch.from_numpy(digits()[number]))


def test_small_classes_and_small_folders_give_all_they_have(folder: Path) -> None:
    probe = sample_probe(folder, 1000)
    assert probe.labels is not None
    assert probe.labels.bincount().tolist() == [60, 40, 30, 20]


def test_a_folder_without_classes_is_one_unlabelled_class(tmp_path: Path) -> None:
    write_images(tmp_path, digits()[:20])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".thumbnails").mkdir()
    probe = sample_probe(tmp_path, 8)
    assert probe.labels is None
    assert len(probe) == 8
    assert probe.class_names == []


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    write_images(tmp_path, digits()[:2])
    write_images(tmp_path / "cat" / "deep", digits()[:5])
    (tmp_path / "dog").mkdir()
    probe = sample_probe(tmp_path, 100)
    assert probe.files[0] == "cat/deep/000.png"
    assert len(probe) == 5
    assert probe.notes == [
        "2 images beside the class folders were left out",
        "class folders without images: dog",
    ]


def test_sizes_and_normalisation(tmp_path: Path) -> None:
    write_images(tmp_path / "a", digits()[:3])
    own = sample_probe(tmp_path, 3, usual_image_size=32, mean=[0.5], std=[0.25])
    assert own.preprocessing.image_size is None  # all of one size: as they are
    assert own.preprocessing.mean == (0.5, 0.5, 0.5)
    images = own.preprocessing(own.pixels(torch.arange(3)), torch.arange(3))
    expected = (own.pixels(torch.arange(3)).float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(images, expected)
    assert sample_probe(tmp_path, 3, image_size=16).preprocessing.image_size == 16
    write_images(tmp_path / "b", np.zeros((1, 12, 20), np.uint8))
    assert sample_probe(tmp_path, 4, usual_image_size=32).preprocessing.image_size == 32
    assert sample_probe(tmp_path, 4).preprocessing.image_size == 8


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        sample_probe(tmp_path / "absent")
    with pytest.raises(InputError, match=r"holds no images: expected .*<class>/<name>\.png"):
        sample_probe(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        sample_probe(tmp_path / "file")
    splits = tmp_path / "splits"
    write_images(splits / "train" / "cat", digits()[:2])
    write_images(splits / "val" / "cat", digits()[:2])
    with pytest.raises(InputError, match=r"holds the splits train, val, not classes"):
        sample_probe(splits)


def test_arguments_that_cannot_be_used(folder: Path) -> None:
    for arguments, message in (
        ({"in_channels": 4}, "images of 4 channels"),
        ({"size": 0}, "--probe-size must be at least 1, got 0"),
        ({"mean": [0.1]}, "--mean and --std belong together: give both"),
        ({"mean": [0.1, 0.2]}, "--mean needs 1 or 3 numbers, one a channel, got 2"),
        ({"std": [0.1, 0.0, 0.1]}, "--std must be positive"),
    ):
        with pytest.raises(InputError, match=message):
            sample_probe(folder, **arguments)  # type: ignore[arg-type]


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path / "a", digits()[:3])
    (tmp_path / "a" / "broken.png").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"broken\.png cannot be .*: repair or remove it"):
        sample_probe(tmp_path, 4)
    whole = (tmp_path / "a" / "000.png").read_bytes()
    (tmp_path / "a" / "broken.png").write_bytes(whole[:60])  # its size can still be read
    with pytest.raises(InputError, match=r"broken\.png .*: repair or remove it"):
        sample_probe(tmp_path, 4)


def test_decoding_much_shows_a_bar_where_somebody_watches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    for many, in_ci, shown in ((0, False, True), (0, True, False), (10**9, False, False)):
        monkeypatch.setattr("filterwatch.datamodules.stored_images._MANY", many)
        monkeypatch.setenv("CI", "true" if in_ci else "")
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        sample_probe(folder, 20)
        assert ("Decoding 20 images into memory" in terminal.getvalue()) is shown
