"""See what a CNN learns by heart while it trains, in which layers, and on which training images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from filterwatch.memorization import (
        LayerMemorization,
        MemorizationReport,
        Sample,
        SampleScores,
        measure_memorization,
        score_samples,
    )
    from filterwatch.watching import FilterWatch

    __version__: str

__all__ = [
    "AnomalyCriteria",
    "AnomalyFilter",
    "AnomalyFilterCallback",
    "AnomalyReport",
    "Clusterings",
    "FilterWatch",
    "LayerMemorization",
    "LayerReport",
    "MaskFilters",
    "MemorizationReport",
    "Sample",
    "SampleScores",
    "StopTraining",
    "cluster_points",
    "detect_anomaly_filters",
    "mask_filters",
    "measure_memorization",
    "score_samples",
]

# Where a name comes from, unless it is from the detection. Nothing is imported before it is asked
# for: the detection needs no Lightning, and `filterwatch --help` needs neither.
_HOMES = {
    "AnomalyFilterCallback": "callbacks",
    "FilterWatch": "watching",
    "LayerMemorization": "memorization",
    "MaskFilters": "actions",
    "MemorizationReport": "memorization",
    "Sample": "memorization",
    "SampleScores": "memorization",
    "StopTraining": "actions",
    "mask_filters": "actions",
    "measure_memorization": "memorization",
    "score_samples": "memorization",
}
_PACKAGES = (
    *("actions", "analysis", "callbacks", "datamodules"),
    *("detection", "memorization", "models", "observing", "visuals", "watching"),
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        value = getattr(import_module(f"filterwatch.{_HOMES.get(name, 'detection')}"), name)
    elif name in _PACKAGES:
        value = import_module(f"filterwatch.{name}")
    elif name == "__version__":
        value = import_module("importlib.metadata").version("filterwatch")
    else:
        raise AttributeError(f"module 'filterwatch' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted((*__all__, *_PACKAGES, "__version__"))
