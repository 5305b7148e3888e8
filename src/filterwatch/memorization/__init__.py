"""What each layer knows of its training images' labels by heart, in plain PyTorch."""

from filterwatch.memorization.decoder import EVIDENCE_FLOOR, FEWEST_IN_HALF, Decoder, halve
from filterwatch.memorization.evidence import (
    JOINT,
    OUTPUT,
    HeldOut,
    UnmeasurableError,
    checked_labels,
    log_probabilities,
)
from filterwatch.memorization.features import (
    BatchFeatures,
    DecodedLayer,
    FeatureListener,
    features_of,
    find_decoded_layers,
    joined,
)
from filterwatch.memorization.measure import (
    LabeledSamples,
    TrainingRecord,
    compare_with_training,
    follow,
    measure_memorization,
)
from filterwatch.memorization.report import LayerMemorization, MemorizationReport, Sample

__all__ = [
    "EVIDENCE_FLOOR",
    "FEWEST_IN_HALF",
    "JOINT",
    "OUTPUT",
    "BatchFeatures",
    "DecodedLayer",
    "Decoder",
    "FeatureListener",
    "HeldOut",
    "LabeledSamples",
    "LayerMemorization",
    "MemorizationReport",
    "Sample",
    "TrainingRecord",
    "UnmeasurableError",
    "checked_labels",
    "compare_with_training",
    "features_of",
    "find_decoded_layers",
    "follow",
    "halve",
    "joined",
    "log_probabilities",
    "measure_memorization",
]
