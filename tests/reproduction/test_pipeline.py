"""Each command on tiny data, through the command line."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from archives import write
from filterwatch import AnomalyCriteria, detect_anomaly_filters
from filterwatch.datamodules import CIFAR100DataModule, FashionMNISTDataModule
from reproduction import evidence, outlier_gradients
from reproduction.__main__ import main
from reproduction.cell_images import Images
from reproduction.cells import Cell
from reproduction.kept_probes import Configuration, load_network, probe_images
from reproduction.run_folder import RunFolder

LENET = ("--models", "lenet5", "--datasets", "cifar10", "--seeds", 0, 1, "--epochs", 3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(outlier_gradients, "PROBE_SIZE", 120)
    monkeypatch.setattr(evidence, "SHORT_SEEDS", (0, 1))
    monkeypatch.setattr(evidence, "SHORT_EPOCHS", 5)
    monkeypatch.setattr(evidence, "SHUFFLED_EPOCHS", 2)
    monkeypatch.setattr(evidence, "SHORT_TRAIN_SIZE", 100)


@pytest.fixture
def analyse(reproduce, trained_runs):
    def run(name, *arguments):
        return reproduce(name, *LENET, *arguments, runs=trained_runs)

    return run


def test_table2_counts_what_the_public_function_counts(analyse, image_folder, trained_runs):
    result = analyse("table2", "--no-train")
    assert [row["status"] for row in result["cells"]] == ["done", "done"]
    row = result["cells"][1]
    curves = RunFolder(trained_runs / "lenet5-cifar10-overfit-seed1").curves()
    lowest = min(curves, key=lambda entry: entry["val_loss"])["epoch"]
    assert row["well_trained"]["epoch"] == lowest
    assert row["overfit"]["epoch"] == 2
    datamodule = Images("cifar10", image_folder).divided(Cell("lenet5", "cifar10", seed=1))
    probe, _ = probe_images(datamodule, Configuration())
    network = load_network(RunFolder(trained_runs / "lenet5-cifar10-overfit-seed1"), 2, datamodule)
    for name, criteria in (("default", AnomalyCriteria()), ("paper", AnomalyCriteria.paper(1))):
        expected = detect_anomaly_filters(network, probe, criteria=criteria).count
        assert row["overfit"]["counts"][name] == expected


def test_fig4_follows_every_epoch_of_every_regime(analyse):
    result = analyse("fig4", "--regimes", "overfit", "regularised")
    assert len(result["cells"]) == 4
    for row in result["cells"]:
        assert [entry["epoch"] for entry in row["counts"]] == [0, 1, 2]
        assert len(row["curves"]) == 3


def test_table3_compares_both_probes(analyse):
    result = analyse("table3")
    for row in result["cells"]:
        for state in ("well_trained", "overfit"):
            for source in ("train", "held_out"):
                entry = row[state][source]
                assert entry["n_samples"] == 120
                assert entry["normal"] > 0


def test_masking_tables_agree_with_each_other(analyse):
    table4, table5, table6 = (analyse(name) for name in ("table4", "table5", "table6"))
    for first, second, third in zip(table4["cells"], table5["cells"], table6["cells"], strict=True):
        for kind in ("anomaly", "random"):
            changes = second[kind]["test"]["values"]
            assert first[kind]["filters"] == len(changes)
            assert first[kind]["test_up"] == sum(change > 0 for change in changes)
        held_out = third["held_out"]
        assert held_out["masked"] == first["anomaly"]["filters"]
        everyone = sum(held_out["outliers"].values()) + sum(held_out["others"].values())
        assert everyone == 120


def test_evidence_answers_every_question(analyse, reproduce, trained_runs, tmp_path, monkeypatch):
    monkeypatch.setattr("reproduction.choosing_defaults._MAX_CLUSTERS", (6,))
    monkeypatch.setattr("reproduction.choosing_defaults.SELECTION_DRAWS", (0,))
    monkeypatch.setattr("reproduction.choosing_defaults.REPORT_DRAWS", (0,))
    monkeypatch.setattr("reproduction.sensitivity.DRAWS", (0,))
    result = analyse("evidence", "--regimes", "overfit", "regularised")
    found = result["models"]["lenet5"]
    assert {(run["regime"], run["seed"]) for run in found["follow"]} == {
        (regime, seed) for regime in ("overfit", "regularised") for seed in (0, 1)
    }
    assert found["selection"]["seeds"] == [0, 1]
    assert len(found["selection"]["left_out"]) == 2
    factors = {entry["factor"] for entry in found["sensitivity"]}
    assert {"largest K", "probe size", "PCA", "probe draw"} <= factors
    assert all(len(entry["untrained"]) == 2 for entry in found["sensitivity"])
    assert len(result["shuffled"]["lenet5"]["shuffled"]["default"]) == 2
    lead_time = result["lead_time"]["lenet5"]
    assert lead_time["calibration_seeds"] == [0]
    assert {"count", "score", "kurtosis", "early_stopping"} <= lead_time["alarms"].keys()

    analyse("fig4")
    reproduce("render")
    page = (tmp_path / "results.md").read_text()
    for text in ("Best of", "Overfitting, or only time?", "Controls", "Lead time", "A default"):
        assert text in page
    for name in ("fig4", "signals_lenet5"):
        assert f"figures/{name}.svg" in page
        assert (tmp_path / "figures" / f"{name}.svg").exists()
    first = (tmp_path / "figures" / "fig4.svg").read_bytes()
    reproduce("render")
    assert (tmp_path / "results.md").read_text() == page
    assert (tmp_path / "figures" / "fig4.svg").read_bytes() == first


def test_what_a_cpu_cannot_do_is_shown_with_its_command(reproduce):
    result = reproduce("table2", "--datasets", "cifar10", "--seeds", 0, "--no-train")
    by_model = {row["model"]: row for row in result["cells"]}
    assert by_model["lenet5"]["reason"] == "not trained"
    assert "--models alexnet" in by_model["alexnet"]["command"]


def test_networks_for_gpus_are_not_trained_on_a_cpu_unless_named(reproduce, monkeypatch):
    trained = []

    def train(cell, datamodule, folder, **options):
        trained.append(cell.model)
        return folder

    monkeypatch.setattr("reproduction.trained_cells.train_cell", train)
    only = ("--datasets", "cifar10", "--seeds", 0)
    reproduce("train", *only)
    assert trained == ["simple_cnn", "lenet5"]
    reproduce("train", "--models", "alexnet", *only)
    assert trained[2:] == ["alexnet"]


def test_data_that_cannot_be_had_is_shown_as_such(reproduce, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    only = ("--models", "lenet5", "--datasets", "cifar100", "--seeds", 0)
    (row,) = reproduce("table2", *only, data=tmp_path)["cells"]
    assert row["status"] == "not run"
    assert "no images: CIFAR100" in row["reason"]


@pytest.mark.parametrize(
    ("dataset", "datamodule"),
    [("cifar100", CIFAR100DataModule), ("fashion_mnist", FashionMNISTDataModule)],
)
def test_the_other_data_sets_go_through_from_their_archives(
    reproduce, tmp_path, monkeypatch, dataset, datamodule
):
    def exists(path, md5=None):
        return Path(path).is_file()

    for module in ("cifar", "mnist", "utils"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", exists)
    write(datamodule, tmp_path / "archives", n_train=800, n_test=50)
    only = ("--models", "lenet5", "--datasets", dataset, "--seeds", 0, "--epochs", 1)
    (row,) = reproduce("table2", *only, data=tmp_path / "archives")["cells"]
    assert row["status"] == "done"
    assert row["overfit"]["epoch"] == 0


@pytest.mark.slow
def test_resnet_goes_through_when_named(reproduce, image_folder):
    only = ("--models", "resnet18", "--datasets", "cifar10", "--seeds", 0, "--epochs", 1)
    result = reproduce("table2", *only, "--train-size", 32)
    assert result["cells"][0]["status"] == "done"


def test_a_run_of_other_settings_ends_with_a_message(reproduce, tmp_path):
    only = ("--models", "lenet5", "--datasets", "cifar10", "--seeds", 0, "--epochs", 1)
    reproduce("train", *only, "--train-size", 64)
    with pytest.raises(SystemExit, match=r"batch_size.*--runs"):
        reproduce("train", *only, "--train-size", 64, "--batch-size", 32)


def test_help_names_every_experiment(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for name in ("train", "fig4", "table2", "table3", "table6", "evidence", "render"):
        assert name in shown


def test_threads_are_set(reproduce):
    before = torch.get_num_threads()
    try:
        reproduce("render", "--threads", 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
