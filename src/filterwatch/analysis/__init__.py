"""Looking at a finished model: load it, probe it with a folder of images, write down the result."""

from filterwatch.analysis.analyses import Analysis, Comparison, analyze, compare
from filterwatch.analysis.documents import write_comparison, write_report
from filterwatch.analysis.folder_probe import ProbeImages, sample_probe
from filterwatch.analysis.model_files import InputError
from filterwatch.analysis.model_loading import LoadedModel, load_model

__all__ = [
    "Analysis",
    "Comparison",
    "InputError",
    "LoadedModel",
    "ProbeImages",
    "analyze",
    "compare",
    "load_model",
    "sample_probe",
    "write_comparison",
    "write_report",
]
