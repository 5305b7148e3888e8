"""The probe's samples as people see them: pixels, label, prediction, and a name to find them by."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional as F

from filterwatch.batches import count_samples, find_images, find_labels, find_logits
from filterwatch.visuals.drawing import Pixels, shortened

# Longer side of a thumbnail in pixels: more would not show.
_LARGEST = 128


@dataclass
class Thumbnails:
    """What is known of each sample of a probe; a method's argument is its place there."""

    batches: Sequence[Any]  # on the CPU
    indices: Sequence[int] | None = None  # in the data set
    mean: Sequence[float] | None = None  # of each channel, that images were normalised by
    std: Sequence[float] | None = None
    class_names: Sequence[str] | None = None
    predictions: Tensor | None = None  # class that the network gave each sample last, [N]
    _starts: list[int] = field(init=False, repr=False)
    _labels: list[Tensor | None] = field(init=False, repr=False)
    _in_unit_range: dict[int, bool] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        sizes = [count_samples(batch) for batch in self.batches]
        self._starts = [0, *accumulate(sizes)]
        labels = map(find_labels, self.batches, sizes)
        # Negative ones stand for no class.
        self._labels = [None if found is None or (found < 0).any() else found for found in labels]

    @classmethod
    def of(cls, trainer: Trainer, batches: list[Any], indices: list[int] | None) -> Thumbnails:
        """Return the thumbnails of a probe, with what the Trainer's data says of it."""
        datamodule = getattr(trainer, "datamodule", None)
        return cls(
            batches,
            indices,
            _numbers(getattr(datamodule, "mean", None)),
            _numbers(getattr(datamodule, "std", None)),
            _class_names(trainer, datamodule),
        )

    def __len__(self) -> int:
        return self._starts[-1]

    def image(self, sample: int) -> Pixels:
        """Return the pixels [h, w, 3] of a sample."""
        at = bisect_right(self._starts, sample) - 1
        images = find_images(self.batches[at])
        if at not in self._in_unit_range:  # if normalised, the first decides
            ranges = map(torch.aminmax, images)
            self._in_unit_range[at] = all(low >= 0 and high <= 1 for low, high in ranges)
        image = _shrunk(images[sample - self._starts[at]])
        if not self._in_unit_range[at]:  # else it was never normalised
            image = _denormalized(image, self.mean, self.std)
        if len(image) != 3:
            image = image.mean(0, keepdim=True).expand(3, -1, -1)
        levels = image.nan_to_num().clamp(0, 1).mul(255).round().byte()
        return levels.permute(1, 2, 0).numpy()

    def name(self, sample: int) -> str:
        """Return what to find a sample by: its index in its data set, else in the probe."""
        return f"#{sample if self.indices is None else self.indices[sample]}"

    def label(self, sample: int) -> str | None:
        """Return the name of a sample's class, ``None`` where there are no labels."""
        at = bisect_right(self._starts, sample) - 1
        labels = self._labels[at]
        return None if labels is None else self.class_name(int(labels[sample - self._starts[at]]))

    def caption(self, sample: int) -> str:
        """Return "label → prediction" or "label ✓", as far as known; long names are cut."""
        label, prediction = self.label(sample), None
        if self.predictions is not None:
            prediction = self.class_name(int(self.predictions[sample]))
        if label is None:
            return "" if prediction is None else f"→ {shortened(prediction, 18)}"
        if prediction is None:
            return shortened(label, 18)
        if label == prediction:
            return f"{shortened(label, 18)} ✓"
        return f"{shortened(label, 9)} → {shortened(prediction, 9)}"

    @property
    def legend(self) -> str:
        """What captions mean, to go behind a figure's heading; empty where they need no words."""
        labelled = any(labels is not None for labels in self._labels)
        if self.predictions is None:
            return "; label" if labelled else ""
        return "; label → prediction or ✓" if labelled else "; → prediction"

    def noting_predictions(self, forward: Callable[[Any], object]) -> Callable[[Any], object]:
        """Return a forward pass that also notes what the network predicts for the probe.

        Logits are outputs with as many columns as class names, or more than the largest label.
        """
        noted: dict[int, Tensor] = {}
        places = {id(batch): place for place, batch in enumerate(self.batches)}

        def forward_and_note(batch: Any) -> object:
            outputs = forward(batch)
            place = places.get(id(batch))
            if place is not None and (logits := self._logits(outputs, place)) is not None:
                noted[place] = logits.argmax(1)
            if len(noted) == len(places):
                self.predictions = torch.cat([noted[at].cpu() for at in range(len(noted))])
            return outputs

        self.predictions = None
        return forward_and_note

    def _logits(self, outputs: object, place: int) -> Tensor | None:
        """Return the logits in what a batch gave, if they go with what is known of classes."""
        logits = find_logits(outputs, self._starts[place + 1] - self._starts[place])
        labels = self._labels[place]
        if logits is None:
            return None
        if self.class_names is not None:
            return logits if logits.shape[1] == len(self.class_names) else None
        # Without either, any vector of features would pass for logits.
        fits = labels is not None and int(labels.max()) < logits.shape[1] > 1
        return logits if fits else None

    def class_name(self, number: int) -> str:
        """Return the name of a class, its number where that is all that is known."""
        known = self.class_names is not None and 0 <= number < len(self.class_names)
        return self.class_names[number] if known and self.class_names else str(number)


def _shrunk(image: Tensor) -> Tensor:
    """Bring an image [C, H, W] to the size of a thumbnail, if it is larger."""
    image = image.detach().float()
    shrink = _LARGEST / max(image.shape[1:])
    if shrink >= 1:
        return image
    size = [max(1, round(side * shrink)) for side in image.shape[1:]]
    return F.interpolate(image[None], size, mode="area")[0]


def _denormalized(
    image: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Tensor:
    """Undo an image's normalization where it is known; else let it span the whole range."""
    if mean is not None and std is not None and len(mean) == len(std) == len(image):
        scale, offset = (torch.tensor(values).view(-1, 1, 1) for values in (std, mean))
        return image * scale + offset
    image = image - image.min()
    return image / image.max().clamp(min=1e-12)


def _numbers(values: object) -> list[float] | None:
    """Return a datamodule's ``mean`` or ``std`` if it is one number a channel."""
    if isinstance(values, (Tensor, np.ndarray)):
        values = values.flatten().tolist()
    if isinstance(values, Sequence) and all(isinstance(value, (int, float)) for value in values):
        return [float(value) for value in values]
    return None


def _class_names(trainer: Trainer, datamodule: object) -> list[str] | None:
    loaders = trainer.val_dataloaders
    dataset = getattr(loaders[0] if isinstance(loaders, list) else loaders, "dataset", None)
    for holder, attribute in ((datamodule, "class_names"), (dataset, "classes")):
        names = getattr(holder, attribute, None)
        if isinstance(names, Sequence) and not isinstance(names, str):
            return [str(name) for name in names]
    return None
