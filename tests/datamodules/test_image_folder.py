import os
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from filterwatch.datamodules import ImageFolderDataModule, MemoryImages, stored_images
from filterwatch.datamodules.stored_images import FileImages

CLASSES = ("ant", "bee", "cow")


def write_image(path, size=(12, 12), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    Image.fromarray(pixels).save(path)


def write_folder(root, splits, n_per_class=20, **options):
    for split in splits:
        for label, name in enumerate(CLASSES):
            for i in range(n_per_class):
                seed = hash((len(split), label, i)) % 2**32
                write_image(root / split / name / f"{i:03}.png", seed=seed, **options)
    return str(root)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path, ["train", "test"])


def contents(loader):
    return torch.cat([images for images, _ in loader])


def test_train_and_test_folders(folder):
    before = sorted(Path(folder).rglob("*"))
    datamodule = ImageFolderDataModule(folder)
    assert datamodule.class_names == CLASSES
    assert (datamodule.num_classes, datamodule.in_channels) == (3, 3)
    datamodule.prepare_data()
    datamodule.setup()
    sets = {
        name: {tuple(image.flatten().tolist()) for image in dataset.source.read(dataset.indices)}
        for name in ("train", "val", "probe", "test")
        for dataset in [getattr(datamodule, f"{name}_dataset")]
    }
    assert {name: len(images) for name, images in sets.items()} == {
        "train": 42,
        "val": 6,
        "probe": 12,
        "test": 60,
    }
    assert len(set.union(*sets.values())) == 120
    assert datamodule.probe_dataset.labels.bincount().tolist() == [4, 4, 4]
    assert sorted(Path(folder).rglob("*")) == before


def test_pixels_and_labels_are_those_of_the_files(folder):
    datamodule = ImageFolderDataModule(folder, mean=[0, 0, 0], std=[1, 1, 1])
    datamodule.setup()
    images = contents(datamodule.test_dataloader())
    labels = datamodule.test_dataset.labels
    for position in (0, 25, 59):
        path = Path(folder, "test", CLASSES[labels[position]], f"{position % 20:03}.png")
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
        torch.testing.assert_close(images[position], pixels)


def test_memory_and_files_give_the_same_batches(folder, monkeypatch):
    def batches(**options):
        datamodule = ImageFolderDataModule(folder, image_size=16, augment=True, **options)
        datamodule.setup("fit")
        return datamodule.train_dataset.source, contents(datamodule.train_dataloader())

    memory, from_memory = batches()
    monkeypatch.setattr(stored_images, "_IN_MEMORY", 0)
    files, from_files = batches()
    _, from_workers = batches(num_workers=2)
    assert isinstance(memory, MemoryImages)
    assert isinstance(files, FileImages)
    assert from_memory.equal(from_files)
    assert from_memory.equal(from_workers)


def test_small_images_are_kept_small_and_large_ones_resized(folder):
    for image_size, stored in ((24, 12), (8, 8), (None, 12)):
        datamodule = ImageFolderDataModule(folder, image_size=image_size)
        datamodule.setup("fit")
        assert datamodule.train_dataset.source.images.shape[2:] == (stored, stored)


def test_the_budget_is_in_bytes_of_decoded_pixels(folder, monkeypatch):
    needed = 60 * 3 * 12 * 12
    for budget, kind in ((needed, MemoryImages), (needed - 1, FileImages)):
        monkeypatch.setattr(stored_images, "_IN_MEMORY", budget)
        datamodule = ImageFolderDataModule(folder)
        datamodule.setup("fit")
        assert isinstance(datamodule.train_dataset.source, kind)


def test_mixed_sizes_need_an_image_size(folder):
    odd = Path(folder, "train", "bee", "odd.png")
    write_image(odd, size=(20, 15))
    message = r"12x12 pixels and .*odd.png 20x15: pass image_size"
    with pytest.raises(ValueError, match=message):
        ImageFolderDataModule(folder).setup("fit")
    files = FileImages([f"{folder}/train/ant/000.png", str(odd)], size=None, grayscale=False)
    with pytest.raises(ValueError, match=message):
        files.read(torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("budget", "kind"), [(61 * 3 * 16 * 16, MemoryImages), (61 * 3 * 16 * 16 - 1, FileImages)]
)
def test_mixed_sizes_are_brought_to_the_image_size(folder, budget, kind, monkeypatch):
    write_image(Path(folder, "train", "bee", "odd.png"), size=(20, 15))
    monkeypatch.setattr(stored_images, "_IN_MEMORY", budget)
    datamodule = ImageFolderDataModule(folder, image_size=16)
    datamodule.setup("fit")
    assert isinstance(datamodule.train_dataset.source, kind)
    assert contents(datamodule.train_dataloader()).shape[1:] == (3, 16, 16)


