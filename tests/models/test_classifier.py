"""`ImageClassifier` in a real Trainer: what it logs, saves, loads and refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from filterwatch.models import ImageClassifier
from two_processes import TwoProcesses


def tiny_network(num_classes: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )


def loader(n_samples: int = 20, n_classes: int = 3, batch_size: int = 8) -> DataLoader[Any]:
    """Images [N, 1, 8, 8] whose brightness tells the class; the last batch is smaller."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n_samples) % n_classes
    images = torch.randn(n_samples, 1, 8, 8, generator=generator) + 3 * labels.view(-1, 1, 1, 1)
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size)


def trainer(folder: Path, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"max_epochs": 1, "enable_checkpointing": False, **quiet, **arguments}
    return Trainer(default_root_dir=folder, accelerator="cpu", **options)


class LearningCurves(Callback):
    """Keeps what is logged in each epoch."""

    def __init__(self) -> None:
        self.curves: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.curves.append({name: float(v) for name, v in trainer.callback_metrics.items()})


class PrintCurves(Callback):
    """Prints what was logged last."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        print(*(f"{trainer.callback_metrics[name]:.5f}" for name in names), flush=True)


def test_fit_logs_the_four_curves_and_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    curves = LearningCurves()
    model = ImageClassifier(tiny_network(), num_classes=3, learning_rate=0.03)
    trainer(tmp_path, max_epochs=10, callbacks=[curves]).fit(model, loader(), loader())

    names = {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert all(set(curve) == names for curve in curves.curves)
    assert curves.curves[-1]["train_loss"] < 0.5 * curves.curves[0]["train_loss"]

    images, labels = loader().dataset.tensors
    with torch.no_grad():
        accuracy = (model(images).argmax(1) == labels).float().mean()
    assert curves.curves[-1]["val_accuracy"] == accuracy  # of the last epoch alone
    assert curves.curves[-1]["val_accuracy"] > curves.curves[0]["val_accuracy"]


def test_validation_and_test_values_are_means_over_samples(tmp_path: Path) -> None:
    """The last batch is smaller: a mean of batch means would differ."""
    model = ImageClassifier(tiny_network(), num_classes=3)
    images, labels = loader().dataset.tensors
    with torch.no_grad():
        logits = model(images)
    expected_loss = F.cross_entropy(logits, labels).item()
    expected_accuracy = (logits.argmax(1) == labels).float().mean().item()

    for stage, run in (("val", "validate"), ("test", "test")):
        [logged] = getattr(trainer(tmp_path), run)(model, loader(), verbose=False)
        assert logged == {
            f"{stage}_loss": pytest.approx(expected_loss, abs=1e-5),
            f"{stage}_accuracy": pytest.approx(expected_accuracy),
        }


def test_two_processes_log_what_one_would(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Warnings are errors here, those about missing synchronisation among them."""

    def curves(**processes: Any) -> list[str]:
        torch.manual_seed(0)
        # Weights too slow to change: the training metrics then depend on the samples alone.
        model = ImageClassifier(tiny_network(), num_classes=3, learning_rate=1e-12)
        run = trainer(tmp_path, callbacks=[PrintCurves()], **processes)
        run.fit(model, loader(), loader())
        return capfd.readouterr().out.splitlines()

    [alone] = curves()
    assert curves(devices=2, strategy=TwoProcesses()) == [alone, alone]


def test_curves_go_to_the_progress_bar(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(ImageClassifier(tiny_network(), num_classes=3), loader(), loader())
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy"} <= set(
        run.progress_bar_metrics
    )


