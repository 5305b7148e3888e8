"""Which maps are caught, under which name, whichever way the model is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    detect_anomaly_filters,
    find_layers,
)
from filterwatch.detection.capture import capture, first_samples

IMAGES = torch.rand(40, 3, 10, 10, generator=torch.Generator().manual_seed(0))


class Modules(nn.Module):
    """Two convolutions with everything in modules."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu1 = nn.ReLU(inplace=inplace)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu2 = nn.LeakyReLU(0.1, inplace=inplace)

    def forward(self, images: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.pool(self.relu1(self.norm(self.conv1(images))))))


class Functions(nn.Module):
    """The same with functional calls."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.inplace = inplace

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.norm(self.conv1(images)), inplace=self.inplace)
        maps = F.max_pool2d(maps, 2)
        maps = F.conv2d(maps, self.conv2.weight, self.conv2.bias)
        return F.leaky_relu(maps, 0.1, inplace=self.inplace)


def like(model: nn.Module, other: nn.Module) -> nn.Module:
    """Give a model the other's weights."""
    model.load_state_dict(other.state_dict())
    return model


def names(model: nn.Module, images: Tensor = IMAGES[:2], **options: Any) -> list[str]:
    return [layer.name for layer in find_layers(model, images, **options)]


def maps_of(model: nn.Module, *batches: Tensor) -> dict[str, list[Tensor]]:
    maps: dict[str, list[Tensor]] = {}
    capture(model, batches, lambda name, found: maps.setdefault(name, []).append(found.clone()))
    return maps


def detect(model: nn.Module, probe: Any = IMAGES, **options: Any) -> AnomalyReport:
    return detect_anomaly_filters(
        model, probe, criteria=AnomalyCriteria(small_cluster_size=4), max_clusters=8, **options
    )


def contents(report: AnomalyReport, *, renamed: bool = False) -> dict[str, Any]:
    """Return everything in a report, with layers numbered where their names may differ."""
    data = report.to_dict(include_samples=True)
    if renamed:
        position = {name: at for at, name in enumerate(report.layers)}
        data["layers"] = list(data["layers"].values())
        for anomaly in data["anomalies"]:
            anomaly["layer"] = position[anomaly["layer"]]
    return data


# -- The same network, written differently -------------------------------------------------------


@pytest.mark.parametrize("form", [Modules, Functions])
def test_in_place_activations_give_the_same_report(form: Callable[..., nn.Module]) -> None:
    model = form()
    expected = contents(detect(model))
    assert contents(detect(like(form(inplace=True), model))) == expected
    # The convolution's maps are those before the activation overwrote them.
    assert min(detect(form(inplace=True), batch_size=8).layers["conv2"].activation) > 0


def test_an_in_place_activation_s_input_is_caught_before_it_is_overwritten() -> None:
    model = Modules(inplace=True)
    maps = maps_of(model, IMAGES)
    model.eval()
    expected = model.conv1(IMAGES)
    assert torch.equal(maps["conv1"][0], expected)
    assert float(maps["conv1"][0].min()) < 0
    assert torch.equal(maps["relu1"][0], model.norm(expected).relu())


@pytest.mark.parametrize("inplace", [False, True])
def test_functional_calls_give_the_same_report_under_other_names(inplace: bool) -> None:
    modules = Modules()
    functions = like(Functions(inplace=inplace), modules)
    assert names(modules) == ["conv1", "relu1", "pool", "conv2", "relu2"]
    assert names(functions) == ["conv1", "F.relu", "F.max_pool2d", "conv2", "F.leaky_relu"]
    found, expected = detect(functions), detect(modules)
    assert contents(found, renamed=True) == contents(expected, renamed=True)
    assert expected.count > 0
    assert found.filters == expected.filters


@pytest.mark.parametrize("wrap", ["submodule", "whole", "in place"])
def test_compiled_modules_give_the_same_report_and_names(wrap: str) -> None:
    model = nn.Sequential(Modules(), nn.Conv2d(6, 2, 1), nn.ReLU())
    expected = contents(detect(model))
    compiled: nn.Module = model
    if wrap == "submodule":
        compiled = nn.Sequential(torch.compile(model[0], backend="eager"), *model[1:])
    elif wrap == "whole":
        compiled = torch.compile(model, backend="eager")  # type: ignore[assignment]
    else:
        model[0].compile(backend="eager")
    compiled.eval()
    before = compiled(IMAGES)  # compiled by now
    assert contents(detect(compiled)) == expected
    assert torch.equal(compiled(IMAGES), before)


