"""Plots in scikit-learn's style: computed arrays in, ``plot(ax=None)``, ``ax_`` and ``figure_``.

Must not know how a model was fitted. matplotlib is imported when a plot is drawn.
"""

from typing import TYPE_CHECKING

from .._on_demand import on_demand

if TYPE_CHECKING:
    from ._calibration import GroupCalibrationDisplay
    from ._compression import CompressionDisplay
    from ._group_rates import GroupRatesDisplay
    from ._importance import FisherImportanceDisplay
    from ._scatter import FeatureScatterDisplay
    from ._spectrum import SingularSpectrumDisplay
    from ._tradeoff import FairnessTradeoffDisplay
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "CompressionDisplay": "._compression",
            "FairnessTradeoffDisplay": "._tradeoff",
            "FeatureScatterDisplay": "._scatter",
            "FisherImportanceDisplay": "._importance",
            "GroupCalibrationDisplay": "._calibration",
            "GroupRatesDisplay": "._group_rates",
            "SingularSpectrumDisplay": "._spectrum",
        },
    )

__all__ = [
    "CompressionDisplay",
    "FairnessTradeoffDisplay",
    "FeatureScatterDisplay",
    "FisherImportanceDisplay",
    "GroupCalibrationDisplay",
    "GroupRatesDisplay",
    "SingularSpectrumDisplay",
]
