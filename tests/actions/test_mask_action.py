"""`MaskFilters`: what is masked, when, and what is said about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from acted import (
    CONVOLUTIONS,
    Filter,
    MaskThese,
    TinyNet,
    bitwise_equal,
    dataset,
    fit,
    loader,
    relu_maps,
    trainer,
    watch,
)
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn import functional as F

from filterwatch import AnomalyCriteria, AnomalyReport, MaskFilters
from filterwatch.actions import RunningFit
from filterwatch.detection.criteria import flag_anomalies

IMAGES = dataset().tensors[0]
# Flags most live filters, so that rules have something to choose from.
LENIENT = AnomalyCriteria(small_cluster_size=6, small_cluster_ratio=0.0, ch_ratio=0.3)


class Observed(Callback):
    """Keeps what is masked while each epoch trains, and each epoch's report."""

    def __init__(self, callback: Any, action: MaskFilters) -> None:
        self.callback, self.action = callback, action
        self.masked: list[list[Filter]] = []
        self.reports: list[AnomalyReport] = []
        self.logged: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            assert self.action.masks is not None
            self.masked.append(self.action.masks.filters)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reports.append(self.callback.report)
        self.logged.append(float(trainer.callback_metrics["masked_filters"]))


def observe(action: MaskFilters, epochs: int = 4, **options: Any) -> Observed:
    callback = watch(**{"action": action, "criteria": LENIENT, **options})
    observed = Observed(callback, action)
    seed_everything(0, verbose=False)
    fit(callback, observed, module=TinyNet(), max_epochs=epochs)
    return observed


def by_layer(filters: Sequence[Filter]) -> dict[str, int]:
    return {layer: sum(name == layer for name, _ in filters) for layer in CONVOLUTIONS}


def test_decided_at_the_end_of_an_epoch_and_applied_with_the_next() -> None:
    observed = observe(MaskThese({1: [("network.0", 2)], 2: [("network.4", 3)]}))
    first, second = ("network.0", 2), ("network.4", 3)
    assert observed.masked == [[], [], [first], [first, second]]
    # Logged: how many were masked while the epoch trained.
    assert observed.logged == [0, 0, 1, 2]
    events = observed.action.history
    assert [(e["event"], e["layer"], e["channel"], e["epoch"]) for e in events] == [
        ("masked", *first, 1),
        ("masked", *second, 2),
    ]


def test_a_checkpoints_metrics_belong_to_its_weights(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="val_loss", save_top_k=-1)
    action = MaskThese({0: [("network.0", 0)], 1: [("network.4", 1), ("network.4", 2)]})
    fit(watch(action=action), checkpoint, enable_checkpointing=True, max_epochs=4)
    scores = checkpoint.best_k_models
    assert len(scores) == 4
    for path, score in scores.items():
        module = TinyNet()
        module.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        module.eval()
        with torch.no_grad():
            losses = [module.loss(batch) for batch in loader()]
        torch.testing.assert_close(torch.stack(losses).mean(), score)


def test_at_most_a_fraction_of_a_layer_the_worst_first() -> None:
    observed = observe(MaskFilters(max_fraction=0.5), epochs=3)
    assert by_layer(observed.masked[-1]) == {"network.0": 2, "network.4": 3}
    report = observed.reports[0]
    flagged = {
        source: sum(s == source for s in _sources_of_flagged(report))
        for source in set(_sources_of_flagged(report))
    }
    for layer, room in (("network.0", 2), ("network.4", 3)):
        counts = {source: n for source, n in flagged.items() if source[0] == layer}
        masked = [source for source in observed.masked[1] if source[0] == layer]
        assert len(masked) == min(room, len(counts))
        left = [n for source, n in counts.items() if source not in masked]
        assert not left or min(counts[source] for source in masked) >= max(left)


def _sources_of_flagged(report: AnomalyReport) -> list[Filter]:
    return [
        (a.source_layer, a.source_channel)
        for a in report.anomalies
        if a.source_layer is not None and a.source_channel is not None
    ]


def test_never_a_whole_layer() -> None:
    everything = [
        (layer, c) for layer, n in zip(CONVOLUTIONS, (4, 6), strict=True) for c in range(n)
    ]
    observed = observe(MaskThese({0: everything}, max_fraction=0.999), epochs=2)
    assert by_layer(observed.masked[-1]) == {"network.0": 3, "network.4": 5}


def test_a_layer_that_is_too_narrow_is_reported_and_two_are_an_error() -> None:
    with pytest.warns(UserWarning, match=r"never masks some layers.*network\.0 \(4 filters\)"):
        observed = observe(MaskThese({0: [("network.0", 0), ("network.4", 0)]}, max_fraction=0.2))
    assert observed.masked[-1] == [("network.4", 0)]
    with pytest.raises(ValueError, match=r"could mask nothing: max_fraction=0\.1"):
        observe(MaskFilters(max_fraction=0.1))


