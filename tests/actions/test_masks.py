"""Masks hold through training, match a reference, and give back what was there, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from acted import EachStep, MaskThese, TinyNet, bitwise_equal, dataset, fit, relu_maps, watch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.func import functional_call

from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.wiring import Filter, named_tensors, trace_wiring

IMAGES = dataset().tensors[0]
FILTERS: list[Filter] = [("network.0", 1), ("network.4", 0), ("network.4", 5)]
STEPS, EPOCHS = 200, 51  # 4 steps an epoch, the first of them without masks

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.001, weight_decay=0.1, momentum=0.9),
}


class Reference(TinyNet):
    """Multiplies parameters by a constant mask in the forward pass, from epoch 1 on."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.constant = {
                name: torch.ones_like(tensor) for name, tensor in self.network.named_parameters()
            }
            for layer, index in FILTERS:
                place = int(layer.removeprefix("network."))
                for name in (
                    f"{p}.{kind}" for p in (place, place + 1) for kind in ("weight", "bias")
                ):
                    self.constant[name][index] = 0

    def forward(self, images: Tensor) -> Any:
        if not hasattr(self, "constant"):
            return self.network(images)
        masked = {
            name: tensor * self.constant[name] for name, tensor in self.network.named_parameters()
        }
        return functional_call(self.network, masked, (images,))


def unmasked_parameters(module: Any) -> dict[str, Tensor]:
    """Return every parameter without its masked entries."""
    kept = {}
    for name, tensor in module.network.named_parameters():
        masked = [
            index
            for layer, index in FILTERS
            if int(name.split(".")[0]) - int(layer.removeprefix("network.")) in (0, 1)
        ]
        others = [index for index in range(len(tensor)) if index not in masked]
        kept[name] = tensor.detach()[others].clone()
    return kept


@pytest.mark.parametrize(
    ("optimizer", "options", "epochs"),
    [
        ("Adam", {}, EPOCHS),
        ("AdamW", {}, EPOCHS),
        ("SGD", {}, EPOCHS),
        ("RMSprop", {}, EPOCHS),
        ("Adam", {"accumulate_grad_batches": 2}, 11),
        ("Adam", {"gradient_clip_val": 0.05}, 11),
        ("SGD", {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}, 11),
        ("Adam", {"precision": "bf16-mixed"}, 11),
    ],
)
def test_silent_after_every_step_and_the_rest_trains_as_in_a_reference(
    optimizer: str, options: dict[str, Any], epochs: int
) -> None:
    reference_steps: list[dict[str, Tensor]] = []

    def remember(trainer: Trainer, module: LightningModule) -> None:
        reference_steps.append(unmasked_parameters(module))

    make = OPTIMIZERS[optimizer]
    torch.manual_seed(0)
    network = TinyNet(make)
    reference = Reference(make)
    reference.load_state_dict(network.state_dict())
    fit(EachStep(remember), module=reference, max_epochs=epochs, **options)
    checked = 0

    def check(trainer: Trainer, module: LightningModule) -> None:
        nonlocal checked
        assert bitwise_equal(unmasked_parameters(module), reference_steps[trainer.global_step - 1])
        if trainer.current_epoch >= 1:
            checked += 1
            training = module.training
            module.eval()
            with torch.no_grad():
                for layer, index in FILTERS:
                    assert (relu_maps(module, IMAGES, layer)[:, index] == 0).all()
            module.train(training)

    # Probing in the first epoch alone makes 50 epochs fast.
    callback = watch(action=MaskThese({0: FILTERS}), every_n_epochs=100)
    fit(callback, EachStep(check), module=network, max_epochs=epochs, **options)
    steps_an_epoch = 4 // options.get("accumulate_grad_batches", 1)
    assert checked == (epochs - 1) * steps_an_epoch
    assert epochs < EPOCHS or checked == STEPS


def masked_model(optimizer: torch.optim.Optimizer | None, module: TinyNet) -> FilterMasks:
    wiring = trace_wiring(module, IMAGES[:2])
    masks = FilterMasks(module)
    for filter_ in FILTERS:
        masks.mask(filter_, wiring.slots[filter_], [optimizer] if optimizer else [])
    return masks


