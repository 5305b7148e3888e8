"""The two commands from end to end."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from filterwatch import AnomalyReport
from filterwatch.cli import main
from filterwatch.visuals import progress
from finished_models import Tiny, digits, save_classifier, write_images

SMALL = ["--probe-size", "60", "--max-clusters", "8", "--small-cluster-size", "4", "--charts", "3"]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_analyze_prints_and_writes(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "down"
    main(["analyze", str(checkpoint), "--images", str(folder), "--output", str(output), *SMALL])
    shown = capsys.readouterr()
    assert shown.err == ""  # no bar where nobody watches
    assert "network.conv1" in shown.out
    assert f"model: filterwatch/simple_cnn from {checkpoint} (Lightning checkpoint)" in shown.out
    assert "probe: 60 of 150 images" in shown.out
    assert f"Look at {output / 'report.html'} (" in shown.out
    document = json.loads((output / "report.json").read_text())
    assert document["probe"]["class_names"] == ["<script>", "a&b", "one", "two"]
    assert len(document["probe"]["predictions"]) == len(document["probe"]["files"]) == 60
    assert document["model"]["name"] == "filterwatch/simple_cnn"
    report = AnomalyReport.from_json(output / "report.json")
    assert report.count == document["count"] > 0
    assert f"{report.count} anomaly filters" in shown.out
    assert (output / "report.html").read_text().startswith("<!doctype html>")


def test_the_same_seed_gives_the_same_numbers(
    checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    documents = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        place = ["--images", str(folder), "--output", str(tmp_path / name)]
        main(["analyze", str(checkpoint), *place, *SMALL, "--seed", seed])
        documents.append((tmp_path / name / "report.json").read_text())
    assert documents[0] == documents[1] != documents[2]


def test_options_reach_the_detection(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), path)
    command = f"""
        analyze {path} --model torchvision/resnet18 --images {folder} --output {tmp_path / "out"}
        --layers layer1.* --image-size 16 --ch-ratio off --activation-ratio 0.5
        --mean 0.1 --std 0.2 0.3 0.4 --device cpu
    """
    main([*command.split(), *SMALL])
    document = json.loads((tmp_path / "out" / "report.json").read_text())
    assert document["criteria"] == {
        "small_cluster_size": 4,
        "small_cluster_ratio": 0.2,
        "ch_ratio": None,
        "activation_ratio": 0.5,
    }
    assert all(name.startswith("layer1.") for name in document["layers"])
    assert document["probe"]["output_names"] == ["0", "1", "2"]
    assert document["probe"]["image_size"] == 16
    assert document["probe"]["std"] == [0.2, 0.3, 0.4]
    assert document["model"]["accuracy"] is None


def test_compare_prints_and_writes(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.ckpt"
    save_classifier(other, seed=7)
    place = ["--images", str(folder), "--output", str(tmp_path)]
    main(["compare", str(checkpoint), str(other), *place, *SMALL])
    shown = capsys.readouterr().out
    document = json.loads((tmp_path / "comparison.json").read_text())
    first, second = document["first"]["count"], document["second"]["count"]
    assert f"{first} anomaly filters in" in shown
    assert "turned anomalous:" in shown
    assert len(document["kept"]) + len(document["turned"]) == second
    assert len(document["kept"]) + len(document["ceased"]) == first
    assert (tmp_path / "comparison.html").stat().st_size > 4_000_000


def test_mistakes_end_with_the_remedy_before_any_work(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, output = ["--images", str(folder)], ["--output", str(tmp_path / "out")]
    base = ["analyze", str(checkpoint), *images, *output]
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for arguments, message in (
        (["analyze", str(tmp_path / "no.ckpt"), *images, *output], "no.ckpt does not exist"),
        ([*base, "--model", "torchvision/resnet81"], "did you mean"),
        ([*base, "--model", "torchvision/resnet18"], "missing in the file: bn1.weight"),
        ([*base[:2], "--images", str(tmp_path), *output], "holds no images"),
        ([*base, "--probe-size", "5"], "--probe-size 5 is too small for --max-clusters 14"),
        ([*base, "--image-size", "32"], "takes images of 8 pixels"),
        ([*base, "--image-size", "-1"], "--image-size must be at least 1, got -1"),
        ([*base, "--layers", "nowhere*"], "'nowhere*' matches none of: network.conv1"),
        ([*base, "--small-cluster-ratio", "-1"], "small_cluster_ratio must be"),
        ([*base, "--small-cluster-size", "few"], "--small-cluster-size"),
        ([*base, "--device", "warp"], "--device warp cannot be used"),
        ([*base[:4], "--output", str(blocked / "below")], "cannot be written to"),
        (["compare", str(checkpoint), *images, *output], "FILE"),
    ):
        assert message in refused(arguments, capsys)
    assert not (tmp_path / "out" / "report.json").exists()
    # A folder or a file that cannot be used is no reason to list all options.
    assert len(refused([*base, "--probe-size", "5"], capsys).splitlines()) == 1
    assert "usage: filterwatch analyze FILE --images DIR" in refused(base[:2], capsys)


def test_few_images_are_refused_or_noted(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    write_images(few, digits()[:12])
    command = ["analyze", str(checkpoint), "--images", str(few), "--output", str(tmp_path / "out")]
    assert "few holds 12 images, too few for --max-clusters 14" in refused(command, capsys)
    main([*command, "--max-clusters", "4"])
    noted = "note: 12 images are few: where a single image is a small cluster, many filters have"
    assert noted in capsys.readouterr().out


def test_code_in_a_checkpoint_needs_trust(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "whole.pt"
    torch.save(Tiny(), path)
    arguments = ["analyze", str(path), "--images", str(folder), "--output", str(tmp_path), *SMALL]
    assert "--trust" in refused(arguments, capsys)
    main([*arguments, "--trust"])
    assert "model: Tiny" in capsys.readouterr().out


def test_models_of_different_images_cannot_be_compared(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "whole.pt"
    torch.save(Tiny(), path)
    place = ["--images", str(folder), "--output", str(tmp_path)]
    message = refused(["compare", str(checkpoint), str(path), "--trust", *place], capsys)
    assert "take images of different shapes" in message


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_names_the_layer_on_a_terminal_and_not_in_ci(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    path = tmp_path / "[odd] name.ckpt"
    save_classifier(path, seed=0)
    command = ["analyze", str(path), "--images", str(folder), "--output", str(tmp_path), *SMALL]
    for in_ci in (False, True):
        monkeypatch.setenv("CI", "true" if in_ci else "")
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        main(command)
        shown = "[odd] name.ckpt: clustering, network.conv1" in terminal.getvalue()
        assert shown is not in_ci


def test_for_scripts(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["analyze", str(checkpoint), "--images", str(folder), *SMALL]
    before = set(tmp_path.iterdir())
    main([*command, "--json", "-"])
    shown = capsys.readouterr()
    count = json.loads(shown.out)["count"]
    assert f"{count} anomaly filters" in shown.err
    assert set(tmp_path.iterdir()) == before  # without --output nothing is written

    main([*command, "--quiet"])
    assert capsys.readouterr() == ("", "")
    main([*command, "--quiet", "--json", str(tmp_path / "numbers.json")])
    assert capsys.readouterr() == ("", "")
    assert json.loads((tmp_path / "numbers.json").read_text())["count"] == count

    main([*command, "--quiet", "--fail-above", str(count)])
    with pytest.raises(SystemExit) as end:
        main([*command, "--quiet", "--json", "-", "--fail-above", str(count - 1)])
    assert end.value.code == 1
    shown = capsys.readouterr()
    assert shown.err == f"filterwatch analyze: {count} anomaly filters, more than {count - 1}\n"
    assert json.loads(shown.out)["count"] == count


def test_a_limit_below_zero_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["analyze", "a.ckpt", "--images", "b", "--fail-above", "-1"], capsys)
    assert "argument --fail-above: -1 is below 0" in message
