"""`filterwatch fit`, `validate` and `test`, in-process on the digits."""

from pathlib import Path

import pytest
import torch
import yaml

from filterwatch.cli import main
from filterwatch.models import ImageClassifier, LeNet5

CONFIGS = Path(__file__).parent.parent / "configs"
QUICKSTART = str(CONFIGS / "quickstart.yaml")
FAST = [
    *("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu"),
    "--trainer.log_every_n_steps=1",
]

PLAIN = """
model: {class_path: ImageClassifier, init_args: {network: lenet5, in_channels: 1}}
data: {class_path: DigitsDataModule}
trainer:
  enable_progress_bar: false
  enable_model_summary: false
  logger: {class_path: CSVLogger, init_args: {save_dir: logs, name: plain}}
  callbacks:
    - class_path: EpochTable
"""


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep logs out of the repository, and the seed out of the other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    monkeypatch.setenv("PL_SEED_WORKERS", "0")


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A config of a user's own, without the callback."""
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN)
    return str(path)


def printed_config(capsys: pytest.CaptureFixture[str], *args: str) -> dict:
    """Return the whole parsed config instead of running it."""
    with pytest.raises(SystemExit) as end:
        main([*args, "--print_config"])
    assert end.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def class_names(entries: list[dict]) -> list[str]:
    return [entry["class_path"].rsplit(".", 1)[-1] for entry in entries]


def test_fit_validate_and_test_on_the_digits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", "--config", QUICKSTART, *FAST])
    above, header, row = capsys.readouterr().out.splitlines()[:3]
    assert above.split() == ["train", "val", "generalization", "memorized", "anomaly"]
    assert header.split()[1:-1] == ["accuracy", "accuracy", "gap", "samples", "filters"]
    assert len(row.split()) == len(header.split())
    assert "-" not in row.split()

    run = tmp_path / "logs" / "quickstart" / "version_0"
    assert (run / "config.yaml").is_file()
    assert list(run.glob("events.out.tfevents.*"))
    checkpoint = str(run / "checkpoints" / "last.ckpt")

    for command, stage in (("validate", "val"), ("test", "test")):
        # Lightning says that the new run's directory is not that of the checkpoint.
        with pytest.warns(UserWarning, match="dirpath has changed"):
            main([command, "--config", QUICKSTART, "--ckpt_path", checkpoint])
        shown = capsys.readouterr().out
        assert f"{stage}_loss" in shown
        assert f"{stage}_accuracy" in shown

    model = ImageClassifier.load_from_checkpoint(checkpoint, weights_only=True)
    assert type(model.network).__name__ == "SimpleCNN"


def test_every_run_keeps_its_own_config(tmp_path: Path, plain: str) -> None:
    main(["fit", "--config", plain, *FAST])
    main(["fit", "--config", plain, *FAST, "--model.learning_rate=0.5"])
    first, second = (
        yaml.safe_load((tmp_path / "logs" / "plain" / f"version_{i}" / "config.yaml").read_text())
        for i in range(2)
    )
    assert first["model"]["init_args"]["learning_rate"] == 0.001
    assert second["model"]["init_args"]["learning_rate"] == 0.5