def test_every_layer_is_seen_with_gradients_wanted_and_in_inference_mode() -> None:
    model = Modules()
    expected = contents(detect(model))
    with torch.inference_mode():
        assert contents(detect(model)) == expected
    with torch.enable_grad():
        assert contents(detect(model, IMAGES.clone().requires_grad_())) == expected


# -- Names ---------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One activation and one convolution, each called several times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.conv1(images))
        maps = self.relu(self.again(maps))
        maps = F.max_pool2d(maps, 2)
        return F.max_pool2d(self.relu(self.again(maps)), 2)


def test_calls_of_one_module_are_kept_apart() -> None:
    model = nn.Sequential(Shared())
    expected = [
        "0.conv1", "0.relu", "0.again", "0.relu#2", "0.F.max_pool2d", "0.again#2", "0.relu#3",
        "0.F.max_pool2d#2",
    ]  # fmt: skip
    assert names(model) == expected
    maps = maps_of(model, IMAGES[:8], IMAGES[8:20])
    assert list(maps) == expected
    # Numbered anew in each pass.
    assert [[len(found) for found in parts] for parts in maps.values()] == [[8, 12]] * 8
    assert not torch.equal(maps["0.relu"][0], maps["0.relu#2"][0])
    report = detect(model, batch_size=16)
    assert list(report.layers) == expected
    assert not report.skipped


def test_a_module_under_two_names_goes_by_the_first() -> None:
    conv = nn.Conv2d(3, 3, 1)
    assert names(nn.Sequential(conv, nn.ReLU(), conv)) == ["0", "1", "0#2"]


def test_a_model_that_is_itself_the_layer() -> None:
    assert names(nn.Conv2d(3, 2, 3)) == ["F.conv2d"]

    class Alone(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return F.relu(F.conv2d(images, torch.ones(2, 3, 1, 1)))

    assert names(Alone()) == ["F.conv2d", "F.relu"]


def test_functional_calls_carry_the_name_of_the_module_around_them() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, maps: Tensor) -> Tensor:
            return F.relu(self.conv(maps))

    assert names(nn.Sequential(Block(), Block())) == ["0.conv", "0.F.relu", "1.conv", "1.F.relu"]


def test_an_own_activation_module_goes_by_its_name() -> None:
    class Swish(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = 2.0
            self.slope = nn.Parameter(torch.ones(3))

        def forward(self, maps: Tensor) -> Tensor:
            return F.silu(self.weight * maps * self.slope.view(3, 1, 1))

    assert names(nn.Sequential(nn.Conv2d(3, 3, 1), Swish())) == ["0", "1"]


def test_an_own_convolution_with_its_activation_has_two() -> None:
    class ConvReLU(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return F.relu(super().forward(images))

    class OwnFilters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.rand(2, 3, 1, 1))

        def forward(self, images: Tensor) -> Tensor:
            return F.relu(F.conv2d(images, self.kernel))

    found = find_layers(nn.Sequential(ConvReLU(3, 3, 1), OwnFilters()), IMAGES[:2])
    assert [layer.name for layer in found] == ["0", "0.F.relu", "1", "1.F.relu"]
    assert [layer.kind for layer in found] == ["convolution", "activation"] * 2
    assert [layer.module_name for layer in found] == ["0", "0", "1", "1"]


def test_layers_describe_themselves() -> None:
    conv, relu, pool, *_ = find_layers(Modules().double(), IMAGES[:2].double())
    assert (conv.kind, relu.kind, pool.kind) == ("convolution", "activation", "max_pool")
    assert conv.map_bytes == 4 * 8 * 8 * 8
    assert pool.map_bytes == 4 * 4 * 4 * 8
    half = find_layers(Modules().bfloat16(), IMAGES[:2].bfloat16())[0]
    assert half.map_bytes == 4 * 8 * 8 * 4  # they are computed with in float32


def test_channels_last_maps_are_the_same() -> None:
    model = Modules()
    expected = detect(model)
    found = detect(model.to(memory_format=torch.channels_last))
    for layer, other in zip(found.layers.values(), expected.layers.values(), strict=True):
        torch.testing.assert_close(layer.points, other.points, rtol=1e-3, atol=1e-4)


def test_vectors_and_volumes_are_no_feature_maps() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.signal = nn.Conv1d(2, 2, 3)
            self.volume = nn.Conv3d(1, 1, 1)

        def forward(self, images: Tensor) -> Tensor:
            maps = F.relu(self.conv(images))
            signal = F.relu(self.signal(maps.flatten(2)))
            volume = F.relu(self.volume(maps.unsqueeze(1)))
            return F.relu(signal.mean(2)) + F.relu(volume.flatten(2).mean((1, 2)).unsqueeze(1))

    assert names(Mixed()) == ["conv", "F.relu"]


# -- Patterns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["conv1"], ["conv1"]),
        (["conv*"], ["conv1", "conv2"]),
        (["relu?", "pool"], ["relu1", "pool", "relu2"]),
        (["pool", "conv1"], ["conv1", "pool"]),  # in forward order
        (["*"], ["conv1", "relu1", "pool", "conv2", "relu2"]),
        (["*", "conv1"], ["conv1", "relu1", "pool", "conv2", "relu2"]),
        (["[cp]*1"], ["conv1"]),
        ("conv*", ["conv1", "conv2"]),
    ],
)
def test_patterns(patterns: Any, expected: list[str]) -> None:
    assert names(Modules(), layers=patterns) == expected
    assert list(detect(Modules(), layers=patterns).layers) == expected


