"""What each layer knows of its training images' labels by heart, in plain PyTorch."""

from filterwatch.memorization.decoder import EVIDENCE_FLOOR, FEWEST_IN_HALF, Decoder, halve
from filterwatch.memorization.evidence import (
    JOINT,
    OUTPUT,
    HeldOut,
    UnmeasurableError,
    checked_labels,
    class_labels,
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
from filterwatch.memorization.history import METRICS, history_entry, logged_values
from filterwatch.memorization.measure import (
    LabeledSamples,
    TrainingRecord,
    fit_held_out,
    hear_training,
    measure_memorization,
    read_features,
)
from filterwatch.memorization.repeated import RepeatedMeasurement
from filterwatch.memorization.report import LayerMemorization, MemorizationReport, Sample
from filterwatch.memorization.samples import SampleRecord, SampleScores, score_samples

__all__ = [
    "EVIDENCE_FLOOR",
    "FEWEST_IN_HALF",
    "JOINT",
    "METRICS",
    "OUTPUT",
    "BatchFeatures",
    "DecodedLayer",
    "Decoder",
    "FeatureListener",
    "HeldOut",
    "LabeledSamples",
    "LayerMemorization",
    "MemorizationReport",
    "RepeatedMeasurement",
    "Sample",
    "SampleRecord",
    "SampleScores",
    "TrainingRecord",
    "UnmeasurableError",
    "checked_labels",
    "class_labels",
    "features_of",
    "find_decoded_layers",
    "fit_held_out",
    "halve",
    "hear_training",
    "history_entry",
    "joined",
    "log_probabilities",
    "logged_values",
    "measure_memorization",
    "read_features",
    "score_samples",
]