def test_a_resumed_run_may_write_into_its_own_directory(tmp_path: Path, plain: str) -> None:
    here = ["--trainer.logger.version=0"]
    main(["fit", "--config", plain, *FAST, *here])
    [checkpoint] = (tmp_path / "logs" / "plain" / "version_0" / "checkpoints").glob("*.ckpt")
    resume = [*FAST, "--trainer.max_epochs=2", *here, "--ckpt_path", str(checkpoint)]
    with pytest.warns(UserWarning, match="exists and is not empty"):
        main(["fit", "--config", plain, *resume])
    config = yaml.safe_load((tmp_path / "logs" / "plain" / "version_0" / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 2


def test_without_a_logger_no_config_is_written_over_the_users(tmp_path: Path) -> None:
    mine = tmp_path / "config.yaml"
    mine.write_text(PLAIN)
    quiet = ["--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    main(["fit", "--config", "config.yaml", *FAST, *quiet])
    assert mine.read_text() == PLAIN
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_the_same_command_gives_the_same_weights(tmp_path: Path, plain: str) -> None:
    def weights(name: str, *args: str) -> torch.Tensor:
        main(["fit", "--config", plain, *FAST, f"--trainer.logger.name={name}", *args])
        [path] = (tmp_path / "logs" / name).rglob("*.ckpt")
        return ImageClassifier.load_from_checkpoint(path).network.conv1.weight

    first, again, other = (
        weights("first"),
        weights("again"),
        weights("other", "--seed_everything=1"),
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_callbacks_plus_adds_to_the_configs_own(
    plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Appending once replaced the callbacks of a config file."""
    add = ["--trainer.callbacks+=AnomalyFilterCallback", "--trainer.callbacks.probe_size=200"]
    config = printed_config(capsys, "fit", "--config", plain, *add)
    callbacks = config["trainer"]["callbacks"]
    assert class_names(callbacks) == ["EpochTable", "AnomalyFilterCallback"]
    assert callbacks[1]["init_args"]["probe_size"] == 200


def test_callbacks_plus_watches_a_run(plain: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--config", plain, *FAST, "--trainer.callbacks+=AnomalyFilterCallback"])
    assert "anomaly" in capsys.readouterr().out.splitlines()[0].split()


def test_short_names_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["--model=ImageClassifier", "--model.network=lenet5", "--data=CIFAR10DataModule"]
    config = printed_config(capsys, "fit", *names)
    assert class_names([config["model"], config["data"]]) == [
        "ImageClassifier",
        "CIFAR10DataModule",
    ]
    assert config["seed_everything"] == 0


def test_any_module_is_a_network(tmp_path: Path, plain: str) -> None:
    network = (
        "{class_path: filterwatch.models.LeNet5, init_args: {in_channels: 1, num_classes: 12}}"
    )
    settings = [f"--model.network={network}", "--model.num_classes=12"]
    main(["fit", "--config", plain, *settings, *FAST])

    [checkpoint] = (tmp_path / "logs" / "plain").rglob("*.ckpt")
    model = ImageClassifier.load_from_checkpoint(checkpoint, network=LeNet5(12, in_channels=1))
    assert model.network.classifier[-1].out_features == 12
    with pytest.warns(UserWarning, match="dirpath has changed"):
        main(["validate", "--config", plain, *settings, "--ckpt_path", str(checkpoint)])


@pytest.mark.parametrize("written", [("--config", "{}"), ("--config={}",), ("-c", "{}")])
def test_configs_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: tuple[str, ...]
) -> None:
    named = [part.format("quickstart") for part in written]
    overlay = ["--config", "actions/mask"]
    by_path = ["--config", QUICKSTART, "--config", str(CONFIGS / "actions" / "mask.yaml")]
    expected = printed_config(capsys, "fit", *by_path)
    assert printed_config(capsys, "fit", *named, *overlay) == expected
    # A file of that name comes first.
    (tmp_path / "quickstart").write_text(PLAIN)
    found = printed_config(capsys, "fit", *named)
    assert found["trainer"]["logger"]["init_args"]["name"] == "plain"


def test_a_config_may_be_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed_config(
        capsys, "fit", "--config", QUICKSTART, "--config", "{trainer: {max_epochs: 3}}"
    )
    assert found["trainer"]["max_epochs"] == 3


def test_a_missing_config_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("quickstrat", "configs/nowhere.yaml"):
        with pytest.raises(SystemExit) as end:
            main(["fit", "--config", name])
        assert end.value.code == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"filterwatch fit: error: --config {name}: there is no such file")
        assert "actions/mask, " in line
        assert line.endswith("quickstart, resnet18_cifar10")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model.network=vgg", "Unknown network 'vgg'"),
        ("--model.learning_rate=-1", "learning_rate must be positive, got -1"),
        ("--model.colour=blue", "colour"),
        ("--data=NoSuchDataModule", "NoSuchDataModule"),
    ],
)
def test_bad_arguments_end_in_a_message_without_a_traceback(
    plain: str, argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", plain, argument])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_an_action_is_handed_to_the_callback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act = ["--action=MaskFilters", "--action.max_fraction=0.5", "--action.patience=3"]
    main(["fit", "--config", QUICKSTART, *FAST, *act])
    assert "masked at the end: 0 filters" in capsys.readouterr().out
    run = tmp_path / "logs" / "quickstart" / "version_0"
    written = yaml.safe_load((run / "config.yaml").read_text())["action"]
    assert written["class_path"] == "filterwatch.MaskFilters"
    assert (written["init_args"]["patience"], written["init_args"]["verify"]) == (3, False)
    # What was written can be run again.
    main(["fit", "--config", str(run / "config.yaml"), *FAST])
    assert "masked at the end: 0 filters" in capsys.readouterr().out


def test_an_action_written_into_the_callback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "acting.yaml"
    path.write_text(
        PLAIN
        + """
    - class_path: AnomalyFilterCallback
      init_args:
        probe_size: 100
        max_clusters: 5
        action:
          - {class_path: StopTraining, init_args: {start_epoch: 3}}
          - class_path: MaskFilters
            init_args:
              max_fraction: 0.4
              criteria: {class_path: AnomalyCriteria, init_args: {ch_ratio: 1.2}}
"""
    )
    # LeNet-5 has 6 and 16 filters: 0.4 of them leaves room in each layer.
    main(["fit", "--config", str(path), *FAST])
    assert "masked at the end: 0 filters" in capsys.readouterr().out


def test_an_action_without_a_callback_is_an_error(
    plain: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", plain, *FAST, "--action=StopTraining"])
    assert end.value.code == 2
    assert "trainer.callbacks has 0 AnomalyFilterCallback" in capsys.readouterr().err


def test_a_refused_argument_of_an_action_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    act = ["--action=MaskFilters", "--action.max_fraction=2"]
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", QUICKSTART, *FAST, *act])
    assert end.value.code == 2
    assert "max_fraction must be above 0 and below 1, got 2" in capsys.readouterr().err
