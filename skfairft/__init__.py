"""Low-rank heads on frozen feature extractors, with parity constraints, for scikit-learn."""

from typing import TYPE_CHECKING

from ._on_demand import on_demand
from ._version import __version__ as __version__

if TYPE_CHECKING:
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
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "ClosedForm": ".solvers",
            "CompressionDisplay": ".displays",
            "CompressionReport": ".compression",
            "FairLowRankHeadClassifier": ".classifier",
            "FairnessPath": ".path",
            "FairnessTradeoffDisplay": ".displays",
            "FairnessWarning": ".inputs.exceptions",
            "FeatureScatterDisplay": ".displays",
            "FineTune": ".solvers",
            "FisherImportanceDisplay": ".displays",
            "FrozenFeatureExtractor": ".backbone.extractor",
            "GroupCalibrationDisplay": ".displays",
            "GroupRatesDisplay": ".displays",
            "ModelReport": ".report",
            "PlugIn": ".solvers",
            "SingularSpectrumDisplay": ".displays",
            "compress": ".compression",
            "compression_report": ".compression",
            "fairness_path": ".path",
            "initialize_lora": ".compression",
            "load": ".loading",
            "load_path": ".path",
            "model_report": ".report",
            "split_attention": ".compression",
            "split_head": ".backbone.split",
        },
    )

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
