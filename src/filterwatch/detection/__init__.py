"""The method itself, in plain PyTorch: from a model and images to a report."""

from filterwatch.detection.cluster import (
    Clusterings,
    calinski_harabasz,
    cluster_layers,
    cluster_points,
)
from filterwatch.detection.compilation import Compilation, start_compiling
from filterwatch.detection.criteria import (
    AnomalyCriteria,
    check_criteria,
    flag_anomalies,
    nearly_dead,
    small_clusters,
)
from filterwatch.detection.detect import (
    check_detection,
    check_probe_size,
    detect_anomaly_filters,
    detect_as_planned,
    plan_detection,
)
from filterwatch.detection.memory import Plan, Workspace
from filterwatch.detection.reduce import PCA, ProgressCallback, Reduced, Reduction
from filterwatch.detection.report import AnomalyFilter, AnomalyReport, LayerReport
from filterwatch.detection.verdicts import judge
from filterwatch.detection.votes import Votes, vote
from filterwatch.observing import find_layers

__all__ = [
    "PCA",
    "AnomalyCriteria",
    "AnomalyFilter",
    "AnomalyReport",
    "Clusterings",
    "Compilation",
    "LayerReport",
    "Plan",
    "ProgressCallback",
    "Reduced",
    "Reduction",
    "Votes",
    "Workspace",
    "calinski_harabasz",
    "check_criteria",
    "check_detection",
    "check_probe_size",
    "cluster_layers",
    "cluster_points",
    "detect_anomaly_filters",
    "detect_as_planned",
    "find_layers",
    "flag_anomalies",
    "judge",
    "nearly_dead",
    "plan_detection",
    "small_clusters",
    "start_compiling",
    "vote",
]
