"""`MaskFilters(verify=True)` finds logits and labels in what modules return and batches hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from acted import MaskThese, TinyNet, dataset, fit, watch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from filterwatch.callbacks import AnomalyFilterCallback

ALL = [("network.4", channel) for channel in range(6)]


@dataclass
class Samples:
    images: Tensor
    target: Tensor
    index: Tensor


class Sample(NamedTuple):
    index: Tensor
    y: Tensor
    images: Tensor


@pytest.mark.parametrize("kind", [Samples, Sample])
def test_labels_in_a_dataclass_or_named_tuple(kind: Any) -> None:
    images, labels = dataset().tensors
    index = torch.arange(64) * 1000  # integers too, and no labels
    parts = [slice(first, first + 16) for first in range(0, 64, 16)]
    found = {"images": images, "index": index, "y": labels, "target": labels}
    names = getattr(kind, "_fields", None) or tuple(kind.__dataclass_fields__)
    batches = [kind(**{name: found[name][part] for name in names}) for part in parts]
    action = MaskThese({0: ALL}, verify=True)
    fit(watch(action=action, probe=batches), max_epochs=1)
    assert all(event["loss_change"] is not None for event in action.history)
    assert action.history


class Returning(TinyNet):
    """Returns its logits as a test says."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.wrap = wrap

    def forward(self, images: Tensor) -> Any:
        return self.wrap(super().forward(images))

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self.network(batch[0]), batch[1])


class Output(NamedTuple):
    features: Any
    logits: Any


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: (logits, logits.mean()),
        lambda logits: (logits[:, :, None, None], logits),  # maps first
        lambda logits: [({"output": logits},), 3],
        lambda logits: {"features": logits[:, :2], "logits": logits},
        lambda logits: Output(logits[:, :2], logits),
    ],
)
def test_logits_are_found_in_what_a_module_returns(wrap: Any) -> None:
    histories = []
    for kind in (wrap, lambda logits: logits):
        torch.manual_seed(0)
        action = MaskThese({0: ALL}, verify=True)
        fit(watch(action=action), module=Returning(kind), max_epochs=2)
        histories.append(action.history)
    assert histories[0] == histories[1]
    assert any(event["event"] == "masked" for event in histories[0])


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (
            lambda logits: {"scores": logits},
            r"returned {'scores': torch.float32 tensor \[2, 4\]}, in which there are none",
        ),
        (
            lambda logits: logits.mean(),
            r"returned torch.float32 tensor \[\], in which there are n",
        ),
        (lambda logits: "nothing", "returned str, in which there are none"),
        (
            lambda logits: (logits[:1], logits.mean()),
            r"returned tuple\(torch.float32 tensor \[1, 4\], torch.*\), in which there are none",
        ),
        (lambda logits: logits[:, :3], "labels go from 0 to 3, and Returning tells 3 classes"),
    ],
)
def test_what_is_no_logits_is_refused_at_the_start(wrap: Any, said: str) -> None:
    # Labels of all classes are in the first two samples that are tried.
    images, labels = dataset().tensors
    order = [63, *range(63)]
    probe = TensorDataset(images[order], labels[order])
    callback = watch(action=MaskThese({0: ALL}, verify=True), probe=probe, probe_size=64)
    with pytest.raises(ValueError, match=f"{said}.*Override verification_loss"):
        fit(callback, module=Returning(wrap))


def test_a_failing_forward_is_refused_at_the_start() -> None:
    class Dictionaries(TinyNet):
        def forward(self, images: Any) -> Any:
            return self.network(images["image"])

        def loss(self, batch: Any) -> Tensor:
            return F.cross_entropy(self.network(batch[0]), batch[1])

    class Own(AnomalyFilterCallback):
        def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
            return pl_module({"image": batch[0]})

    made = watch(action=MaskThese({0: ALL}, verify=True))
    callback = Own(
        **{name: getattr(made, name) for name in ("probe_size", "max_clusters")},
        criteria=made.criteria,
        action=MaskThese({0: ALL}, verify=True),
        strict=True,
    )
    with pytest.raises(ValueError, match=r"Dictionaries gave no loss on the probe.*Override verif"):
        fit(callback, module=Dictionaries())
