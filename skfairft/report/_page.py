"""The report as one HTML page: no scripts, nothing from outside, all text escaped."""

from __future__ import annotations

from itertools import chain

import numpy as np

from ..metrics.markup import Html, tag
from ..metrics.tables import number
from ..summary.model import ModelSummary
from . import _tables
from ._blocks import pair, shown_caveat, shown_figure, shown_table
from ._caveat import Caveat
from ._caveats import find_caveats
from ._facts import Facts
from ._figures import Figure, draw, have_matplotlib, many_groups
from ._style import STYLE
from ._top import header
from ._words import PREDICTING, distances_are, positive_class

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


def page(facts: Facts) -> str:
    """Return a whole HTML document."""
    figures = draw(facts) if have_matplotlib() else None
    caveats = find_caveats(facts)
    sections = {
        "model": ("The model", _model(facts)),
        "data": ("The rows it was measured on", _data(facts)),
        "rates": ("Rates by group", _rates(facts, figures)),
        "distances": ("Distances between the groups", _distances(facts)),
        "importance": ("Which features matter to which group", _importance(facts, figures)),
        "rank": ("Spectrum and rank", _rank(facts, figures)),
        **(
            {"tradeoff": ("Error against difference", _tradeoff(facts, figures))}
            if facts.path is not None
            else {}
        ),
        "caveats": ("What to know before using these numbers", _caveats(caveats)),
        "made": ("How this was made", _made(facts)),
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
        tag("title", facts.title),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "body",
        tag("div", header(facts, caveats, nav), main, _footer(facts), class_="page"),
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def frame(facts: Facts) -> str:
    """Return the page in a frame of its own, so that its style stays out of a notebook's."""
    return tag(
        "iframe",
        srcdoc=page(facts),
        title=facts.title,
        style="width:100%;height:42rem;border:1px solid #d8dde4;border-radius:4px;background:#fff",
    )


def _model(facts: Facts) -> list[Html]:
    said = [
        part for name, text in facts.summary.lines() for part in (tag("dt", name), tag("dd", text))
    ]
    intro = (
        "A backbone that stays as it is turns each row into features; a small head, fitted on "
        "them, decides."
        if facts.summary.frozen
        else "A small head, fitted on the features in X, decides."
    )
    return [tag("p", f"{intro} {PREDICTING}"), tag("dl", *said, class_="facts")]


def _data(facts: Facts) -> list[Html]:
    rows = tag(
        "p",
        "All numbers below are of these rows, unless it says otherwise. They should have had no "
        "part in fitting the model.",
    )
    return [rows, *shown_table("counts", _tables.counts(facts))]


def _rates(facts: Facts, figures: dict[str, Figure] | None) -> list[Html]:
    fairness = facts.fairness
    words = (
        f"{positive_class(facts)} The selection rate is the share of positive decisions; "
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
        *shown_table("rates", _tables.rates(facts)),
        *shown_figure(figures, "rates"),
    ]


def _distances(facts: Facts) -> list[Html]:
    return [
        tag("p", distances_are(facts)),
        pair(
            shown_table("headline", _tables.distances(facts)),
            shown_table("compared", _tables.compared(facts)),
        ),
    ]


def _importance(facts: Facts, figures: dict[str, Figure] | None) -> list[Html]:
    blocks = [
        tag(
            "p",
            "The importance of a feature to a group is the square root of the Fisher information "
            "of its weights over the group's rows of the fit. Their average over the "
            f"groups is the neutralized importance. {_use(facts.summary)}",
        )
    ]
    cosines = facts.similarity
    table = _tables.similarity(facts)
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
        shown_table("importance", _tables.importance(facts)),
    )
    return [
        *blocks,
        *(chain(*halves) if many_groups(facts) else [pair(*halves)]),
        *(shown_table("similarity", table) if table is not None else []),
    ]


def _use(summary: ModelSummary) -> str:
    if not summary.decomposed:
        return "This head is one full matrix that comes from no SVD, and did not use it."
    return _IN_USE[summary.importance]


def _rank(facts: Facts, figures: dict[str, Figure] | None) -> list[Html]:
    summary = facts.summary
    words = (
        f"The head has {summary.describe_rank()}. The energy up to a rank is the share of the sum "
        "of all squared singular values that the first ones hold. "
        "They are those of an SVD of the head's matrix before any training, "
        f"{_WEIGHTED[summary.importance]}."
    )
    return [
        tag("p", words),
        pair(shown_figure(figures, "spectrum"), shown_table("spectrum", _tables.spectrum(facts))),
    ]


def _tradeoff(facts: Facts, figures: dict[str, Figure] | None) -> list[Html]:
    assert facts.path is not None
    words = (
        f"Each point is one head of the path, measured on {facts.path.n_held_out:,} rows that "
        "were held out for it."
    )
    if facts.chosen is None:
        words += " This model is not one of the points."
    table = _tables.tradeoff(facts)
    return [
        tag("p", words),
        *shown_figure(figures, "tradeoff"),
        *(shown_table("tradeoff", table) if table is not None else []),
    ]


def _caveats(caveats: tuple[Caveat, ...]) -> list[Html]:
    found = [caveat for caveat in caveats if caveat.found]
    always = [caveat for caveat in caveats if not caveat.found]
    items = [shown_caveat(caveat, f"caveat-{i}") for i, caveat in enumerate(found, start=1)]
    return [
        *([tag("h3", "About this model and these rows")] if found else []),
        *([tag("ul", *items, class_="caveats")] if found else []),
        tag("h3", "About any such report"),
        tag("ul", *(shown_caveat(caveat) for caveat in always), class_="caveats"),
    ]


def _made(facts: Facts) -> list[Html]:
    default = [
        f"{name}={text}" for name, (text, changed) in facts.parameters.items() if not changed
    ]
    parameters = _tables.parameters(facts)
    return [
        pair(
            [
                *(shown_table("parameters", parameters) if parameters.rows else []),
                tag("p", "At their defaults: ", ", ".join(default), ".", class_="quiet"),
            ],
            shown_table("versions", _tables.versions(facts)),
        ),
    ]


def _footer(facts: Facts) -> Html:
    return tag("footer", f"Made by skfairft {facts.versions['skfairft']}.")
