"""What memorization adds to a probe of the simple CNN, and to the passes of a ResNet-50."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.rows import Row, at_most, informs
from benchmarks.setting import Setting, seconds, threads
from filterwatch import detect_anomaly_filters
from filterwatch.memorization import (
    BatchFeatures,
    DecodedLayer,
    HeldOut,
    TrainingRecord,
    find_decoded_layers,
    read_features,
)

_BATCH = 64
# Images of ResNet-50's passes, whose cost is one an image; decoders are timed for a whole probe.
_N_IMAGES, _PROBE = 64, 1000


class Memorization:
    """The parts of a measurement, to be timed one by one."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self.network = network
        self.batches = list(
            zip(images.split(_BATCH), (torch.arange(len(images)) % 10).split(_BATCH), strict=True)
        )
        self.layers = find_decoded_layers(network, images[:2])

    def forward(self) -> None:
        with torch.no_grad():
            for images, _ in self.batches:
                self.network(images)

    def features(self) -> BatchFeatures:
        return read_features(self.network, self.batches, self.layers)


def decode(layers: list[DecodedLayer], features: BatchFeatures) -> None:
    """Fit decoders on features as if of held-out images, and hear them as if of training images."""
    record = TrainingRecord(HeldOut.fit(layers, features))
    record.add(features)
    record.report()


def rows(setting: Setting) -> list[Row]:
    """Return the rows of both networks; one thread, processor time."""
    with threads(1):
        return [*_simple_cnn(setting), *_resnet50()]


def _simple_cnn(setting: Setting) -> list[Row]:
    part = Memorization(setting.classifier.eval(), setting.probe)
    found = part.features()
    bare, reading = seconds(part.forward), seconds(part.features)
    decoders = seconds(lambda: decode(part.layers, found))
    detection = seconds(lambda: detect_anomaly_filters(part.network, setting.probe,
                                                       batch_size=_BATCH))  # fmt: skip
    # Held-out features are read off the passes of detection; training images have their own.
    added = (reading - bare) + reading + decoders
    what = f"simple CNN, {len(setting.probe):,} held-out and as many training images"
    return [
        at_most(f"{what}: memorization's part of a probe", added / (detection + added), 0.2),
        informs(
            f"{what}: passes of the training images, features of both, decoders, detection",
            added,
            f"{bare:.3f} s, {2 * (reading - bare):.3f} s, {decoders:.3f} s, {detection:.2f} s",
        ),
    ]


def _resnet50() -> list[Row]:
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None).eval()
    part = Memorization(network, torch.randn(_N_IMAGES, 3, 224, 224))
    bare, reading = (seconds(work, repeats=2) / _N_IMAGES for work in (part.forward, part.features))
    shapes = {name: values.shape[1] for name, values in part.features().layers.items()}
    generator = torch.Generator().manual_seed(0)
    random = BatchFeatures(
        {name: torch.randn(_PROBE, width, generator=generator) for name, width in shapes.items()},
        torch.randn(_PROBE, 10, generator=generator),
        torch.arange(_PROBE) % 10,
    )
    decoders = seconds(lambda: decode(part.layers, random), repeats=1, warm_up=False)
    passes = 2 * _PROBE * bare
    beyond = 2 * _PROBE * (reading - bare) + decoders
    what = f"ResNet-50 at 224 x 224, {_PROBE:,} + {_PROBE:,} images"
    return [
        at_most(f"{what}: beyond the forward passes, over them", beyond / passes, 0.05, "{:.3f}"),
        informs(
            f"{what}: forward passes (of {_N_IMAGES} images, scaled), features, decoders",
            beyond,
            f"{passes:.0f} s, {beyond - decoders:.1f} s, {decoders:.1f} s",
        ),
    ]
