"""Looking at a finished model: load it, probe it with a folder of images, write down the result."""

from filterwatch.analysis.errors import InputError
from filterwatch.analysis.images import ProbeImages, sample_probe
from filterwatch.analysis.loading import LoadedModel, load_model
from filterwatch.analysis.run import Analysis, analyze

__all__ = [
    "Analysis",
    "InputError",
    "LoadedModel",
    "ProbeImages",
    "analyze",
    "load_model",
    "sample_probe",
]
