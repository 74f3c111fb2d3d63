"""The report as a model card of skops, under the headings of model cards in common use.

Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), name the sections; what only the
authors of a model can say is a line to be filled in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..inputs.unseen import escaped
from ..inputs.words import did_you_mean, group_name, named, one_line, shown
from ..metrics.tables import Table, pipe_table
from . import _tables
from ._caveat import Caveat
from ._caveats import find_caveats
from ._facts import Facts
from ._figures import draw, have_matplotlib
from ._words import RATES_ARE, calibration_is, distances_are, markdown, positive_class, predicting

__all__ = ["card"]

_TO_FILL = {
    "developers": "who made the model, and when.",
    "license": "the licence of the model and of the backbone's weights.",
    "contact": "where questions and objections go.",
    "intended_use": "what the model is for, and who is to use it.",
    "out_of_scope": "what the model must not be used for.",
    "evaluation_data": "where these rows come from, how they were chosen, and why these.",
    "training_data": "where the rows of the fit, and those of the backbone, come from.",
    "ethics": "who is affected, who was asked, what harm was thought of, and what was done.",
    "get_started": "where the fitted model is kept, and how it is loaded.",
    "citation": "how to cite the model.",
}

# Under which analysis each figure stands.
_FIGURES = {
    "rates": "Rates by group",
    "importance": "Importance of features",
    "spectrum": "Spectrum and rank",
    "tradeoff": "Trade-off",
}

# Caveats that belong to the ethical considerations.
_ETHICAL = ("The group is inferred", "The group is used", "Labels", "Decisions")


def card(
    facts: Facts, figures: str | os.PathLike[str] | None, filled: dict[str, str | None]
) -> Any:
    """Return the card; ``figures`` is a folder, ``filled`` Markdown by the keys of ``_TO_FILL``."""
    for name, text in filled.items():
        if name not in _TO_FILL:
            raise TypeError(
                f"The card has no line {name!r}.{did_you_mean(name, _TO_FILL)} Its lines are "
                f"{sorted(_TO_FILL)}; add other sections with card.add."
            )
        if not isinstance(text, str | None):
            raise TypeError(
                f"{name}={shown(text)}; expected Markdown, a str, or None to leave the line open."
            )
    try:
        from ._pictured import PicturedCard
    except ImportError as error:
        raise ImportError(
            "A model card needs skops, which is not installed: pip install 'skfairft[card]'."
        ) from error
    made = PicturedCard(None, model_diagram=False, template=_sections(facts, filled))
    if figures is not None:
        _add_figures(made, facts, Path(figures))
    return made


def _sections(facts: Facts, filled: dict[str, str | None]) -> dict[str, str]:
    """Return the text of each section by its heading; a slash leads to a subsection."""
    ask = {name: f"To be filled in: {what}" for name, what in _TO_FILL.items()}
    # Markdown of the author's own: its lines and tabs mean something, and so do its backslashes.
    ask |= {name: escaped(text, keep="\n\t") for name, text in filled.items() if text is not None}
    summary, caveats = facts.summary, find_caveats(facts)
    compared = ", ".join(map(group_name, facts.fairness.by_group.index.tolist()))
    columns = ", ".join(map(one_line, facts.fairness.by_group.index.names))
    said = "\n".join(f"- {name}: {markdown(text)}" for name, text in summary.lines())
    calibrated = _tables.calibration(facts), _tables.cells(facts)
    parameters, tradeoff = _tables.parameters(facts), _tables.tradeoff(facts)
    sides = _tables.by_column(facts)
    return {
        "Model details": markdown(facts.heading)
        + (f", {markdown(one_line(facts.date))}" if facts.date else ""),
        "Model details/Description": said,
        "Model details/Parameters": _table(parameters)
        if parameters.rows
        else "All at their defaults.",
        "Model details/Versions": _table(_tables.versions(facts)),
        "Model details/Developers": ask["developers"],
        "Model details/License": ask["license"],
        "Model details/Contact": ask["contact"],
        "Model details/Citation": ask["citation"],
        "Intended use": "",
        "Intended use/Primary uses": ask["intended_use"],
        "Intended use/Out-of-scope uses": ask["out_of_scope"],
        "Factors": f"Groups by {markdown(columns)}: {markdown(compared)}. "
        f"Only these were compared. {predicting(facts)}",
        "Metrics": "The error is 100 - weighted F1, in percent. "
        f"{RATES_ARE} {distances_are(facts)}",
        "Evaluation data": f"{ask['evaluation_data']}\n\n{_table(_tables.counts(facts))}",
        "Training data": f"{ask['training_data']}\n\n{_of_the_fit(facts)}",
        "Quantitative analyses": markdown(positive_class(facts)),
        "Quantitative analyses/Error and distances": _table(_tables.distances(facts)),
        **({} if sides is None else {"Quantitative analyses/Column by column": _table(sides)}),
        "Quantitative analyses/Rates by group": _table(_tables.rates(facts)),
        "Quantitative analyses/Between groups": _table(_tables.compared(facts)),
        "Quantitative analyses/Calibration by group": "\n\n".join(
            [calibration_is(facts), *(_table(each) for each in calibrated if each is not None)]
        ),
        "Quantitative analyses/Importance of features": _table(_tables.importance(facts)),
        "Quantitative analyses/Spectrum and rank": _table(_tables.spectrum(facts)),
        **({} if tradeoff is None else {"Quantitative analyses/Trade-off": _table(tradeoff)}),
        "Ethical considerations": ask["ethics"]
        + "\n\n"
        + _list(each for each in caveats if each.topic in _ETHICAL),
        "Caveats and recommendations": _list(
            each for each in caveats if each.topic not in _ETHICAL
        ),
        "How to get started": ask["get_started"],
    }


def _of_the_fit(facts: Facts) -> str:
    summary = facts.summary
    classes = f"Classes of the fit: {markdown(named(summary.classes or ()))}."
    if not summary.groups_given:
        return f"{classes} No groups were given to it."
    known = summary.describe_known() if summary.rows_with_group else ""
    more = f" {known[0].upper()}{known[1:]}." if known else ""
    return f"{classes} Groups: {markdown(named(summary.groups or ()))}.{more}"


def _list(caveats: Iterable[Caveat]) -> str:
    lines = []
    for each in caveats:
        lines.append(f"- **{markdown(each.topic)}.** {markdown(each.text)}")
        lines += [f"  - {markdown(detail)}" for detail in each.details]
    return "\n".join(lines)


def _table(table: Table) -> str:
    """Return a caption and a pipe table."""
    return f"{markdown(table.caption)}\n\n{pipe_table(table, markdown)}"


def _add_figures(made: Any, facts: Facts, folder: Path) -> None:
    """Write the figures, each under a name that no other picture has, and show them in the card."""
    if not have_matplotlib():
        raise ImportError(
            "The card's figures need matplotlib, which is not installed: pip install "
            "'skfairft[plots]', or leave figures=None."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for key, figure in draw(facts, "png").items():
        # In a folder that several cards share, none must show, or replace, another's picture.
        file = folder / f"{key}-{sha256(figure.data).hexdigest()[:12]}.png"
        file.write_bytes(figure.data)
        section = f"Quantitative analyses/{_FIGURES[key]}/Figure"
        made.add_picture(section, file, figure.caption, figure.alt)
