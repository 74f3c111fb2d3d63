"""The report as one HTML page: no scripts, nothing from outside, all text escaped."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from . import _tables
from ._blocks import pair, shown_caveat, shown_figure, shown_table
from ._figures import Figure, draw, have_matplotlib, many_groups
from ._markup import Html, tag
from ._style import STYLE
from ._top import header
from ._words import PREDICTING, distances_are, number, positive_class

if TYPE_CHECKING:
    from ..summary.model import ModelSummary
    from ._result import ModelReport

__all__ = ["frame", "page"]

_IN_USE = {
    "fisher": "It weighted the SVD that the head comes from.",
    "uniform": "The SVD that the head comes from did not use it: all features counted alike.",
    "covariance": "The SVD that the head comes from was weighted by the covariance of the features "
    "instead; the neutralized importance is shown for comparison.",
}

_WEIGHTED = {
    "fisher": "weighted by the neutralized importance",
    "uniform": "not weighted",
    "covariance": "weighted by the covariance of the features",
}


def page(report: ModelReport) -> str:
    """Return a whole HTML document."""
    figures = draw(report) if have_matplotlib() else None
    sections = {
        "model": ("The model", _model(report)),
        "data": ("The rows it was measured on", _data(report)),
        "rates": ("Rates by group", _rates(report, figures)),
        "distances": ("Distances between the groups", _distances(report)),
        "importance": ("Which features matter to which group", _importance(report, figures)),
        "rank": ("Spectrum and rank", _rank(report, figures)),
        **(
            {"tradeoff": ("Error against difference", _tradeoff(report, figures))}
            if report.path is not None
            else {}
        ),
        "caveats": ("What to know before using these numbers", _caveats(report)),
        "made": ("How this was made", _made(report)),
    }
    main = tag(
        "main",
        *(
            tag(
                "section",
                tag("h2", title, id=f"{key}-title"),
                *blocks,
                id=key,
                aria_labelledby=f"{key}-title",
            )
            for key, (title, blocks) in sections.items()
        ),
    )
    links = [tag("li", tag("a", title, href=f"#{key}")) for key, (title, _) in sections.items()]
    nav = tag("nav", tag("ul", *links), aria_label="Sections")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light"),
        tag("title", report.title),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "body",
        tag("div", header(report, nav), main, _footer(report), class_="page"),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def frame(report: ModelReport) -> str:
    """Return the page in a frame of its own, so that its style stays out of a notebook's."""
    return tag(
        "iframe",
        srcdoc=page(report),
        title=report.title,
        style="width:100%;height:42rem;border:1px solid #d8dde4;border-radius:4px;background:#fff",
    )


def _model(report: ModelReport) -> list[Html]:
    facts = [
        part for name, text in report.summary.lines() for part in (tag("dt", name), tag("dd", text))
    ]
    intro = (
        "A backbone that stays as it is turns each row into features; a small head, fitted on "
        "them, decides."
        if report.summary.frozen
        else "A small head, fitted on the features in X, decides."
    )
    return [tag("p", f"{intro} {PREDICTING}"), tag("dl", *facts, class_="facts")]


def _data(report: ModelReport) -> list[Html]:
    rows = tag(
        "p",
        "All numbers below are of these rows, unless it says otherwise. They should have had no "
        "part in fitting the model.",
    )
    return [rows, *shown_table("counts", _tables.counts(report))]


def _rates(report: ModelReport, figures: dict[str, Figure] | None) -> list[Html]:
    fairness = report.fairness
    words = (
        f"{positive_class(report)} The selection rate is the share of positive decisions; "
        "the true (false) positive rate is their share among the rows whose label is positive "
        "(negative)."
    )
    if fairness.n_boot:
        words += (
            f" In brackets: {100 * fairness.confidence_level:g} % bootstrap intervals, "
            f"{fairness.n_boot:,} resamples of the rows."
        )
    return [
        tag("p", words),
        *shown_table("rates", _tables.rates(report)),
        *shown_figure(figures, "rates"),
    ]


def _distances(report: ModelReport) -> list[Html]:
    return [
        tag("p", distances_are(report)),
        pair(
            shown_table("headline", _tables.distances(report)),
            shown_table("compared", _tables.compared(report)),
        ),
    ]


def _importance(report: ModelReport, figures: dict[str, Figure] | None) -> list[Html]:
    blocks = [
        tag(
            "p",
            "The importance of a feature to a group is the square root of the Fisher information "
            "of its weights over the group's rows of the fit. Their average over the "
            f"groups is the neutralized importance. {_use(report.summary)}",
        )
    ]
    cosines = report.similarity
    table = _tables.similarity(report)
    if len(cosines) > 1:
        lowest = np.nanmin(cosines) if not np.isnan(cosines).all() else np.nan
        blocks.append(
            tag(
                "p",
                f"The lowest cosine between two groups' importances is {number(lowest)}. The "
                "nearer it is to 1, the less there is to neutralize.",
            )
        )
    halves = (
        shown_figure(figures, "importance"),
        shown_table("importance", _tables.importance(report)),
    )
    return [
        *blocks,
        *(chain(*halves) if many_groups(report) else [pair(*halves)]),
        *(shown_table("similarity", table) if table is not None else []),
    ]


def _use(summary: ModelSummary) -> str:
    if not summary.decomposed:
        return "This head is one full matrix that comes from no SVD, and did not use it."
    return _IN_USE[summary.importance]


def _rank(report: ModelReport, figures: dict[str, Figure] | None) -> list[Html]:
    summary = report.summary
    words = (
        f"The head has {summary.describe_rank()}. The energy up to a rank is the share of the sum "
        "of all squared singular values that the first ones hold. "
        "They are those of an SVD of the head's matrix before any training, "
        f"{_WEIGHTED[summary.importance]}."
    )
    return [
        tag("p", words),
        pair(shown_figure(figures, "spectrum"), shown_table("spectrum", _tables.spectrum(report))),
    ]


def _tradeoff(report: ModelReport, figures: dict[str, Figure] | None) -> list[Html]:
    assert report.path is not None
    words = (
        f"Each point is one head of the path, measured on {report.path.n_held_out:,} rows that "
        "were held out for it."
    )
    if report.chosen is None:
        words += " This model is not one of the points."
    table = _tables.tradeoff(report)
    return [
        tag("p", words),
        *shown_figure(figures, "tradeoff"),
        *(shown_table("tradeoff", table) if table is not None else []),
    ]


def _caveats(report: ModelReport) -> list[Html]:
    found = [caveat for caveat in report.caveats if caveat.found]
    always = [caveat for caveat in report.caveats if not caveat.found]
    items = [shown_caveat(caveat, f"caveat-{i}") for i, caveat in enumerate(found, start=1)]
    return [
        *([tag("h3", "About this model and these rows")] if found else []),
        *([tag("ul", *items, class_="caveats")] if found else []),
        tag("h3", "About any such report"),
        tag("ul", *(shown_caveat(caveat) for caveat in always), class_="caveats"),
    ]


def _made(report: ModelReport) -> list[Html]:
    default = [
        f"{name}={text}" for name, (text, changed) in report.parameters.items() if not changed
    ]
    parameters = _tables.parameters(report)
    return [
        pair(
            [
                *(shown_table("parameters", parameters) if parameters.rows else []),
                tag("p", "At their defaults: ", ", ".join(default), ".", class_="quiet"),
            ],
            shown_table("versions", _tables.versions(report)),
        ),
    ]


def _footer(report: ModelReport) -> Html:
    return tag("footer", f"Made by skfairft {report.versions['skfairft']}.")
