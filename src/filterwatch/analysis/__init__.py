"""Looking at a finished model: load it, probe it with a folder of images, write down the result."""

from filterwatch.analysis.analyses import Analysis, Comparison, analyze, compare
from filterwatch.analysis.documents import write_comparison, write_report
from filterwatch.analysis.folder_probe import ProbeImages, sample_probe
from filterwatch.analysis.model_files import InputError
from filterwatch.analysis.model_loading import LoadedModel, load_model
from filterwatch.analysis.run_settings import JudgingSettings, choose_settings
from filterwatch.analysis.training_images import (
    Memorization,
    TrainingImages,
    measure_training_images,
    open_training_images,
)

__all__ = [
    "Analysis",
    "Comparison",
    "InputError",
    "JudgingSettings",
    "LoadedModel",
    "Memorization",
    "ProbeImages",
    "TrainingImages",
    "analyze",
    "choose_settings",
    "compare",
    "load_model",
    "measure_training_images",
    "open_training_images",
    "sample_probe",
    "write_comparison",
    "write_report",
]
