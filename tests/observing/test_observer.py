"""Maps are caught whichever way the model is written and the batches come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import IMAGES, Functions, Modules, contents, detect, like, maps_of, names
from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch.batches import first_samples


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


class Guarded(nn.Module):
    """Looks at values on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        if maps.isnan().any() or maps.abs().max().item() > 1e6:
            raise FloatingPointError
        values, _ = maps.flatten(1).topk(3, dim=1)
        return self.relu(maps) + 0 * values.sum()


def test_a_forward_that_reads_values_out_of_tensors() -> None:
    report = detect(Guarded())
    assert list(report.layers) == ["conv", "relu"]
    assert report.layers["relu"].sources[0] == ("conv", 0)