def test_modes_of_pixels(tmp_path):
    write_folder(tmp_path, ["train"], n_per_class=5)
    write_image(tmp_path / "train" / "ant" / "alpha.png", mode="RGBA")
    write_image(tmp_path / "train" / "bee" / "gray.png", mode="L")
    Image.new("P", (12, 12)).save(tmp_path / "train" / "cow" / "palette.gif")
    (tmp_path / "train" / "cow" / "palette.gif").rename(tmp_path / "train" / "cow" / "palette.png")
    for grayscale, channels in ((False, 3), (True, 1)):
        datamodule = ImageFolderDataModule(str(tmp_path), grayscale=grayscale)
        datamodule.setup("fit")
        assert datamodule.in_channels == channels
        assert contents(datamodule.train_dataloader()).shape[1:] == (channels, 12, 12)


def test_a_broken_file_is_named(folder):
    Path(folder, "train", "cow", "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken.png cannot be decoded.*repair or remove"):
        ImageFolderDataModule(folder).setup("fit")


def test_a_validation_folder_is_validation_alone(tmp_path):
    root = write_folder(tmp_path, ["train"])
    write_folder(tmp_path, ["val"], n_per_class=4)
    datamodule = ImageFolderDataModule(root)
    datamodule.setup()
    assert len(datamodule.val_dataset) == 12
    assert len(datamodule.probe_dataset) == 12
    assert len(datamodule.train_dataset) == 48
    assert datamodule.val_dataset.source is not datamodule.train_dataset.source


def test_testing_without_test_images_says_what_is_missing(tmp_path):
    class Classifier(LightningModule):
        def test_step(self, batch, batch_idx):
            raise AssertionError("there is nothing to test on")

    root = write_folder(tmp_path, ["train", "val"], n_per_class=3)
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with pytest.raises(RuntimeError, match=rf"no folder {root}/test.*put some into"):
        trainer.test(Classifier(), datamodule=ImageFolderDataModule(root))


def test_a_class_may_be_absent_from_test_but_not_from_train(folder):
    for path in Path(folder, "test", "bee").iterdir():
        path.unlink()
    Path(folder, "test", "bee").rmdir()
    datamodule = ImageFolderDataModule(folder)
    datamodule.setup("test")
    assert datamodule.test_dataset.labels.bincount().tolist() == [20, 0, 20]

    write_image(Path(folder, "test", "dog", "0.png"))
    with pytest.raises(ValueError, match=r"test has classes that .*train has not: dog"):
        ImageFolderDataModule(folder).setup("test")


def test_an_empty_test_folder_is_an_error(folder, tmp_path):
    root = tmp_path / "other"
    write_folder(root, ["train"], n_per_class=2)
    (root / "test" / "ant").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no images in them"):
        ImageFolderDataModule(str(root)).setup("test")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"root": "nowhere"}, FileNotFoundError, r"root='nowhere': no class folders in .*train"),
        ({"grayscale": "yes"}, TypeError, "grayscale='yes'"),
        ({"horizontal_flip": 1}, TypeError, "horizontal_flip=1"),
        ({"mean": [0.5]}, ValueError, r"mean=\[0.5\] has 1 values .* 3 channels"),
        ({"std": [1.0, 0.0, 1.0]}, ValueError, r"std=\[1.0, 0.0, 1.0\] .* above 0"),
        ({"mean": [0.5], "grayscale": True, "std": [float("inf")]}, ValueError, "must be finite"),
    ],
)
def test_constructor_names_what_is_wrong(folder, options, error, message):
    with pytest.raises(error, match=message):
        ImageFolderDataModule(**{"root": folder, **options})


@pytest.mark.skipif(
    "FILTERWATCH_CIFAR10" not in os.environ,
    reason="FILTERWATCH_CIFAR10 names no folder with train/ and test/ of CIFAR-10",
)
def test_real_cifar10():
    datamodule = ImageFolderDataModule(
        os.environ["FILTERWATCH_CIFAR10"],
        mean=[0.4914, 0.4822, 0.4465],
        std=[0.2470, 0.2435, 0.2616],
    )
    datamodule.setup("test")
    images = contents(datamodule.test_dataloader())
    assert images.shape == (10_000, 3, 32, 32)
    assert datamodule.test_dataset.labels.bincount().tolist() == [1000] * 10
    # The constants are those of the training images.
    assert images.mean(dim=(0, 2, 3)).abs().max() < 0.03
    assert (images.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02


def test_gray_pixels_of_16_bits_are_scaled_not_clipped(tmp_path):
    """Pillow's own conversion makes nearly all of them white."""
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "16.tiff")
    for grayscale in (True, False):
        paths = [str(tmp_path / name) for name in ("8.png", "16.png", "16.tiff")]
        eight, *sixteen = FileImages(paths, None, grayscale).read(torch.arange(3))
        assert eight.unique().numel() == 256
        assert all(torch.equal(eight, image) for image in sixteen)


def test_pixels_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ValueError, match=r"float.tiff cannot be decoded.*mode F.*scale them to 8"):
        FileImages([str(tmp_path / "float.tiff")], None, True).decode(0)
