"""Find wrong labels in a folder of images.

    python examples/image_folder.py

Writes scikit-learn's digits as files, a folder a class, every 25th into the folder of another
class, and trains a small CNN on half of them. Each training image is then ranked by how much the
hidden layers speak against its folder: the worst are printed, and all written to suspects.csv.
About 20 seconds on a CPU.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from filterwatch import score_samples

TRANSFORM = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])


def write_folders(root: Path) -> None:
    """Write training/CLASS/NAME.png and held_out/CLASS/NAME.png; names say what is wrong."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    for place, number in enumerate(order):
        label, name = digits.target[number], f"{number:04}.png"
        if place % 25 == 0:
            label, name = (label + 3) % 10, f"{number:04}_in_truth_{label}.png"
        folder = root / ("training" if place % 2 == 0 else "held_out") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (digits.images[number] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).resize((16, 16)).save(folder / name)


def main(epochs: int = 10) -> list[str]:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as root:
        write_folders(Path(root))
        training = ImageFolder(f"{root}/training", TRANSFORM)
        held_out = ImageFolder(f"{root}/held_out", TRANSFORM)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(epochs):
            for images, labels in DataLoader(training, batch_size=32, shuffle=True):
                loss = nn.functional.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        scores = score_samples(model, training, held_out)

    files = ["/".join(Path(path).parts[-2:]) for path, _ in training.samples]
    scores.to_csv("suspects.csv", files)
    worst = [files[sample.index] for sample in scores[:15]]
    print(scores)
    print("first to look at:", *worst, sep="\n  ")
    return worst


if __name__ == "__main__":
    main()