def test_not_before_start_epoch() -> None:
    observed = observe(MaskFilters(max_fraction=0.5, start_epoch=2))
    assert [len(masked) for masked in observed.masked[:3]] == [0, 0, 0]
    assert len(observed.masked[3]) > 0
    assert {event["epoch"] for event in observed.action.history} <= {2, 3}


def test_patience_counts_probes_in_a_row() -> None:
    patient = observe(MaskFilters(max_fraction=0.5, patience=3), epochs=4)
    assert [len(masked) for masked in patient.masked[:3]] == [0, 0, 0]
    assert patient.masked[3]
    for filter_ in patient.masked[3]:
        assert all(filter_ in report.filters for report in patient.reports[:3])
    for event in patient.action.history:
        if event["epoch"] == 2:
            assert "flagged 3 times in a row" in event["reason"]


def test_criteria_of_its_own_judge_the_same_clusterings() -> None:
    own = AnomalyCriteria(small_cluster_size=6, small_cluster_ratio=0.0, ch_ratio=1.3)
    observed = observe(MaskFilters(max_fraction=0.5, criteria=own), epochs=2)
    report = observed.reports[0]
    expected = {
        layer.sources[channel]
        for layer in report.layers.values()
        for channel in flag_anomalies(
            layer.cluster_sizes, layer.ch_index, layer.activation, limit=6, criteria=own
        )
        .nonzero()
        .flatten()
        .tolist()
    }
    masked = {(e["layer"], e["channel"]) for e in observed.action.history if e["epoch"] == 0}
    assert masked
    assert masked <= expected
    assert len(expected) < len(report.filters)
    assert all("by its own criteria" in event["reason"] for event in observed.action.history)


def test_the_count_is_as_if_unmasked() -> None:
    """A count that falls by itself when filters are masked would fool whoever watches it."""
    action = MaskThese({0: [("network.0", 0), ("network.0", 1)]})
    observed = observe(action, epochs=2)
    report = observed.reports[1]
    layer = report.layers["network.0"]
    assert layer.dead == []
    assert (layer.activation[:2] > 0).all()
    # The masked filters are still those of the end of epoch 0: same input, same maps, same points.
    before = observed.reports[0].layers["network.0"]
    torch.testing.assert_close(layer.activation[:2], before.activation[:2])
    assert not torch.equal(layer.activation[2:], before.activation[2:])


class Acquitted(MaskThese):
    """Masks as planned; from epoch 1 on nothing counts as flagged."""

    def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
        if epoch >= 1:
            self.criteria = AnomalyCriteria(small_cluster_size=1, small_cluster_ratio=0.99)
        super().judge(fit, report, epoch)


def test_release_gives_back_what_is_no_longer_flagged() -> None:
    kept: dict[str, Tensor] = {}

    class Weights(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 0:
                kept.update({n: t.clone() for n, t in pl_module.state_dict().items()})

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, *args: Any
        ) -> None:
            if trainer.current_epoch == 2 and args[1] == 0:
                now = pl_module.state_dict()
                for name in ("0.weight", "0.bias", *(f"1.{n}" for n in NORM)):
                    restored = now[f"network.{name}"], kept[f"network.{name}"]
                    assert torch.equal(restored[0][1], restored[1][1]), name
                    assert not torch.equal(restored[0][2], restored[1][2]), name

    action = Acquitted({0: [("network.0", 1)]}, release=True)
    callback = watch(action=action)
    observed = Observed(callback, action)
    fit(callback, observed, Weights(), max_epochs=3)
    assert observed.masked == [[], [("network.0", 1)], []]
    assert [event["event"] for event in action.history] == ["masked", "released"]


NORM = ("weight", "bias", "running_mean", "running_var")


def test_without_release_a_mask_stays() -> None:
    action = Acquitted({0: [("network.0", 1)]})
    callback = watch(action=action)
    observed = Observed(callback, action)
    fit(callback, observed, max_epochs=3)
    assert observed.masked == [[], [("network.0", 1)], [("network.0", 1)]]


def test_judged_by_its_count_a_flagged_filter_stays_masked() -> None:
    """A mask makes its filter dead; a release by how it looks masked would flap."""
    observed = observe(MaskFilters(max_fraction=0.5, release=True), epochs=4)
    assert observed.masked[1]
    for epoch in range(1, 3):
        released = set(observed.masked[epoch]) - set(observed.masked[epoch + 1])
        assert released.isdisjoint(observed.reports[epoch].filters)
        stayed = set(observed.masked[epoch]) & set(observed.masked[epoch + 1])
        assert stayed <= set(observed.reports[epoch].filters)


