"""The page that a person reads: verdicts, what came out of each experiment, and what follows."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from . import prose
from .experiments import EXPERIMENTS
from .follows import follows
from .neutralization import EQUAL_ERR, LEAST
from .power import could_help, visible
from .results import OUTCOMES, Results, outcome_counts
from .sections import SECTIONS
from .tables import markdown
from .titles import FORMS, JUDGED, linked, short_title
from .verdicts import NOT, PARTLY, REPRODUCED

# Of all figures, those that the page has. The others are on the page of tables.
SHOWN = ("figure3", "figure4_paired", "table2", "table3", "ranks", "budget")


def page(results: Results, pictures: Callable[[str], str]) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    results : Results
        What is to be said.
    pictures : callable
        Name of an experiment -> its figures on this page, as Markdown.
    """
    parts = [prose.HEAD, _summary(results), prose.WORDS.format(seeds=_seeds(results))]
    told: list[str] = []  # a reason is given once
    for name, section in SECTIONS.items():
        why = [
            each.reason
            for each in results.found
            if each.experiment == name and each.reason not in ("", *told)
            if each.verdict != REPRODUCED
        ][:1]
        if said := section(results.frame, "".join(why)).strip():
            told += why
            title = EXPERIMENTS[name].title
            parts += [f"## {title}", f"{said} {linked('Claims and tables', title)}."]
            parts += [pictures(name)]
    if len(results.outcomes):
        parts += ["## Beyond the paper", _beyond(results), pictures("budget")]
    if said := follows(results):
        parts += ["## What follows", said]
    parts += [prose.FOOT]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _seeds(results: Results) -> int:
    return results.frame["seed"].nunique()


def _summary(results: Results) -> str:
    """Return the verdicts in a sentence and a table."""
    verdicts = [each.verdict for each in results.found]
    said = ", ".join(f"{verdicts.count(v)} {v}" for v in (REPRODUCED, PARTLY, NOT))
    lines = [f"**Of {len(verdicts)} claims: {said}.**"]
    if len(outcomes := results.outcomes):
        could = could_help(outcomes).sum()
        where = linked("where, what counts as help, what would have been seen", JUDGED)
        counts = outcome_counts(outcomes) | {"could": could, "seeds": _seeds(results)}
        said = prose.OUTCOMES.format(n=len(outcomes), **counts)
        lines.append(f"{said} ({where}).")
    table = markdown(
        ["claim", "verdict", "where"],
        (
            [
                each.claim,
                linked(f"**{each.verdict}**", EXPERIMENTS[each.experiment].title),
                each.source,
            ]
            for each in results.found
        ),
    )
    return "\n".join(lines) + f"\n\n{table}"


def _beyond(results: Results) -> str:
    """Return where the method was compared, how often it helped, and what would have been seen."""
    outcomes, forms = results.outcomes, results.forms
    parts = {
        linked(short_title(name), EXPERIMENTS[name].title): part
        for name, part in outcomes.groupby("experiment", sort=False)
    }
    parts[linked("all of these", JUDGED)] = outcomes
    parts |= {linked(FORMS[name], FORMS[name]): each for name, each in forms.items()}
    happened = {*pd.concat(parts.values())["outcome"]}
    shown = [key for key in OUTCOMES if key == "helps" or key in happened]
    table = markdown(
        ["what was run", "comparisons", "could have helped", *(OUTCOMES[key] for key in shown)],
        ([name, f"{len(part)}", *_cells(part, shown)] for name, part in parts.items()),
    )
    seen = [prose.BEYOND_SEEN.format(seeds=_seeds(results))]
    if (could := could_help(outcomes)).any():
        sizes = {m: f"{visible(outcomes, m)[could].median():.3f}" for m in LEAST}
        seen.append(prose.BEYOND_VISIBLE.format(could=could.sum(), **sizes))
    intro = prose.BEYOND.format(**LEAST, error=EQUAL_ERR)
    return "\n\n".join([intro.strip(), table, " ".join(" ".join(seen).split())])


def _cells(part: pd.DataFrame, shown: list[str]) -> list[str]:
    counts = [could_help(part).sum(), *((part["outcome"] == key).sum() for key in shown)]
    return [f"{count}" for count in counts]
