"""What training and held-out images are given as, and what to do where nothing can be read off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from filterwatch import detect_anomaly_filters, measure_memorization, score_samples
from filterwatch.memorization import OUTPUT, UnmeasurableError

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(80, 1, 8, 8, generator=GENERATOR)
LABELS = torch.arange(80) % 2
TRAINING, HELD_OUT = (IMAGES[:40], LABELS[:40]), (IMAGES[40:], LABELS[40:])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


class WithFeatures(nn.Module):
    """Returns its features beside the logits, as many networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body[:3](images)
        return features, self.body[3](features)


def numbered(samples: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    images, labels = samples
    return [(torch.arange(len(labels)), images, labels)]


@pytest.mark.parametrize(
    "form",
    [
        lambda pair: TensorDataset(*pair),
        lambda pair: DataLoader(TensorDataset(*pair), batch_size=16, shuffle=True),
        lambda pair: (pair[0].double().numpy(), pair[1].numpy()),
        numbered,
    ],
    ids=["data set", "loader", "arrays", "with an index"],
)
def test_samples_in_every_form(form: Any) -> None:
    expected = measure_memorization(network(), TRAINING, HELD_OUT)
    found = measure_memorization(network(), form(TRAINING), form(HELD_OUT))
    for name, layer in expected.layers.items():
        assert found.layers[name].value == pytest.approx(layer.value, abs=1e-5)
    assert torch.equal(found.labels, expected.labels)
    scores = score_samples(network(), form(TRAINING), form(HELD_OUT))
    assert scores.order.tolist() == score_samples(network(), TRAINING, HELD_OUT).order.tolist()


def test_the_count_takes_what_memorization_takes() -> None:
    expected = detect_anomaly_filters(network(), IMAGES).to_dict()
    for probe in (
        IMAGES.numpy(),
        (IMAGES, LABELS),
        TensorDataset(IMAGES),
        numbered((IMAGES, LABELS)),
    ):
        assert detect_anomaly_filters(network(), probe).to_dict() == expected


@pytest.mark.parametrize("measure", [measure_memorization, score_samples])
def test_nothing_is_no_data(measure: Any) -> None:
    with pytest.raises(TypeError, match="training=NoneType is no data: pass images"):
        measure(network(), None, HELD_OUT)
    with pytest.raises(TypeError, match="held_out=str is no data: pass images"):
        measure(network(), TRAINING, "images/")
    with pytest.raises(TypeError, match="training is a tensor without labels"):
        measure(network(), IMAGES.numpy(), HELD_OUT)


def test_an_index_for_a_label_is_called_so() -> None:
    with pytest.raises(UnmeasurableError, match="with a label of its own each, as an index would"):
        measure_memorization(network(), TRAINING, (IMAGES, torch.arange(80)))


def test_features_beside_logits_are_not_taken_for_them() -> None:
    report = measure_memorization(WithFeatures(), TRAINING, HELD_OUT)
    assert list(report.hidden) == ["body.1"]  # the last layer is the output, whatever it is called
    assert OUTPUT not in report.layers
    assert "return the logits alone (`forward`, or" in report.skipped[OUTPUT]
    model = WithFeatures()
    told = measure_memorization(model, TRAINING, HELD_OUT, forward=lambda batch: model(batch[0])[1])
    assert told.layers[OUTPUT].value == pytest.approx(
        measure_memorization(network(), TRAINING, HELD_OUT).layers[OUTPUT].value, abs=1e-5
    )


def test_channels_that_come_last_are_named() -> None:
    images, model = IMAGES.permute(0, 2, 3, 1), network()
    remedy = r"Sequential does not take the images: .* pass images.permute\(0, 3, 1, 2\)"
    with pytest.raises(ValueError, match=remedy):
        detect_anomaly_filters(model, images)
    with pytest.raises(ValueError, match=remedy):
        measure_memorization(model, (images, LABELS), (images, LABELS))


def test_another_error_of_the_network_comes_through() -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        detect_anomaly_filters(network(), torch.rand(80, 3, 8, 8))


def test_a_network_that_takes_channels_last_is_no_error() -> None:
    class Permuting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, images: Tensor) -> Any:
            return self.body(images.permute(0, 3, 1, 2))

    found = detect_anomaly_filters(Permuting(), IMAGES.permute(0, 2, 3, 1))
    assert found.count == detect_anomaly_filters(network(), IMAGES).count
