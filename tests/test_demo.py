"""`filterwatch demo`: what it says is true for any seed, and what it prints works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Trainer

from filterwatch import AnomalyFilterCallback, AnomalyReport, detect_anomaly_filters
from filterwatch._compat import callbacks_of
from filterwatch.cli import main
from filterwatch.config_files import find_config
from filterwatch.datamodules import DigitsDataModule
from filterwatch.demo import find_planted, train

N_BLANK = 10


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep logs out of the repository, and the seed out of the other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")


def probed_twice(tmp_path: Path) -> None:
    """Put a quickstart first that trains the same network, but probes it at both ends alone."""
    config = yaml.safe_load(find_config("quickstart").read_text())
    watching = config["trainer"]["callbacks"][0]["init_args"]
    watching |= {"every_n_epochs": config["trainer"]["max_epochs"] - 1, "pictures": False}
    (tmp_path / "quickstart").write_text(yaml.safe_dump(config))


def check_findings(trainer: Trainer, seed: int) -> None:
    watch = next(c for c in callbacks_of(trainer) if isinstance(c, AnomalyFilterCallback))
    first, last = (watch.history[at]["memorization"] for at in (0, -1))
    output = list(last)[-1]
    assert abs(first[output]) < 0.2
    assert last[output] > 0.7

    found = find_planted(trainer)
    assert found.n_memorized == 30
    assert found.n_wrong_among_them >= 27
    assert found.n_blank_on_top == N_BLANK
    assert watch.report is not None
    assert watch.report.count >= 5

    whole = DigitsDataModule(seed=seed, batch_size=100)
    whole.setup()
    report = detect_anomaly_filters(
        trainer.lightning_module, whole.probe_dataloader(), criteria=watch.criteria
    )
    assert report.count <= 1


def test_demo_and_the_commands_that_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One training, to its end."""
    probed_twice(tmp_path)
    (tmp_path / "my runs" / "demo" / "version_0").mkdir(parents=True)  # an earlier run's
    main(["demo", "--output", "my runs/demo"])
    shown = capsys.readouterr()
    assert shown.err == ""
    rows = [line.split() for line in shown.out.splitlines()]
    first, last = (next(row for row in rows if row[:1] == [epoch]) for epoch in ("0", "29"))
    assert float(first[3]) < 0.2 < 0.7 < float(last[3])  # the gap
    [n_wrong] = re.findall(r"Of the 30 .* memorized most, (\d+) have a wrong label\.", shown.out)
    assert int(n_wrong) >= 27
    assert "Of the 10 images isolated by most anomaly filters, 10 are blank." in shown.out
    commands = [shlex.split(line) for line in shown.out.splitlines() if line.startswith("    ")]
    tensorboard, analyze = (words for words in commands if words and words[-2][:2] == "--")
    run = Path("my runs/demo/version_1")
    assert tensorboard[-2:] == ["--logdir", str(run)]
    assert list(run.glob("events.out.tfevents.*"))

    main([*analyze[analyze.index("analyze") :]])
    shown = capsys.readouterr()
    report = AnomalyReport.from_json(run / "report" / "report.json")
    # The same images and thresholds as in the run; batches of another size round otherwise.
    assert report.count >= 5
    assert report.criteria.small_cluster_size == 0.02
    assert "small_cluster_size = 0.02" in shown.out
    assert "the settings of the run, kept in the checkpoint" in " ".join(shown.out.split())
    assert sum("_blank" in word for word in shown.out.split()) == 8  # all that are listed
    suspects = (run / "report" / "suspects.csv").read_text().splitlines()[1:31]
    assert sum("_is_" in line for line in suspects) >= 27
    assert (run / "report" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_what_the_demo_shows_holds_for_any_seed(tmp_path: Path, seed: int) -> None:
    check_findings(train(tmp_path / "demo", seed), seed)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "many"])
def test_a_wrong_seed_is_named(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["demo", "--seed", seed])
    assert end.value.code == 2
    assert "argument --seed: " in capsys.readouterr().err
