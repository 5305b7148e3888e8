"""Watch a CNN's filters while it trains: which overfit, and because of which samples."""

from importlib.metadata import version

from filterwatch.actions import MaskFilters, StopTraining, mask_filters
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyFilter,
    AnomalyReport,
    Clusterings,
    LayerReport,
    cluster_points,
    detect_anomaly_filters,
)

__version__ = version("filterwatch")

__all__ = [
    "AnomalyCriteria",
    "AnomalyFilter",
    "AnomalyFilterCallback",
    "AnomalyReport",
    "Clusterings",
    "LayerReport",
    "MaskFilters",
    "StopTraining",
    "cluster_points",
    "detect_anomaly_filters",
    "mask_filters",
]