def test_patterns_match_module_names_for_every_call_and_layer_names_for_one() -> None:
    model = nn.Sequential(Shared())
    assert names(model, layers=["0.relu"]) == ["0.relu", "0.relu#2", "0.relu#3"]
    assert names(model, layers=["*relu#2"]) == ["0.relu#2"]
    assert names(model, layers=["0"]) == ["0.F.max_pool2d", "0.F.max_pool2d#2"]
    assert names(model, layers=["*F.*"]) == ["0.F.max_pool2d", "0.F.max_pool2d#2"]


@pytest.mark.parametrize("patterns", [["conv3"], ["conv1", "Conv*"], ["relu"]])
def test_a_pattern_that_matches_nothing_is_refused_with_the_names(patterns: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"{patterns[-1].replace('*', '.')}' matches none of: "
                       "conv1, relu1, pool, conv2, relu2"):  # fmt: skip
        find_layers(Modules(), IMAGES[:2], layers=patterns)


def test_no_pattern_at_all_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"layers=\[\] names none: .* conv1, relu1, pool"):
        find_layers(Modules(), IMAGES[:2], layers=[])


def test_a_model_without_convolutions_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(300, 10), nn.ReLU())
    with pytest.raises(ValueError, match="Sequential ran no 2-D convolution"):
        find_layers(model, IMAGES[:2])


# -- Batches and forward passes ------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch",
    [(IMAGES, torch.arange(40)), {"image": IMAGES, "name": "a"}, [torch.arange(40), IMAGES]],
)
def test_batches_of_any_form(batch: Any) -> None:
    model = Modules()
    assert contents(detect(model, [batch])) == contents(detect(model))


def test_a_forward_of_one_s_own() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, images: Tensor, scale: Tensor) -> dict[str, Tensor]:
            return {"out": F.relu(self.conv(images) * scale.view(-1, 1, 1, 1))}

    batches = [(part, torch.rand(10)) for part in IMAGES.split(10)]
    model = TwoInputs()
    report = detect(model, batches, forward=lambda batch: model(batch[0], batch[1]))
    assert list(report.layers) == ["conv", "F.relu"]
    assert report.n_samples == 40
    with pytest.raises(TypeError, match="scale"):
        detect(model, batches)


def test_maps_of_a_float64_model_keep_their_precision() -> None:
    layer = detect(Modules().double(), IMAGES.double()).layers["conv1"]
    assert layer.points is not None
    assert layer.points.dtype == torch.float64


def test_first_samples_cuts_what_is_batched() -> None:
    batch = {"x": IMAGES, "y": torch.arange(40), "scale": torch.rand(3), "name": "a", "n": 40}
    cut = first_samples(batch, 2)
    assert torch.equal(cut["x"], IMAGES[:2])
    assert cut["y"].tolist() == [0, 1]
    assert cut["scale"] is batch["scale"]
    assert (cut["name"], cut["n"]) == ("a", 40)
    assert len(batch["x"]) == 40


def test_nothing_stays_behind_in_the_model() -> None:
    model = Modules()
    detect(model)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._forward_hooks_always_called
