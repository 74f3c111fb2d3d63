"""Low-rank heads on frozen feature extractors, with parity constraints, for scikit-learn."""

from .classifier import FairLowRankHeadClassifier
from .displays import (
    FairnessTradeoffDisplay,
    FeatureScatterDisplay,
    FisherImportanceDisplay,
    GroupRatesDisplay,
    SingularSpectrumDisplay,
)
from .exceptions import FairnessWarning
from .extractor import FrozenFeatureExtractor
from .path import FairnessPath, fairness_path
from .report import ModelReport, model_report
from .split import split_head

__version__ = "0.1.0"

__all__ = [
    "FairLowRankHeadClassifier",
    "FairnessPath",
    "FairnessTradeoffDisplay",
    "FairnessWarning",
    "FeatureScatterDisplay",
    "FisherImportanceDisplay",
    "FrozenFeatureExtractor",
    "GroupRatesDisplay",
    "ModelReport",
    "SingularSpectrumDisplay",
    "fairness_path",
    "model_report",
    "split_head",
]
