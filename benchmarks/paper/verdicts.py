"""The paper's figures, and what a finding is."""

from __future__ import annotations

from dataclasses import dataclass

from .paired import Interval

REPRODUCED, PARTLY, NOT = "reproduced", "partly", "not reproduced"
# The paper's three: its Adult network, and ResNet-18 with a new last layer.
PAPERS_TASKS = {
    "Adult": "adult",
    "CelebA": "celeba, resnet18, last",
    "LFW+a": "lfw-male, resnet18, last",
}
# What "do not differ much" is held to mean: the intervals stay within these.
MARGINS = {"Err": 0.5, "DDP": 0.02, "DEO": 0.05}
# Table 2 of the paper: (Err, bias) pre-trained; (Err, bias) fine-tuned.
TABLE_2 = {
    ("EO", 0.1): ((16.835, 0.068), (16.676, 0.206)),
    ("EO", 0.5): ((17.469, 0.012), (17.168, 0.183)),
    ("EO", 0.9): ((18.744, 0.008), (17.343, 0.186)),
    ("DP", 0.1): ((17.332, 0.125), (17.479, 0.171)),
    ("DP", 0.5): ((17.489, 0.047), (17.773, 0.173)),
    ("DP", 0.9): ((20.160, 0.031), (17.071, 0.172)),
}
PRE_TRAINED = {"Err": 16.165, "DDP": 0.192, "DEO": 0.223}  # section 4.4
TABLE_1 = {
    "Adult": (12287, 5000, 10315),
    "CelebA": (194599, 4000, 8000),
    "LFW+a": (6885, 1000, 5258),
}


@dataclass(frozen=True)
class Finding:
    """A claim, what was measured, and what follows."""

    claim: str
    source: str
    paper: str  # the paper's figures
    ours: str  # ours beside them
    verdict: str
    reason: str = ""
    experiment: str = ""


def text(found: Interval, digits: int) -> str:
    """Return "mean (low to high)" with signs."""
    if found.n == 0:
        return "-"
    if found.mean == found.low == found.high == 0:
        return "0 in all seeds"
    mean, low, high = (signed(x, digits) for x in (found.mean, found.low, found.high))
    return f"{mean} ({low} to {high})"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def verdict(cases: list[bool | None]) -> str:
    """Judge cases that bear a claim out (True), contradict it (False), or neither."""
    if cases and all(case is True for case in cases):
        return REPRODUCED
    if any(case is True for case in cases) and not any(case is False for case in cases):
        return PARTLY
    return NOT
