"""Memorization beside the count: what is logged, from which training images, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from filterwatch import MemorizationReport, StopTraining, measure_memorization
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.callbacks.training_probe import as_evaluated, draws_at_random
from tests.callbacks.watched import SIZE, TinyNet, fit, loader, trainer, watch
