import pytest
import torch

from filterwatch.models import LeNet5
from reproduction.cell_images import Images
from reproduction.cell_training import evaluate, train_cell, unaugmented
from reproduction.cells import Cell
from reproduction.run_folder import UNTRAINED, RunFolder


@pytest.fixture(scope="module")
def images(image_folder):
    return Images("cifar10", image_folder)


def train(images, path, epochs=2, *, regime="regularised", **options):
    cell = Cell("lenet5", "cifar10", regime, epochs=epochs)
    return train_cell(cell, images.divided(cell), RunFolder(path), **options)


def without_seconds(curves):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in curves]


def assert_equal_runs(first, second, epochs):
    assert without_seconds(first.curves()) == without_seconds(second.curves())
    for epoch in epochs:
        left, right = first.weights(epoch), second.weights(epoch)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_every_epoch_is_kept_with_its_losses(images, tmp_path):
    run = train(images, tmp_path)
    assert run.kept_epochs() == [0, 1]
    assert [row["epoch"] for row in run.curves()] == [0, 1]
    wanted = {"train_loss", "val_loss", "val_accuracy", "train_eval_accuracy", "seconds"}
    assert wanted <= run.curves()[0].keys()
    weights = [run.weights(epoch)["conv1.weight"] for epoch in (UNTRAINED, 0, 1)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_kept_weights_give_the_loss_of_their_epoch(images, tmp_path):
    run = train(images, tmp_path, regime="overfit")
    cell = Cell("lenet5", "cifar10")
    datamodule = images.divided(cell)
    datamodule.setup("fit")
    network = LeNet5(num_classes=4)
    network.load_state_dict(run.weights(1))
    loss, accuracy = evaluate(network, datamodule.val_dataset)
    assert loss == pytest.approx(run.curves()[1]["val_loss"], rel=1e-4)
    assert accuracy == pytest.approx(run.curves()[1]["val_accuracy"])


def test_a_finished_run_is_left_alone(images, tmp_path):
    run = train(images, tmp_path)
    before = run.checkpoint.stat().st_mtime_ns
    train(images, tmp_path)
    assert run.checkpoint.stat().st_mtime_ns == before


def test_a_prolonged_run_equals_one_that_was_not_stopped(images, tmp_path):
    whole = train(images, tmp_path / "whole", epochs=3)
    train(images, tmp_path / "parts", epochs=1)
    parts = train(images, tmp_path / "parts", epochs=3)
    assert_equal_runs(whole, parts, [UNTRAINED, 0, 1, 2])


class KilledError(Exception):
    pass


@pytest.mark.parametrize("moment", ["write_curves", "write_weights"])
def test_a_run_killed_while_an_epoch_is_kept_equals_one_that_was_not(
    images, tmp_path, monkeypatch, moment
):
    whole = train(images, tmp_path / "whole", epochs=2)
    original = getattr(RunFolder, moment)

    def fail(self, *arguments):
        original(self, *arguments)
        if len(self.curves()) == 2 or arguments[0] == 1:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, moment, fail)
        with pytest.raises(KilledError):
            train(images, tmp_path / "killed", epochs=2)
    killed = train(images, tmp_path / "killed", epochs=2)
    assert_equal_runs(whole, killed, [0, 1])


def test_a_folder_of_other_settings_is_refused(images, tmp_path):
    train(images, tmp_path, epochs=1, regime="overfit")
    with pytest.raises(ValueError, match=r"other settings.*'augment': \(False, True\).*--runs"):
        train(images, tmp_path, epochs=1, regime="regularised")


def test_between_kept_epochs_the_best_and_the_last_stay(images, tmp_path):
    run = train(images, tmp_path, epochs=4, keep_every=3)
    best = min(run.curves(), key=lambda row: row["val_loss"])["epoch"]
    assert set(run.kept_epochs()) == {0, 3, best}
    with pytest.raises(FileNotFoundError, match="--keep-every"):
        run.weights(({1, 2} - {best}).pop())


def test_shuffled_labels_say_nothing_of_the_images(images):
    cell = Cell("lenet5", "cifar10", "shuffled")
    datamodule = images.divided(cell)
    datamodule.setup("fit")
    train = datamodule.train_dataset
    agreeing = (train.labels == train.true_labels).double().mean()
    assert agreeing == pytest.approx(0.25, abs=0.01)  # chance, of four classes
    assert torch.equal(datamodule.val_dataset.labels, datamodule.val_dataset.true_labels)


def test_evaluation_restores_training_flags_and_sees_no_augmentation(images):
    cell = Cell("lenet5", "cifar10", "regularised")
    datamodule = images.divided(cell)
    datamodule.setup("fit")
    network = LeNet5(num_classes=4).train()
    network.classifier.eval()
    dataset = unaugmented(datamodule.train_dataset)
    assert evaluate(network, dataset) == evaluate(network, dataset)
    assert network.training
    assert not network.classifier.training
