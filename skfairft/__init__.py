"""Fair low-rank heads on frozen feature extractors, for scikit-learn."""

from .classifier import FairLowRankHeadClassifier
from .displays import FairnessTradeoffDisplay, FisherImportanceDisplay
from .exceptions import FairnessWarning
from .extractor import FrozenFeatureExtractor
from .path import FairnessPath, fairness_path
from .split import split_head

__version__ = "0.1.0"

__all__ = [
    "FairLowRankHeadClassifier",
    "FairnessPath",
    "FairnessTradeoffDisplay",
    "FairnessWarning",
    "FisherImportanceDisplay",
    "FrozenFeatureExtractor",
    "fairness_path",
    "split_head",
]
