"""Look at a network of timm, before and after it has learned its images by heart.

    pip install timm
    python examples/timm_network.py

A small ResNet with random weights is trained on 400 digits; no Trainer, no download. Any network
with 2-D convolutions goes the same way. About 40 seconds on a CPU.
"""

import timm
import torch
from sklearn.datasets import load_digits
from torch import nn

from filterwatch import MemorizationReport, detect_anomaly_filters, measure_memorization


def main(epochs: int = 8) -> MemorizationReport:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = nn.functional.interpolate(images, scale_factor=4, mode="bilinear")  # [N, 1, 32, 32]
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images))
    training, held_out = ((images[part], labels[part]) for part in order[:800].split(400))

    model = timm.create_model("resnet10t", pretrained=False, in_chans=1, num_classes=10)
    print("before training")
    print(measure_memorization(model, training, held_out))

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(training[0])).split(32):
            loss = nn.functional.cross_entropy(model(training[0][batch]), training[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    print(f"after {epochs} epochs")
    report = measure_memorization(model, training, held_out)
    print(report)
    # What a residual stage puts out: layers are chosen by patterns.
    print(detect_anomaly_filters(model, held_out, layers=["layer[123].0.act2"]))
    return report


if __name__ == "__main__":
    main()
