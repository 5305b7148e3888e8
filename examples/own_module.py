"""Watch a LightningModule of your own: one callback, and what it logs steers the Trainer.

    python examples/own_module.py

The module's `forward` takes a dictionary, so `probe_step` says how a batch of the probe goes
through it. Training ends when memorization no longer reaches a new low. About 30 seconds on a CPU.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

from filterwatch import AnomalyFilterCallback


class Digits(Dataset):
    def __init__(self):
        digits = load_digits()
        self.images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
        self.labels = torch.tensor(digits.target)  # by this name, classes come in proportion

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index]}


class Classifier(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )

    def forward(self, batch):
        return {"logits": self.network(batch["image"])}

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch)["logits"], batch["label"])

    def validation_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self(batch)["logits"], batch["label"])
        self.log("val_loss", loss, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


class Watch(AnomalyFilterCallback):
    def probe_step(self, pl_module, batch):
        return pl_module(batch)


def main(max_epochs: int = 10) -> AnomalyFilterCallback:
    seed_everything(0)
    training, validation = random_split(Digits(), [900, 897])
    training = DataLoader(training, batch_size=32, shuffle=True)
    validation = DataLoader(validation, batch_size=64)
    watch = Watch(pictures=False)
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        callbacks=[watch, EarlyStopping("memorization", patience=5)],
        logger=False,
        enable_checkpointing=False,
    )
    trainer.fit(Classifier(), training, validation)
    return watch


if __name__ == "__main__":
    main()
