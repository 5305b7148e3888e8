"""A network that changes while it trains is judged as it is, not as it was when the fit began."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from watched import DETECTION, TinyNet, dataset, fit, watch

from filterwatch import MaskFilters, detect_anomaly_filters
from filterwatch.memorization import find_decoded_layers


class Changing(TinyNet):
    """Changes after its first epoch, in a way that the layers' names alone need not show."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.change = change
        self.more = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Any:
        maps = self.network[0](images)
        if self.change == "another convolution" and self.current_epoch > 0:
            maps = self.more(maps)
        return self.network[1:](maps)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1 and self.change == "more filters":
            self.network[0] = nn.Conv2d(1, 6, 3, padding=1)
            self.network[3] = nn.Conv2d(6, 6, 3, padding=1)
        if self.current_epoch == 1 and self.change == "another name":
            self.renamed = self.network[0]
            self.network[0] = nn.Sequential(self.network[0])


@pytest.mark.parametrize("change", ["another convolution", "more filters", "another name"])
def test_a_changed_network_is_judged_as_it_is(change: str) -> None:
    callback, module = watch(batch_size=16, strict=True), Changing(change)
    fit(callback, module=module, max_epochs=3)
    report = callback.report
    assert report is not None
    assert callback.probe_indices is not None
    fresh = detect_anomaly_filters(
        module, dataset()[callback.probe_indices][0], batch_size=16, **DETECTION
    )
    assert report.to_dict() == fresh.to_dict()
    assert callback.memorization is not None
    assert not callback.memorization.skipped
    layers = [layer.name for layer in find_decoded_layers(module, dataset()[:2][0])]
    assert list(callback.memorization.hidden) == layers
    assert list(callback.history[0]["by_layer"]) != list(report.layers) or change == "more filters"
    sources = {source for layer in report.layers.values() for source in layer.sources}
    assert (("more", 0) in sources) == (change == "another convolution")


class Pickling(Callback):
    """Stores another callback while the fit runs, as a checkpoint of everything would."""

    def __init__(self, watching: Any) -> None:
        self.watching = watching
        self.stored: list[int] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        actions = pickle.loads(pickle.dumps(self.watching.actions))
        self.stored.append(len(actions[0].masks.filters))


def test_an_action_can_be_stored_while_a_fit_runs() -> None:
    callback = watch(action=MaskFilters(max_fraction=0.5))
    storing = Pickling(callback)
    fit(callback, storing, max_epochs=3)
    assert len(storing.stored) == 3
    assert storing.stored[-1] > 0
