"""Rates and distances of any decisions, with intervals, as functions, scorers and reports.

Must not know how a model was fitted.
"""

from .calibration import calibration_error
from .comparison import ReportComparison
from .files import load_report
from .report import FairnessReport
from .scorers import fairness_scorer
from .scores import (
    constraint_distance,
    constraint_ratio,
    demographic_parity_distance,
    equalized_odds_distance,
    fairness_report,
    weighted_f1_error,
    worst_group_error,
)

__all__ = [
    "FairnessReport",
    "ReportComparison",
    "calibration_error",
    "constraint_distance",
    "constraint_ratio",
    "demographic_parity_distance",
    "equalized_odds_distance",
    "fairness_report",
    "fairness_scorer",
    "load_report",
    "weighted_f1_error",
    "worst_group_error",
]
