"""The method itself, in plain PyTorch: from a model and images to a report."""

from filterwatch.detection import compiled as compiled  # first: numba needs a folder to write to
from filterwatch.detection.capture import Layer, find_layers
from filterwatch.detection.clustering import Clusterings, cluster_points
from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies
from filterwatch.detection.detect import detect_anomaly_filters
from filterwatch.detection.images import find_images
from filterwatch.detection.report import AnomalyFilter, AnomalyReport, LayerReport
from filterwatch.detection.verdicts import ProgressCallback
from filterwatch.detection.workspace import Workspace

__all__ = [
    "AnomalyCriteria",
    "AnomalyFilter",
    "AnomalyReport",
    "Clusterings",
    "Layer",
    "LayerReport",
    "ProgressCallback",
    "Workspace",
    "cluster_points",
    "detect_anomaly_filters",
    "find_images",
    "find_layers",
    "flag_anomalies",
]
