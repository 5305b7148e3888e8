"""Watch a CNN's filters while it trains: which overfit, and because of which samples."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

_PACKAGES = {
    "AnomalyCriteria": "detection",
    "AnomalyFilter": "detection",
    "AnomalyFilterCallback": "callbacks",
    "AnomalyReport": "detection",
    "Clusterings": "detection",
    "LayerReport": "detection",
    "MaskFilters": "actions",
    "StopTraining": "actions",
    "cluster_points": "detection",
    "detect_anomaly_filters": "detection",
    "mask_filters": "actions",
}
__version__ = version("filterwatch")
__all__ = sorted(_PACKAGES)


def __getattr__(name: str) -> Any:
    if name not in _PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"filterwatch.{_PACKAGES[name]}"), name)
