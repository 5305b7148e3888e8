"""Other ways to find wrong labels; each gives every training image a number, suspects the highest.

The network's loss, the area under the margin (Pleiss et al. 2020), nearest neighbors, and confident
learning (Northcutt et al. 2021) by cleanlab.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from filterwatch.memorization import BatchFeatures
from reproduction.cell_training import read_batch, unaugmented
from reproduction.memorization_features import BATCH_SIZE
from reproduction.memorization_partial_runs import partial_run
from reproduction.run_folder import write_tensors
from reproduction.trained_cells import TrainedCell

# Of 10, 30, 100 and 300, more than a hundred gain next to nothing.
NEIGHBORS = 100
FOLDS = 4
FOLD_EPOCHS = 8  # about when validation loss is lowest


def network_loss(training: BatchFeatures) -> Tensor:
    """Return the cross entropy of each sample [N]."""
    assert training.logits is not None
    assert training.labels is not None
    return F.cross_entropy(training.logits, training.labels, reduction="none")


def area_under_margin(trained: TrainedCell, epoch: int) -> Tensor:
    """Return minus the mean margin of each training image over the epochs up to one, [N].

    The margin is the logit of the label less the largest other one, taken at the end of each epoch
    in evaluation mode.
    """
    margins = [_margins(trained, at) for at in trained.kept_epochs if at <= epoch]
    return -torch.stack(margins).mean(0)


def neighbors_disagree(features: Tensor, labels: Tensor, *, n_neighbors: int = NEIGHBORS) -> Tensor:
    """Return the share of each sample's nearest neighbors, by angle, with other labels, [N].

    Args:
        features: [N, F].
        labels: [N].
        n_neighbors: How many neighbors, other than itself.
    """
    values = F.normalize(features - features.mean(0), dim=1)
    shares = []
    for start in range(0, len(values), 1000):
        part = values[start : start + 1000]
        likeness = part @ values.T
        likeness[torch.arange(len(part)), start + torch.arange(len(part))] = -torch.inf
        nearest = likeness.topk(min(n_neighbors, len(values) - 1), dim=1).indices
        others = labels[nearest] != labels[start : start + len(part), None]
        shares.append(others.float().mean(1))
    return torch.cat(shares)


def confident_learning(trained: TrainedCell) -> Tensor | None:
    """Return 1 less cleanlab's label quality [N], by probabilities of networks that lack the image.

    A network is trained without each of `FOLDS` parts of the images; its epoch of the lowest
    validation loss says what the probabilities of that part are.

    Returns:
        ``None`` without cleanlab, or where the networks are not trained and none is to be.
    """
    if find_spec("cleanlab") is None:
        print("no cleanlab: pip install 'filterwatch[rivals]'", file=sys.stderr)
        return None
    labels = trained.datamodule.train_dataset.labels
    probabilities = _out_of_sample(trained)
    if probabilities is None:
        return None
    from cleanlab.rank import get_label_quality_scores  # an extra, for this function alone

    quality = get_label_quality_scores(labels.numpy(), probabilities.double().numpy())
    return 1 - torch.from_numpy(quality).float()


def _out_of_sample(trained: TrainedCell) -> Tensor | None:
    """Return class probabilities [N, K] by networks that were not trained on the sample."""
    path = trained.folder.path / "out_of_sample.pt"
    if path.exists():
        kept: Tensor = torch.load(path, weights_only=True)
        return kept
    train = unaugmented(trained.datamodule.train_dataset)
    generator = torch.Generator().manual_seed(trained.cell.seed)
    order = torch.randperm(len(train), generator=generator)
    probabilities = torch.zeros(len(train), trained.datamodule.num_classes)
    for fold in range(FOLDS):
        part = order[fold::FOLDS].tolist()
        run = partial_run(trained, f"fold{fold}", partial(list, part), FOLD_EPOCHS)
        if run is None:
            return None
        network = run.network(run.best)
        positions = torch.tensor(run.left_out)
        for part in positions.split(BATCH_SIZE):
            with torch.no_grad():
                probabilities[part] = network(read_batch(train, part)[0]).softmax(1)
    write_tensors(path, probabilities)
    return probabilities


@torch.no_grad()
def _margins(trained: TrainedCell, epoch: int) -> Tensor:
    """Return the margin of each training image [N] at the end of an epoch."""
    path = trained.folder.path / "margins" / f"{epoch}.pt"
    if path.exists():
        kept: Tensor = torch.load(path, weights_only=True)
        return kept
    train = unaugmented(trained.datamodule.train_dataset)
    network = trained.network(epoch)
    margins = []
    for part in torch.arange(len(train)).split(BATCH_SIZE):
        images, labels = read_batch(train, part)
        logits = network(images.to(trained.session.options.device)).cpu()
        place = labels.unsqueeze(1)
        others = logits.scatter(1, place, -torch.inf).amax(1)
        margins.append(logits.gather(1, place).squeeze(1) - others)
    found = torch.cat(margins)
    write_tensors(path, found)
    return found