def test_adam_with_the_given_settings() -> None:
    defaults = ImageClassifier("lenet5").configure_optimizers()
    assert isinstance(defaults, torch.optim.Adam)
    assert (defaults.defaults["lr"], defaults.defaults["weight_decay"]) == (1e-3, 0.0)

    model = ImageClassifier("lenet5", learning_rate=0.5, weight_decay=0.25)
    optimizer = model.configure_optimizers()
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.5, 0.25)
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("weights_only", [True, False])
def test_checkpoint_of_a_named_network_is_enough_to_rebuild_it(
    tmp_path: Path, weights_only: bool
) -> None:
    model = ImageClassifier("lenet5", num_classes=3, in_channels=1, image_size=16, weight_decay=0.1)
    images = torch.randn(4, 1, 16, 16)
    run = trainer(tmp_path)
    run.strategy.connect(model)
    run.save_checkpoint(tmp_path / "model.ckpt")

    loaded = ImageClassifier.load_from_checkpoint(
        tmp_path / "model.ckpt", weights_only=weights_only
    )
    assert dict(loaded.hparams) == {
        "network": "lenet5",
        "num_classes": 3,
        "in_channels": 1,
        "image_size": 16,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
    }
    assert torch.equal(loaded(images), model(images))


def test_checkpoint_of_a_module_wants_the_module_again(tmp_path: Path) -> None:
    model = ImageClassifier(tiny_network(), num_classes=3)
    checkpoint = ModelCheckpoint(dirpath=tmp_path, filename="model")
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[checkpoint])
    run.fit(model, loader(), loader())

    loaded = ImageClassifier.load_from_checkpoint(
        checkpoint.best_model_path, weights_only=True, network=tiny_network()
    )
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(loaded(images), model(images))


@pytest.mark.parametrize("with_labels", [True, False])
def test_predict_returns_logits_with_or_without_labels(tmp_path: Path, with_labels: bool) -> None:
    model = ImageClassifier(tiny_network(), num_classes=3)
    images = loader().dataset.tensors[0]
    data = loader() if with_labels else DataLoader(images, batch_size=8)
    logits = torch.cat(trainer(tmp_path).predict(model, data))
    with torch.no_grad():
        torch.testing.assert_close(logits, model(images))


def test_a_named_networks_weights_depend_on_the_seed_alone() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return ImageClassifier("simple_cnn").network.conv1.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "lenet"}, "'lenet'.*simple_cnn, lenet5, alexnet, resnet18"),
        ({"network": "lenet5", "num_classes": 1}, "num_classes.*1"),
        ({"network": "lenet5", "learning_rate": 0.0}, "learning_rate.*0.0"),
        ({"network": "lenet5", "weight_decay": -0.1}, "weight_decay.*-0.1"),
        ({"network": "alexnet", "image_size": 32}, "image_size=32"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageClassifier(**arguments)


def test_a_network_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match=r"nn\.Module.*int"):
        ImageClassifier(7)  # type: ignore[arg-type]


def test_images_of_another_shape_are_refused() -> None:
    model = ImageClassifier("simple_cnn")
    with pytest.raises(ValueError, match=r"SimpleCNN.*\[3, 32, 32\].*\[1, 28, 28\]"):
        model(torch.randn(2, 1, 28, 28))


@pytest.mark.parametrize("label", [3, -1])
def test_labels_out_of_range_are_refused(tmp_path: Path, label: int) -> None:
    images, labels = loader().dataset.tensors
    labels = torch.where(torch.arange(len(labels)) == 5, label, labels)
    data = DataLoader(TensorDataset(images, labels), batch_size=8)
    model = ImageClassifier(tiny_network(), num_classes=3)
    with pytest.raises(ValueError, match=rf"Labels must lie in 0 to 2, got .*{label}.*num_classes"):
        trainer(tmp_path).fit(model, data, loader())


def test_a_network_with_another_number_of_outputs_is_refused(tmp_path: Path) -> None:
    model = ImageClassifier(tiny_network(num_classes=3), num_classes=4)
    with pytest.raises(ValueError, match=r"Sequential.*\[8, 4\], got \[8, 3\].*num_classes"):
        trainer(tmp_path).fit(model, loader(), loader())


def test_a_network_that_returns_a_tuple_is_refused(tmp_path: Path) -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = tiny_network()

        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            return self.head(images), None

    with pytest.raises(ValueError, match=r"Auxiliary must return logits.*got tuple"):
        trainer(tmp_path).fit(ImageClassifier(Auxiliary(), num_classes=3), loader(), loader())
