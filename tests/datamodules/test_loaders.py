"""What a Trainer is given, batch by batch: order, resuming, workers, several processes."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from two_processes import TwoProcesses

pytestmark = [
    # A resumed run saves beside the checkpoint that it came from.
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    # Python 3.12 and newer warn whenever a process with threads forks, as every loader's does.
    pytest.mark.filterwarnings("ignore:.*use of fork.. may lead to deadlocks:DeprecationWarning"),
]


class Recorder(LightningModule):
    """Trains one linear layer and writes down which images it saw."""

    def __init__(self, read, folder=None):
        super().__init__()
        self.layer = torch.nn.Linear(64, 4)
        torch.nn.init.zeros_(self.layer.weight)  # every run starts from the same weights
        torch.nn.init.zeros_(self.layer.bias)
        self.read = read
        self.folder = folder
        self.seen = {}

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.setdefault(self.current_epoch, []).extend(self.read(images))
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1) / 255), labels)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.layer(batch[0].flatten(1)).square().mean(), sync_dist=True)

    def on_fit_end(self):
        if self.folder is not None:
            torch.save(self.seen, self.folder / f"{self.global_rank}.pt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(model, datamodule, folder, max_epochs, ckpt_path=None, **options):
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"devices": 1, **options},
    )
    trainer.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("num_workers", [0, 2])
def test_epochs_differ_and_repeat(numbered_datamodule, numbers, num_workers):
    datamodule = numbered_datamodule(seed=3, num_workers=num_workers)
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    epochs = [numbers(loader) for _ in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({frozenset(epoch) for epoch in epochs}) == 1

    again = numbered_datamodule(seed=3)
    again.setup("fit")
    loader = again.train_dataloader()
    assert [numbers(loader) for _ in range(3)] == epochs


def test_augmented_epochs_differ_and_repeat_with_any_number_of_workers(numbered_datamodule):
    def epochs(num_workers):
        datamodule = numbered_datamodule(augment=True, num_workers=num_workers)
        datamodule.setup("fit")
        loader = datamodule.train_dataloader()
        return [torch.cat([images for images, _ in loader]) for _ in range(2)]

    here, workers = epochs(0), epochs(2)
    assert all(a.equal(b) for a, b in zip(here, workers, strict=True))
    sums = [images.sum(dim=(1, 2, 3)).sort().values for images in here]
    columns = [images.sum(dim=(1, 2)).argmax(1).bincount(minlength=8) for images in here]
    assert sums[0].equal(sums[1])  # the same images, none shifted out of the frame
    assert not columns[0].equal(columns[1])


def test_augmentation_reaches_training_images_only(numbered_datamodule, numbers):
    plain, augmented = numbered_datamodule(), numbered_datamodule(augment=True)
    for datamodule in (plain, augmented):
        datamodule.setup()
    for name in ("val", "probe", "test"):
        one, other = (numbers(getattr(d, f"{name}_dataloader")()) for d in (plain, augmented))
        assert one == other
    shifted = [n for n in numbers(augmented.train_dataloader()) if n == 0]
    assert len(shifted) > 200  # the two pixels that hold the number have moved


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_leaves_the_global_random_state_alone(numbered_datamodule, num_workers):
    datamodule = numbered_datamodule(num_workers=num_workers, augment=True, label_noise=0.2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    datamodule.setup()
    for name in ("train", "val", "probe", "test"):
        for _ in getattr(datamodule, f"{name}_dataloader")():
            pass
    assert torch.get_rng_state().equal(state)


def test_workers_persist_where_a_loader_is_used_again(numbered_datamodule):
    datamodule = numbered_datamodule(num_workers=1)
    datamodule.setup()
    assert datamodule.train_dataloader().persistent_workers
    assert datamodule.val_dataloader().persistent_workers
    assert not datamodule.probe_dataloader().persistent_workers


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("monitor", [None, "val_loss"])
def test_a_resumed_run_sees_what_an_uninterrupted_one_saw(
    tmp_path, numbered_datamodule, numbers, num_workers, monitor
):
    # Saved at the end of the epoch, or, when it monitors validation, just before that end.
    def run(name, max_epochs, ckpt_path=None):
        model = Recorder(numbers)
        datamodule = numbered_datamodule(
            num_workers=num_workers, train_size=200, val_size=20, augment=True
        )
        checkpoint = ModelCheckpoint(
            dirpath=tmp_path / name,
            filename="last",
            monitor=monitor,
            save_on_train_epoch_end=monitor is None,
        )
        fit(model, datamodule, tmp_path, max_epochs, ckpt_path, callbacks=[checkpoint])
        return model

    whole = run("whole", 3)
    interrupted = run("interrupted", 1)
    resumed = run("interrupted", 3, tmp_path / "interrupted" / "last.ckpt")

    assert sorted(whole.seen) == [0, 1, 2]
    assert {**interrupted.seen, **resumed.seen} == whole.seen
    assert whole.layer.weight.equal(resumed.layer.weight)


def test_two_processes_share_each_epoch(tmp_path, numbered_datamodule, numbers):
    datamodule = numbered_datamodule(num_workers=1, train_size=100, val_size=20, batch_size=10)
    fit(
        Recorder(numbers, tmp_path),
        datamodule,
        tmp_path,
        2,
        devices=2,
        strategy=TwoProcesses(),
        enable_checkpointing=False,
    )
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for epoch in (0, 1):
        first, second = (set(seen[epoch]) for seen in ranks)
        assert len(first) == len(second) == 50
        assert not first & second
    assert ranks[0][0] != ranks[0][1]


def test_a_checkpoint_of_another_division_warns(tmp_path, numbered_datamodule, numbers):
    def run(seed, max_epochs, ckpt_path=None):
        checkpoint = ModelCheckpoint(dirpath=tmp_path, filename="last")
        datamodule = numbered_datamodule(seed=seed)
        fit(Recorder(numbers), datamodule, tmp_path, max_epochs, ckpt_path, callbacks=[checkpoint])

    run(1, 1)
    saved = tmp_path / "last.ckpt"
    assert torch.load(saved, weights_only=True)["NumberedDataModule"]["seed"] == 1
    run(1, 2, saved)
    with pytest.warns(UserWarning, match=r"'seed': 1.*held out now"):
        run(2, 2, saved)


def test_a_checkpoint_of_otherwise_prepared_images_warns(numbered_datamodule, recwarn):
    datamodule = numbered_datamodule()
    state = datamodule.state_dict()
    datamodule.load_state_dict(state)
    datamodule.load_state_dict({"seed": datamodule.seed})  # older ones keep less
    assert len(recwarn) == 0
    prepared = {**state["preprocessing"], "mean": [0.75]}
    with pytest.warns(UserWarning, match=r"0\.75.*images were prepared otherwise"):
        datamodule.load_state_dict({**state, "preprocessing": prepared})
