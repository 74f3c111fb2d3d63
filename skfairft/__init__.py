"""Low-rank heads on frozen feature extractors, with parity constraints, for scikit-learn."""

from ._version import __version__ as __version__
from .backbone.extractor import FrozenFeatureExtractor
from .backbone.split import split_head
from .classifier import FairLowRankHeadClassifier
from .compression import (
    CompressionReport,
    compress,
    compression_report,
    initialize_lora,
    split_attention,
)
from .displays import (
    CompressionDisplay,
    FairnessTradeoffDisplay,
    FeatureScatterDisplay,
    FisherImportanceDisplay,
    GroupCalibrationDisplay,
    GroupRatesDisplay,
    SingularSpectrumDisplay,
)
from .inputs.exceptions import FairnessWarning
from .loading import load
from .path import FairnessPath, fairness_path, load_path
from .report import ModelReport, model_report
from .solvers import ClosedForm, FineTune, PlugIn

__all__ = [
    "ClosedForm",
    "CompressionDisplay",
    "CompressionReport",
    "FairLowRankHeadClassifier",
    "FairnessPath",
    "FairnessTradeoffDisplay",
    "FairnessWarning",
    "FeatureScatterDisplay",
    "FineTune",
    "FisherImportanceDisplay",
    "FrozenFeatureExtractor",
    "GroupCalibrationDisplay",
    "GroupRatesDisplay",
    "ModelReport",
    "PlugIn",
    "SingularSpectrumDisplay",
    "compress",
    "compression_report",
    "fairness_path",
    "initialize_lora",
    "load",
    "load_path",
    "model_report",
    "split_attention",
    "split_head",
]
