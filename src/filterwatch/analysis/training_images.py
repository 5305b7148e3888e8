"""Memorization of a folder of training images, measured with the probe's folder held out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filterwatch._words import first_few
from filterwatch.analysis.folder_probe import ProbeImages, images_like, list_images
from filterwatch.analysis.model_files import InputError
from filterwatch.analysis.model_loading import LoadedModel
from filterwatch.datamodules import (
    Stream,
    class_balanced_subset,
    seeded_generator,
    stratified_split,
)
from filterwatch.detection import ProgressCallback
from filterwatch.memorization import (
    OUTPUT,
    BatchFeatures,
    HeldOut,
    MemorizationReport,
    SampleRecord,
    SampleScores,
    TrainingRecord,
    UnmeasurableError,
    checked_labels,
    fit_held_out,
    hear_training,
)

# Held-out images: decoders learn more from more of them, and keep all their features in memory
# meanwhile: 200 MB for a ResNet-18, 1 GB for a ResNet-50. A class gets at least its share.
_HELD_OUT = 5000
_HELD_OUT_OF_A_CLASS = 20
_READERS = 8  # threads that decode files
_CHUNK = 16  # files that a thread decodes in one go


@dataclass(frozen=True)
class TrainingImages:
    """The images of a training folder, and those held out from training."""

    images: ProbeImages  # all of the training folder
    held_out: ProbeImages


@dataclass(frozen=True)
class Memorization:
    """What a model has memorized of a folder of training images."""

    folders: TrainingImages
    sample: Tensor  # which training images the report is about, ascending, int64 [n]
    report: MemorizationReport
    scores: SampleScores  # of all of them


def open_training_images(
    directory: str | Path, probe: ProbeImages, *, held_out_size: int | None = None, seed: int = 0
) -> TrainingImages:
    """Open a folder of training images, and more held-out images than the probe has.

    All are brought to the network exactly as the probe is.

    Args:
        directory: The folder, with the class folders of the probe's.
        probe: The probe, from a folder that holds no training images.
        held_out_size: How many images of the probe's folder are held out, as many of each class as
            of every other; a folder with fewer is taken whole. Default: 5,000, or 20 of each class
            where that is more.
        seed: Seed of that choice.

    Raises:
        InputError: If a folder cannot be used, or the two do not go together.
    """
    directory, held_out_directory = Path(directory), Path(probe.directory)
    if held_out_size is not None and held_out_size < 1:
        raise InputError(f"--held-out-size must be at least 1, got {held_out_size}")
    paths, labels, names, notes = list_images(directory, "--training-images")
    if directory.resolve() == held_out_directory.resolve():
        raise InputError(
            f"--images and --training-images are the same folder, {directory}: memorization is "
            "what a network knows of training images beyond others. Give --images held-out ones"
        )
    for option, folder, found in (
        ("--images", held_out_directory, probe.class_names),
        ("--training-images", directory, names),
    ):
        if not found:
            raise InputError(
                f"{option} {folder} has no class folders: memorization is about labels, so sort "
                f"the images into {folder}/<class>"
            )
    for option, folder, missing in (
        ("--images", held_out_directory, sorted(set(names) - set(probe.class_names))),
        ("--training-images", directory, sorted(set(probe.class_names) - set(names))),
    ):
        if missing:
            raise InputError(
                f"{option} {folder} lacks class folders that the other folder has: "
                f"{first_few(missing)}. Both need the same names; a folder may be empty"
            )
    held_out_paths, held_out_labels, _, _ = list_images(held_out_directory)
    wanted = held_out_size or max(_HELD_OUT, _HELD_OUT_OF_A_CLASS * len(names))
    generator = seeded_generator(seed, Stream.PROBE)  # so that the probe is among them
    rows = class_balanced_subset(
        held_out_labels, min(wanted, len(held_out_labels)), generator
    ).sort()[0]
    try:
        checked_labels(held_out_labels[rows])
    except UnmeasurableError as error:
        raise InputError(f"--images {held_out_directory}: {error}") from error
    chosen = [held_out_paths[row] for row in rows.tolist()]
    return TrainingImages(
        images_like(probe, directory, paths, labels, n_available=len(paths), notes=notes),
        images_like(
            probe,
            held_out_directory,
            chosen,
            held_out_labels[rows],
            n_available=len(held_out_paths),
        ),
    )


def measure_training_images(
    model: LoadedModel,
    folders: TrainingImages,
    n_outputs: int | None,
    *,
    sample_size: int = 1000,
    seed: int = 0,
    batch_size: int = 256,
    on_progress: ProgressCallback | None = None,
) -> Memorization:
    """Measure what a finished model has memorized of its training images, in one pass over them.

    Args:
        model: The model; see `load_model`.
        folders: The images; see `open_training_images`.
        n_outputs: Classes that the model distinguishes, ``None`` if it puts out no logits. Where
            the folders have others, the output is left out.
        sample_size: How many training images the report is about, classes in proportion.
        seed: Seed of everything random inside.
        batch_size: Images a forward pass.
        on_progress: See `detect_anomaly_filters`.

    Raises:
        InputError: If the model does not take the images.
        UnmeasurableError: See `measure_memorization`.
    """

    def batches(images: ProbeImages, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        assert images.labels is not None  # `open_training_images` sees to it
        done = 0
        with ThreadPoolExecutor(_READERS) as pool:
            for rows in torch.arange(len(images)).split(batch_size):
                if on_progress is not None:
                    on_progress("memorization", what, done, len(images))
                stored = torch.cat(list(pool.map(images.source.read, rows.split(_CHUNK))))
                yield images.preprocessing(stored, rows), images.labels[rows]
                done += len(rows)

    def forward(batch: Any) -> Any:
        return model.run(batch[0])

    fitted = fit_held_out(
        model.module, batches(folders.held_out, "held-out images"), forward=forward, seed=seed
    )
    n_classes = len(folders.images.class_names)
    # A single logit tells two classes apart.
    if n_outputs not in (None, n_classes) and (n_outputs, n_classes) != (1, 2):
        reason = f"{n_outputs} outputs for {n_classes} class folders"
        fitted = _without_output(fitted, reason)
    labels = folders.images.labels
    assert labels is not None
    n_sample = min(sample_size, len(labels))
    generator = seeded_generator(seed, Stream.TRAIN_SUBSET)
    sample, _ = stratified_split(labels, [n_sample, len(labels) - n_sample], generator)
    records = _Records(TrainingRecord(fitted), SampleRecord(fitted), sample.sort()[0])
    hear_training(
        model.module,
        batches(folders.images, "training images"),
        fitted,
        records.add,
        forward=forward,
        seed=seed,
    )
    return Memorization(folders, records.sample, records.few.report(), records.all.scores())


@dataclass
class _Records:
    """What is heard of all training images, and in full of a sample of them."""

    few: TrainingRecord
    all: SampleRecord
    sample: Tensor
    _n_seen: int = 0

    def add(self, features: BatchFeatures) -> None:
        self.all.add(features)
        assert features.labels is not None  # or `all` would have refused it
        n_batch = len(features.labels)
        places = self.sample - self._n_seen
        rows = places[(places >= 0) & (places < n_batch)]
        self._n_seen += n_batch
        if len(rows):
            logits = features.logits
            layers = {name: values[rows] for name, values in features.layers.items()}
            logits = None if logits is None else logits[rows]
            self.few.add(BatchFeatures(layers, logits, features.labels[rows]))


def _without_output(held_out: HeldOut, reason: str) -> HeldOut:
    heard = {name: row for name, row in held_out.heard.items() if name != OUTPUT}
    return replace(held_out, heard=heard, skipped=held_out.skipped | {OUTPUT: reason})
