"""The method itself, in plain PyTorch: from a model and images to a report."""

from filterwatch.detection.capture import Layer, find_layers
from filterwatch.detection.cluster import (
    Clusterings,
    calinski_harabasz,
    cluster_points,
    compilation_note,
)
from filterwatch.detection.criteria import AnomalyCriteria
from filterwatch.detection.detect import detect_anomaly_filters
from filterwatch.detection.images import find_images
from filterwatch.detection.report import AnomalyFilter, AnomalyReport, LayerReport
from filterwatch.detection.workspace import Workspace

__all__ = [
    "AnomalyCriteria",
    "AnomalyFilter",
    "AnomalyReport",
    "Clusterings",
    "Layer",
    "LayerReport",
    "Workspace",
    "calinski_harabasz",
    "cluster_points",
    "compilation_note",
    "detect_anomaly_filters",
    "find_images",
    "find_layers",
]
