"""A finished model is judged as its run was, unless told otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from filterwatch import AnomalyCriteria, AnomalyFilterCallback
from filterwatch.analysis import InputError, choose_settings, load_model
from filterwatch.analysis.model_files import RunSettings
from filterwatch.cli import main

STRICT = AnomalyFilterCallback(
    criteria=AnomalyCriteria(small_cluster_size=4, ch_ratio=None), max_clusters=5, votes=2
)
OTHER = AnomalyFilterCallback(prefix="other/", max_clusters=6, pca="layer")
RUN = RunSettings(AnomalyCriteria(small_cluster_size=4, ch_ratio=None), 5, "filter", 2)


def watched_by(path: Path, source: Path, *callbacks: AnomalyFilterCallback) -> Path:
    """Write a checkpoint with the states of callbacks, as a Trainer keeps them."""
    content: dict[str, Any] = torch.load(source, weights_only=True)
    content["callbacks"] = {each.state_key: each.state_dict() for each in callbacks}
    torch.save(content, path)
    return path


def test_settings_are_read_from_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    path = watched_by(tmp_path / "a.ckpt", checkpoint, STRICT, OTHER)
    found = load_model(path).run_settings
    assert found == [RUN, RunSettings(max_clusters=6, pca="layer", prefix="other/")]
    assert load_model(checkpoint).run_settings == []


@pytest.mark.parametrize("broken", [{}, {"criteria": {"colour": 1}}, {"criteria": None}, None])
def test_settings_of_another_making_are_left_alone(
    checkpoint: Path, tmp_path: Path, broken: Any
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["callbacks"] = {OTHER.state_key: {"settings": broken}, "AnomalyFilterCallback{(": {}}
    torch.save(content, tmp_path / "broken.ckpt")
    assert load_model(tmp_path / "broken.ckpt").run_settings == []


def test_what_is_asked_for_comes_first_then_the_run_then_the_defaults() -> None:
    assert choose_settings([[]], {}).arguments() == {
        "criteria": AnomalyCriteria(),
        "max_clusters": 14,
        "pca": "filter",
        "votes": 0,
        "judged_by": "the defaults",
    }
    of_run = choose_settings([[RUN]], {})
    assert (of_run.criteria, of_run.max_clusters, of_run.votes) == (RUN.criteria, 5, 2)
    assert of_run.origin == "the settings of the run, kept in the checkpoint"
    asked = choose_settings([[RUN]], {"ch_ratio": 1.5, "max_clusters": 8})
    assert asked.criteria == replace(RUN.criteria, ch_ratio=1.5)
    assert (asked.max_clusters, asked.votes) == (8, 2)
    assert asked.origin.endswith("; as given: --ch-ratio, --max-clusters")


def test_several_callbacks_have_to_agree_or_one_is_named() -> None:
    other = RunSettings(max_clusters=6, prefix="other/")
    with pytest.raises(
        InputError, match=r"several callbacks.*prefix=''.*prefix='other/'.*--prefix"
    ):
        choose_settings([[RUN, other]], {})
    assert choose_settings([[RUN, other]], {}, "other/").max_clusters == 6
    assert choose_settings([[RUN, replace(RUN, prefix="x")]], {}).max_clusters == 5
    with pytest.raises(InputError, match=r"--prefix 'no': the run was watched by prefix=''"):
        choose_settings([[RUN]], {}, "no")
    with pytest.raises(InputError, match="no file holds the settings"):
        choose_settings([[]], {}, "no")


def test_two_models_are_judged_alike() -> None:
    other = replace(RUN, max_clusters=6)
    assert choose_settings([[RUN], []], {}).max_clusters == 5
    with pytest.raises(InputError, match=r"different settings.*max_clusters = 5.*max_clusters = 6"):
        choose_settings([[RUN], [other]], {})
    assert choose_settings([[RUN], [other]], {"max_clusters": 4}).max_clusters == 4


def test_analyze_says_what_it_judges_by(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = watched_by(tmp_path / "a.ckpt", checkpoint, STRICT)
    command = ["analyze", str(path), "--images", str(folder), "--probe-size", "60"]
    main([*command, "--json", str(tmp_path / "run.json"), "--votes", "0"])
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "judged by: small_cluster_size = 4, small_cluster_ratio = 0.2, ch_ratio = off, "
        "activation_ratio = 0.2, max_clusters = 5, pca = filter, votes = 0 "
        "(the settings of the run, kept in the checkpoint; as given: --votes)"
    ) in shown
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["criteria"]["ch_ratio"] is None
    assert document["settings"]["max_clusters"] == 5
    main([*command, "--ch-ratio", "1.0", "--json", "-", "--quiet", "--votes", "0"])
    assert json.loads(capsys.readouterr().out)["criteria"]["ch_ratio"] == 1.0
