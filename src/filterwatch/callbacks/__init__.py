"""Callbacks for Lightning's Trainer."""

from filterwatch.callbacks.anomaly_filters import AnomalyFilterCallback
from filterwatch.callbacks.epoch_table import EpochTable

__all__ = ["AnomalyFilterCallback", "EpochTable"]
