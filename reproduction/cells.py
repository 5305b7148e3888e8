"""A cell: one training run of an experiment, by what decides its outcome."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from reproduction.networks import NETWORKS

COMMAND = "python -m reproduction"

DATASETS = ("cifar10", "cifar100", "fashion_mnist")
DATASET_TITLES = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "fashion_mnist": "Fashion-MNIST",
}
MODEL_TITLES = {
    "simple_cnn": "Simple CNN",
    "alexnet": "AlexNet",
    "lenet5": "LeNet-5",
    "resnet18": "ResNet-18",
    "narrow_resnet18": "ResNet-18 of a quarter of the width",
}
# Too slow for a CPU: run there only when named.
NEEDS_GPU = ("alexnet", "resnet18")


@dataclass(frozen=True)
class Regime:
    """What a run does against overfitting, or for it.

    Attributes:
        augment: Whether training images are cropped at random and mirrored.
        weight_decay: Adam's L2 penalty.
        shuffled_labels: Whether training labels are drawn at random, which leaves nothing to
            learn but the single samples.
        wrong_labels: Share of the training labels that are replaced by another class.
        wrong_by: ``"chance"``: any other class; ``"likeness"``: the class most like the true one.
    """

    augment: bool = False
    weight_decay: float = 0.0
    shuffled_labels: bool = False
    wrong_labels: float = 0.0
    wrong_by: Literal["chance", "likeness"] = "chance"


WRONG_PERCENTAGES = (5, 10, 20, 40)
REGIMES = {
    "overfit": Regime(),
    "regularised": Regime(augment=True, weight_decay=1e-4),
    "shuffled": Regime(shuffled_labels=True),
    **{f"wrong{share}": Regime(wrong_labels=share / 100) for share in WRONG_PERCENTAGES},
    **{
        f"alike{share}": Regime(wrong_labels=share / 100, wrong_by="likeness")
        for share in WRONG_PERCENTAGES
    },
}


@dataclass(frozen=True)
class Cell:
    """One training run: Adam with a learning rate of 1e-3 (section 4.1 of the paper).

    Args:
        model: Name of a bundled network.
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"fashion_mnist"``.
        regime: A name in `REGIMES`.
        seed: Seed of the division of the images, the initial weights, and the order of training.
        epochs: Passes over the training images; may be raised later, the run then goes on.
        batch_size: Images of a training step.
        train_size: Training images to keep, class-balanced; ``None`` keeps all.
        learning_rate: Adam's learning rate.

    Raises:
        ValueError: If a name is unknown, or a number too small.
    """

    model: str
    dataset: str
    regime: str = "overfit"
    seed: int = 0
    epochs: int = 60
    batch_size: int = 64
    train_size: int | None = None
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        for what, name, known in (
            ("model", self.model, NETWORKS),
            ("dataset", self.dataset, DATASETS),
            ("regime", self.regime, tuple(REGIMES)),
        ):
            if name not in known:
                raise ValueError(f"unknown {what} {name!r}: pass one of {', '.join(known)}")
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")

    @property
    def name(self) -> str:
        """Name of the run's folder; a run that is prolonged keeps it."""
        parts = [self.model, self.dataset, self.regime]
        if self.train_size is not None:
            parts.append(f"n{self.train_size}")
        return "-".join([*parts, f"seed{self.seed}"])

    @property
    def title(self) -> str:
        """How tables call the run's network."""
        return MODEL_TITLES[self.model]

    @property
    def command(self) -> str:
        """The command that trains this cell."""
        words = [
            f"{COMMAND} train",
            f"--models {self.model} --datasets {self.dataset} --regimes {self.regime}",
            f"--seeds {self.seed} --epochs {self.epochs} --batch-size {self.batch_size}",
        ]
        if self.train_size is not None:
            words.append(f"--train-size {self.train_size}")
        return " ".join(words)

    def settings(self) -> dict[str, Any]:
        """Return what decides the weights of an epoch, as plain values: all but ``epochs``."""
        names = [field.name for field in fields(self) if field.name != "epochs"]
        regime = REGIMES[self.regime]
        return {
            **{name: getattr(self, name) for name in names},
            "augment": regime.augment,
            "weight_decay": regime.weight_decay,
            "shuffled_labels": regime.shuffled_labels,
            "wrong_labels": regime.wrong_labels,
            "wrong_by": regime.wrong_by,
        }
