"""The report as one HTML page: no scripts, nothing from outside, all text escaped."""

from __future__ import annotations

import numpy as np

from ..metrics.document import document
from ..metrics.markup import Child, tag
from ..metrics.tables import number
from . import _tables
from ._blocks import pair, shown_caveat, shown_figure, shown_table
from ._caveat import Caveat
from ._caveats import find_caveats
from ._facts import Facts
from ._figures import Figure, draw, have_matplotlib, many_groups
from ._style import STYLE
from ._top import header
from ._words import RATES_ARE, calibration_is, distances_are, positive_class, predicting

__all__ = ["frame", "page"]

Figures = dict[str, Figure] | None


def page(facts: Facts) -> str:
    """Return a whole HTML document."""
    figures = draw(facts) if have_matplotlib() else None
    caveats = find_caveats(facts)
    sections = {
        "model": ("The model", _model(facts)),
        "data": ("The rows it was measured on", _data(facts)),
        "rates": ("Rates by group", _rates(facts, figures)),
        "distances": ("Distances between the groups", _distances(facts)),
        "calibration": ("Calibration by group", _calibration(facts)),
        "importance": ("Which features matter to which group", _importance(facts, figures)),
        "rank": ("Spectrum and rank", _rank(facts, figures)),
        "tradeoff": ("Error against difference", _tradeoff(facts, figures)),
        "caveats": ("What to know before using these numbers", _caveats(caveats)),
        "made": ("How this was made", _made(facts)),
    }
    if facts.path is None:
        del sections["tradeoff"]
    blocks = []
    for key, (title, children) in sections.items():
        name = f"{key}-title"
        blocks.append(
            tag("section", tag("h2", title, id=name), children, id=key, aria_labelledby=name)
        )
    links = [tag("li", tag("a", title, href=f"#{key}")) for key, (title, _) in sections.items()]
    nav = tag("nav", tag("ul", links), aria_label="Sections")
    foot = tag("footer", f"Made by skfairft {facts.versions['skfairft']}.")
    inside = [header(facts, caveats, nav), tag("main", blocks), foot]
    return document(facts.heading, "", style=STYLE, body=tag("div", inside, class_="page"))


def frame(facts: Facts) -> str:
    """Return the page in a frame of its own, so that its style stays out of a notebook's."""
    return tag(
        "iframe",
        srcdoc=page(facts),
        title=facts.heading,
        style="width:100%;height:42rem;border:1px solid #d8dde4;border-radius:4px;background:#fff",
    )


def _model(facts: Facts) -> Child:
    intro = (
        "A backbone that stays as it is turns each row into features; a small head, fitted on "
        "them, decides."
        if facts.summary.frozen
        else "A small head, fitted on the features in X, decides."
    )
    said = [[tag("dt", name), tag("dd", text)] for name, text in facts.summary.lines()]
    return [tag("p", f"{intro} {predicting(facts)}"), tag("dl", said, class_="facts")]


def _data(facts: Facts) -> Child:
    words = (
        "All numbers below are of these rows, unless it says otherwise. They should have had no "
        "part in fitting the model."
    )
    return [tag("p", words), shown_table("counts", _tables.counts(facts))]


def _rates(facts: Facts, figures: Figures) -> Child:
    fairness = facts.fairness
    words = (
        f"{positive_class(facts)} {RATES_ARE} In brackets: {100 * fairness.confidence_level:g} % "
        "intervals"
    )
    words += f", of F1 from {fairness.n_boot:,} resamples of the rows." if fairness.n_boot else "."
    table = shown_table("rates", _tables.rates(facts))
    return [tag("p", words), table, shown_figure(figures, "rates")]


def _distances(facts: Facts) -> Child:
    headline = shown_table("headline", _tables.distances(facts))
    compared = shown_table("compared", _tables.compared(facts))
    sides = shown_table("by-column", _tables.by_column(facts))
    return [tag("p", distances_are(facts)), pair(headline, compared), sides]


def _calibration(facts: Facts) -> Child:
    labels = shown_table("calibration", _tables.calibration(facts))
    cells = shown_table("cells", _tables.cells(facts))
    return [tag("p", calibration_is(facts)), labels, cells]


def _importance(facts: Facts, figures: Figures) -> Child:
    weighting, cosines = facts.summary.weighting, facts.similarity
    words = (
        "The importance of a feature to a group is the square root of the Fisher information of "
        f"its weights{weighting.heads} over the group's rows of the fit. Their average over the "
        f"groups is the neutralized importance. {weighting.use}"
    )
    alike = None
    if len(cosines) > 1:
        lowest = np.nanmin(cosines) if not np.isnan(cosines).all() else np.nan
        alike = tag(
            "p",
            f"The lowest cosine between two groups' importances is {number(lowest)}. The nearer "
            "it is to 1, the less there is to neutralize.",
        )
    figure = shown_figure(figures, "importance")
    table = shown_table("importance", _tables.importance(facts))
    both = [figure, table] if many_groups(facts) else pair(figure, table)
    return [tag("p", words), alike, both, shown_table("similarity", _tables.similarity(facts))]


def _rank(facts: Facts, figures: Figures) -> Child:
    words = (
        f"The head has {facts.summary.describe_rank()}. The energy up to a rank is the share of "
        "the sum of all squared singular values that the first ones hold. They are those of an SVD "
        f"of the head's matrix before any training, {facts.summary.weighting.svd}."
    )
    table = shown_table("spectrum", _tables.spectrum(facts))
    return [tag("p", words), pair(shown_figure(figures, "spectrum"), table)]


def _tradeoff(facts: Facts, figures: Figures) -> Child:
    if facts.path is None:
        return None
    words = f"Each point is one head of the path, measured on {facts.path.judged_on}."
    if facts.chosen is None:
        words += " This model is not one of the points."
    table = shown_table("tradeoff", _tables.tradeoff(facts))
    return [tag("p", words), shown_figure(figures, "tradeoff"), table]


def _caveats(caveats: tuple[Caveat, ...]) -> Child:
    found = [caveat for caveat in caveats if caveat.found]
    always = [shown_caveat(caveat) for caveat in caveats if not caveat.found]
    items = [shown_caveat(caveat, f"caveat-{i}") for i, caveat in enumerate(found, start=1)]
    about = [tag("h3", "About this model and these rows"), tag("ul", items, class_="caveats")]
    any_such = [tag("h3", "About any such report"), tag("ul", always, class_="caveats")]
    return [about if found else None, any_such]


def _made(facts: Facts) -> Child:
    default = [
        f"{name}={text}" for name, (text, changed) in facts.parameters.items() if not changed
    ]
    words = tag("p", f"At their defaults: {', '.join(default)}.", class_="quiet")
    table = _tables.parameters(facts)
    given = shown_table("parameters", table) if table.rows else None
    return pair([given, words], shown_table("versions", _tables.versions(facts)))
