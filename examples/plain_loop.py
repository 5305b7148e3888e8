"""Watch a network in a training loop of your own, without Lightning.

    python examples/plain_loop.py

A small CNN learns scikit-learn's digits, every tenth of its training labels wrong. Prints what
each epoch brought and which labels the network has learned against its own better knowledge, and
writes plain_loop.html, a page to look at. About 30 seconds on a CPU.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from filterwatch import FilterWatch


def main(epochs: int = 12) -> FilterWatch:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # [N, 1, 8, 8]
    labels = torch.tensor(digits.target)
    # At random: the last digits are by other hands than the first.
    order = torch.randperm(len(images))
    training, held_out = ((images[part], labels[part]) for part in (order[:800], order[800:]))
    truth = training[1].clone()
    training[1][::10] = torch.randint(10, (80,))

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    watch = FilterWatch(held_out, training=training)  # as evaluation sees them

    for _ in range(epochs):
        for batch in torch.randperm(len(training[0])).split(32):
            loss = nn.functional.cross_entropy(model(training[0][batch]), training[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        watch.step(model)

    print(watch)
    for sample in watch.memorization.memorized(10):
        it_is = truth[watch.training_probe_indices[sample.index]]
        print(f"labeled {sample.label}, rather {sample.witness_label}; it is a {it_is}")
    watch.to_html("plain_loop.html")
    return watch


if __name__ == "__main__":
    main()