def test_events_are_logged_as_text_and_masks_as_a_curve(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    other = CSVLogger(tmp_path / "csv")
    action = MaskThese({1: [("network.0", 2)]})
    fit(watch(action=action, prefix="net_"), logger=[other, logger], log_every_n_steps=1)
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    scalars = accumulator.Scalars("net_masked_filters")
    assert [scalar.value for scalar in scalars] == [0, 0, 1]
    (text,) = accumulator.Tensors("net_actions/text_summary")
    assert text.step == scalars[1].step
    line = text.tensor_proto.string_val[0].decode()
    assert line == "- masked network.0 filter 2: chosen though not flagged"


def test_the_summary_lists_events(capsys: pytest.CaptureFixture[str]) -> None:
    action = MaskThese({0: [("network.0", 2)]})
    fit(watch(action=action, print_summary=True))
    printed = capsys.readouterr().out
    assert "Masked filters over the fit" in printed
    assert "masked at the end: 1 filters" in printed
    fit(watch(action=MaskThese({}), print_summary=True))
    assert "masked at the end: 0 filters" in capsys.readouterr().out


class Residual(TinyNet):
    """A sum of two convolutions behind an activation: no single filter is behind its maps."""

    def __init__(self) -> None:
        super().__init__()
        self.side = torch.nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Any:
        summed = F.relu(self.network[1](self.network[0](images)) + self.side(images))
        return self.network[3:](summed)


def test_maps_without_a_filter_count_but_are_not_masked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    action = MaskFilters(max_fraction=0.5)
    callback = watch(action=action, criteria=LENIENT, print_summary=True)
    fit(callback, module=Residual(), max_epochs=2)
    assert callback.report is not None
    sourceless = [a for a in callback.report.anomalies if a.source_layer is None]
    assert {a.layer for a in sourceless} == {"F.relu", "network.3"}
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{len(sourceless)} flagged maps count but cannot be masked" in printed


class SharedNorm(TinyNet):
    """One normalization for two convolutions: masking a filter of one would hit the other."""

    def __init__(self) -> None:
        super().__init__()
        self.side = torch.nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, images: Tensor) -> Any:
        norm = self.network[1]
        first = F.relu(norm(self.network[0](images)))
        return self.network[3:](first * F.relu(norm(self.side(images))))


def test_a_filter_with_an_obstacle_is_not_masked_and_the_summary_says_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    action = MaskThese({epoch: [("network.0", 1), ("network.4", 1)] for epoch in range(2)})
    fit(watch(action=action, print_summary=True), module=SharedNorm(), max_epochs=2)
    assert action.masks is not None
    assert action.masks.filters == [("network.4", 1)]
    printed = " ".join(capsys.readouterr().out.split())
    assert "filter 1 of network.0 cannot be masked: channel 1 of the normalization" in printed


def test_frozen_parameters_are_masked_too() -> None:
    module = TinyNet()
    module.network[0].requires_grad_(False)
    action = MaskThese({0: [("network.0", 1)]})
    fit(watch(action=action), module=module)
    module.eval()
    assert (relu_maps(module, IMAGES, "network.0")[:, 1] == 0).all()


def test_a_second_fit_starts_without_masks_and_going_on_keeps_them() -> None:
    action = MaskThese({0: [("network.0", 1)]})
    callback = watch(action=action)
    module = TinyNet()
    fitted = fit(callback, module=module, max_epochs=2)
    fitted.fit_loop.max_epochs = 3
    fitted.fit(module, loader(seed=1), loader())
    assert action.masks is not None
    assert action.masks.filters == [("network.0", 1)]
    assert len(action.history) == 1
    action.plan = {}
    fit(callback, module=TinyNet())
    assert action.masks.filters == []
    assert action.history == []


def test_masks_that_do_nothing_leave_training_as_it_was() -> None:
    """Watching with an action that never masks gives bit-identical weights."""
    modules = []
    for callbacks in ([], [watch(action=MaskThese({}, verify=True))]):
        seed_everything(0, verbose=False)
        modules.append(TinyNet())
        trainer(*callbacks).fit(modules[-1], loader(seed=1, shuffle=True), loader())
    assert bitwise_equal(modules[0].state_dict(), modules[1].state_dict())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start_epoch": -1}, ValueError, "start_epoch"),
        ({"patience": 0}, ValueError, "patience"),
        ({"max_fraction": 1}, ValueError, "max_fraction must be above 0 and below 1, got 1"),
        ({"max_fraction": 0}, ValueError, "max_fraction"),
        ({"max_fraction": "half"}, TypeError, "max_fraction must be a number, got 'half'"),
        ({"release": 1}, TypeError, "release"),
        ({"verify": "yes"}, TypeError, "verify"),
        ({"criteria": 3}, TypeError, "criteria=3 is no AnomalyCriteria"),
    ],
)
def test_bad_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MaskFilters(**arguments)