def train(module: TinyNet, optimizer: torch.optim.Optimizer, masks: FilterMasks | None) -> None:
    images, labels = dataset().tensors
    for _ in range(20):
        optimizer.zero_grad()
        module.loss((images, labels)).backward()
        if masks is not None:
            masks.clear_gradients(optimizer)
        optimizer.step()
        if masks is not None:
            masks.enforce(optimizer)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_release_restores_weights_statistics_and_optimizer_state(name: str) -> None:
    torch.manual_seed(0)
    module = TinyNet()
    optimizer = OPTIMIZERS[name](module.parameters())
    train(module, optimizer, None)
    wiring = trace_wiring(module, IMAGES[:2])
    slots = [
        slot
        for filter_ in FILTERS
        for slot in (*wiring.slots[filter_].silenced, *wiring.slots[filter_].statistics)
    ]
    tensors = named_tensors(module)
    before = {slot: tensors[slot[0]][slot[1]].detach().clone() for slot in slots}
    states = {
        (*slot, key): value[slot[1]].clone()
        for slot in slots
        for key, value in optimizer.state.get(tensors[slot[0]], {}).items()
        if key != "step"
    }
    assert len(slots) == 3 * 6
    assert states

    masks = masked_model(optimizer, module)
    train(module, optimizer, masks)
    # The variance of a channel that is fed zeros decays: the trap of giving back weights alone.
    assert module.network[1].running_var[1] < 0.2 * before["network.1.running_var", 1]
    for filter_ in FILTERS:
        masks.release(filter_, [optimizer])

    assert masks.filters == []
    for (tensor_name, index), value in before.items():
        assert torch.equal(tensors[tensor_name][index], value)
    for (tensor_name, index, key), value in states.items():
        assert torch.equal(optimizer.state[tensors[tensor_name]][key][index], value)
    module.eval()
    outputs = module(IMAGES)
    assert outputs.isfinite().all()
    assert outputs.std() < 50
    train(module.train(), optimizer, masks)
    assert (module.network[0].weight[1] != before["network.0.weight", 1]).any()  # it trains again


def test_state_that_did_not_exist_at_masking_starts_from_zero() -> None:
    module = TinyNet()
    optimizer = OPTIMIZERS["Adam"](module.parameters())
    masks = masked_model(optimizer, module)
    train(module, optimizer, masks)
    state = optimizer.state[module.network[0].weight]["exp_avg"]
    state[1] = 1
    masks.release(("network.0", 1), [optimizer])
    assert state[1].abs().sum() == 0
    assert state[0].abs().sum() > 0


def test_lifted_is_the_network_before_masking_and_puts_masks_back() -> None:
    torch.manual_seed(0)
    module = TinyNet()
    module.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    expected = module(IMAGES)
    masks = masked_model(None, module)
    masked = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert not bitwise_equal(before, masked)

    def fail() -> None:
        with masks.lifted():
            assert bitwise_equal(module.state_dict(), before)
            assert torch.equal(module(IMAGES), expected)
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert bitwise_equal(module.state_dict(), masked)


def test_masking_twice_keeps_the_first_values() -> None:
    module = TinyNet()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    wiring = trace_wiring(module, IMAGES[:2])
    masks = FilterMasks(module)
    for _ in range(2):
        masks.mask(FILTERS[0], wiring.slots[FILTERS[0]])
    masks.release(FILTERS[0])
    assert bitwise_equal(module.state_dict(), before)


def test_a_state_is_plain_and_fits_only_a_model_that_has_the_filters(tmp_path: Any) -> None:
    module = TinyNet()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    masks = masked_model(None, module)
    torch.save(masks.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)

    same = FilterMasks(module)
    assert same.load_state_dict(state) == []
    assert same.filters == FILTERS
    for filter_ in FILTERS:
        same.release(filter_)
    assert bitwise_equal(module.state_dict(), before)

    other = TinyNet()
    other.network[4] = torch.nn.Conv2d(4, 3, 3)
    smaller = FilterMasks(other)
    assert smaller.load_state_dict(state) == [("network.4", 5)]
    assert smaller.filters == FILTERS[:2]


def test_only_an_optimizers_own_parameters_are_touched() -> None:
    """With several optimizers, another one's parameters may be waiting for their gradients."""
    module = TinyNet()
    masks = masked_model(None, module)
    first, second = module.network[0].weight, module.network[4].weight
    versions = first._version, second._version
    masks.enforce(torch.optim.SGD([second], lr=0.1))
    assert first._version == versions[0]
    assert second._version > versions[1]
