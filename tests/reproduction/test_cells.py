import pytest

from reproduction.cells import Cell


def test_a_prolonged_run_keeps_its_folder_and_its_settings():
    short, long = (Cell("lenet5", "cifar10", epochs=epochs) for epochs in (1, 2))
    assert short.name == long.name
    assert short.settings() == long.settings()


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"regime": "regularised"}, {"train_size": 100}, {"dataset": "cifar100"}],
)
def test_runs_that_differ_have_folders_of_their_own(change):
    arguments = {"model": "lenet5", "dataset": "cifar10"}
    assert Cell(**arguments).name != Cell(**(arguments | change)).name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "vgg"}, "unknown model 'vgg'.*simple_cnn"),
        ({"dataset": "svhn"}, "unknown dataset 'svhn'.*fashion_mnist"),
        ({"regime": "wild"}, "unknown regime 'wild'.*regularised"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_cells_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Cell(**({"model": "lenet5", "dataset": "cifar10"} | change))
