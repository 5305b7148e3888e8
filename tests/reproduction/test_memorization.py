"""The command on tiny runs, item by item, against the package's own functions."""

import json

import pytest
import torch
from sklearn.metrics import roc_auc_score

from filterwatch import measure_memorization
from reproduction import memorization, memorization_retraining, memorization_rivals
from reproduction.__main__ import main
from reproduction.cell_images import Images
from reproduction.cell_training import evaluate, read_batch
from reproduction.cells import Cell
from reproduction.kept_probes import load_network
from reproduction.memorization_features import Features
from reproduction.memorization_tables import memorization_section
from reproduction.run_folder import RunFolder

EPOCHS, SEEDS = 5, (0, 1)


@pytest.fixture(scope="module")
def command(image_folder, tmp_path_factory):
    """Run the command on tiny runs; return what it wrote."""
    root = tmp_path_factory.mktemp("memorization")
    patch = pytest.MonkeyPatch()
    patch.setattr(memorization, "UNTRAINED_NETWORKS", ("resnet18",))
    patch.setattr(memorization, "DRAWS", 2)
    patch.setattr(memorization, "UNTRAINED_DRAWS", 3)
    patch.setattr(memorization_retraining, "EPOCHS", 2)
    patch.setattr(memorization_rivals, "FOLDS", 2)
    patch.setattr(memorization_rivals, "FOLD_EPOCHS", 2)

    def run(*more):
        where = ["--data", image_folder, "--runs", root / "runs", "--results", root]
        which = ["--models", "simple_cnn", "--regimes", "overfit", "regularised", "wrong20"]
        how = ["--seeds", *SEEDS, "--epochs", EPOCHS, "--batch-size", 32, "--device", "cpu"]
        main(["memorization", *map(str, [*where, *which, *how, *more])])
        return json.loads((root / "memorization.json").read_text())

    run.runs = root / "runs"
    yield run
    patch.undo()


@pytest.fixture(scope="module")
def result(command):
    return command()


@pytest.fixture
def wrong20(image_folder, command, result):
    """Entry, folder and images of the run with wrong labels, seed 1."""
    entry = next(run for run in result["runs"] if (run["regime"], run["seed"]) == ("wrong20", 1))
    cell = Cell("simple_cnn", "cifar10", "wrong20", seed=1, epochs=EPOCHS, batch_size=32)
    datamodule = Images("cifar10", image_folder).divided(cell)
    datamodule.setup()
    return entry, RunFolder(command.runs / cell.name), datamodule


def images_of(dataset):
    return read_batch(dataset, torch.arange(len(dataset)))


def test_values_and_scores_are_those_of_the_public_function(wrong20):
    entry, folder, datamodule = wrong20
    wrong = datamodule.train_dataset.is_mislabelled
    for state in ("best", "last"):
        found = entry[state]
        report = measure_memorization(
            load_network(folder, found["epoch"], datamodule),
            images_of(datamodule.train_dataset),
            images_of(datamodule.probe_dataset),
        )
        assert found["deepest"] == "classifier.2"
        for name, layer in report.layers.items():
            assert found["rows"][name] == pytest.approx(
                [layer.value, layer.standard_error], rel=1e-3, abs=1e-4
            )
        evidence = report.layers[report.witness].evidence
        area = found["which"]["scores"]["witness"]["auroc"]
        assert area == pytest.approx(roc_auc_score(wrong, -evidence), abs=2e-3)
        assert found["which"]["wrong"] == int(wrong.sum()) == 84
        scores = found["which"]["scores"].keys()
        assert {"loss", "aum", "neighbors", "cleanlab", "witness_noisy"} <= scores


def test_the_null_draws_from_untrained_and_trained_networks(result):
    states = {(row["model"], row["state"]): row for row in result["null"]}
    assert states["simple_cnn", "untrained"]["draws"] == 3 * len(SEEDS)
    assert states["simple_cnn", "untrained"]["ratios"] == 3 * len(SEEDS) * 6
    assert states["simple_cnn", "last epoch, held-out images alone"]["draws"] == 2 * 6
    assert states["resnet18", "untrained"]["draws"] == 3
    every = states["all", "everything"]
    assert every["draws"] == sum(row["draws"] for row in result["null"][:-1])
    assert every["beyond_three"] < 0.05


def test_a_layer_set_back_alone_is_measured_for_every_row(wrong20):
    entry, folder, datamodule = wrong20
    where = entry["where"]
    if where is None:
        pytest.skip("the last epoch is the best one")
    assert list(where["rows"]) == ["relu1", "relu2", "relu3", "classifier.2", "output"]
    network = load_network(folder, entry["last"]["epoch"], datamodule)
    accuracy = evaluate(network, datamodule.val_dataset)[1]
    early = folder.weights(entry["best"]["epoch"])
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(network.conv2, name).copy_(early[f"conv2.{name}"])
    gain = evaluate(network, datamodule.val_dataset)[1] - accuracy
    assert where["rows"]["relu2"]["accuracy_gain"] == pytest.approx(gain, abs=1e-6)


def test_alarms_are_compared_with_early_stopping(result):
    found = result["alarms"]["simple_cnn"]
    assert [run["seed"] for run in found["runs"] if run["overfits"]] == list(SEEDS)
    stopping = found["rules"]["early_stopping"]
    assert stopping["of"] == len(SEEDS)
    assert {"memorization:rise", "generalization_gap:level"} <= found["rules"].keys()


def test_runs_are_trained_again_without_the_first_suspects(wrong20, command, result):
    _, folder, datamodule = wrong20
    wrong = datamodule.train_dataset.is_mislabelled
    again = result["retraining"][1]
    for way in ("witness", "aum", "random", "wrong"):
        left_out = json.loads((folder.path / f"without-{way}" / "left_out.json").read_text())
        assert len(left_out) == int(wrong.sum())
        assert again[way]["precision"] == pytest.approx(float(wrong[left_out].double().mean()))
        settings = RunFolder(folder.path / f"without-{way}").settings()
        assert settings["images"]["train"] == len(wrong) - len(left_out)
    assert again["wrong"]["precision"] == 1
    network = load_network(folder, 1, datamodule)
    assert again["nothing"]["last"] == pytest.approx(
        evaluate(network, datamodule.test_dataset)[1], abs=1e-6
    )


def test_what_was_measured_is_read_from_disk(command, result, monkeypatch):
    monkeypatch.setattr(Features, "of_network", None)
    again = command("--no-train")
    unlike = ("duration_seconds", "command")
    assert {key: value for key, value in again.items() if key not in unlike} == {
        key: value for key, value in result.items() if key not in unlike
    }


def test_the_section_shows_every_item(result):
    text = memorization_section(result)
    for heading in ("The null", "Whether", "Where", "In time", "Which", "Training again"):
        assert f"### {heading}" in text
    outcomes = [line.split("|")[-2].strip() for line in text.split("\n\n")[0].splitlines()[2:]]
    order = ["missed", "met in part", "met", "no data"]
    assert outcomes == sorted(outcomes, key=order.index)
