"""The page of all tables of the rerun, and of all comparisons, one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from . import prose
from .experiments import EXPERIMENTS
from .labels import DIGITS, MEASURES, task_label
from .neutralization import EQUAL_ERR, LEAST
from .paired import pick
from .power import could_help, same_heads, sides, surely_worse, visible
from .results import OUTCOMES, Results, outcome_counts
from .tables import TABLES, folded, markdown
from .titles import FORMS, JUDGED, short_title
from .verdicts import REPRODUCED, Finding, signed


def tables_page(results: Results, about: dict[str, Any], pictures: Callable[[str], str]) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    results : Results
        What is to be said.
    about : dict
        What the rows ran on.
    pictures : callable
        Name of an experiment -> its figures as Markdown.
    """
    parts = [prose.HEAD_OF_TABLES, _measured(results.frame, about)]
    for name, table in TABLES.items():
        rows = pick(results.frame, experiment=name)
        if not len(rows):
            continue
        claims = "\n\n".join(_finding(each) for each in results.found if each.experiment == name)
        title = f"## {EXPERIMENTS[name].title}"
        parts += [title, claims, prose.INTROS[name], pictures(name), table(rows)]
    parts += [_regimes(results.outcomes, results.control)]
    parts += [_form(name, each) for name, each in results.forms.items()]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _measured(frame: pd.DataFrame, about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    extraction = about["extraction seconds"] / 60
    duration = f"The run took {about['seconds'] / 60:.0f} minutes, from features "
    duration += f"extracted in {extraction:.0f}." if extraction >= 1 else "extracted before."
    if "afterwards" in about:  # a run of its own for some of the rows
        duration += f"\n  {about['afterwards']}"
    return prose.MEASURED.format(
        seeds=frame["seed"].nunique(),
        cores=about["cores"],
        python=about["python"],
        versions=versions,
        duration=duration,
        fits=_fits(frame),
    )


def _fits(frame: pd.DataFrame) -> str:
    """Return how many fits ended unfinished, or predict one class."""
    fits = frame[frame["parameters"].notna() & frame["Err"].notna()]
    ended = fits["warnings"].map(lambda names: "ConvergenceWarning" in (names or []))
    constant = fits[(fits["DDP"] == 0) & (fits["DEO"] == 0)]
    where = ", ".join(
        f"{count} in “{short_title(name)}”"
        for name, count in constant.groupby("experiment", sort=False).size().items()
    )
    undefined = fits[["DDP", "DEO"]].isna().any(axis=1).sum()
    text = f"Of {len(fits):,} fits, {undefined or 'none'} had an undefined rate on test, "
    text += f"{ended.sum()} reached the limit of epochs, "
    text += f"and {len(constant)} give all groups the same rates, as a constant does"
    return f"{text}: {where}." if where else f"{text}."


def _finding(each: Finding) -> str:
    """Return a claim with the figures of both sides, its verdict and, unless it holds, why."""
    lines = [
        f"**{each.claim}** ({each.source}): **{each.verdict}**.",
        "",
        f"- Paper: {each.paper}.",
        f"- Here: {each.ours}.",
    ]
    if each.reason and each.verdict != REPRODUCED:
        lines.append(f"- {each.reason}")
    return "\n".join(lines)


def _power(outcomes: pd.DataFrame, control: pd.DataFrame) -> str:
    """Return what the comparisons could have shown."""
    could, same, worse = (of(outcomes) for of in (could_help, same_heads, surely_worse))
    return prose.POWER.format(
        n=len(outcomes),
        same=same.sum(),
        others=(~same).sum(),
        could=could.sum(),
        worse=worse.sum(),
        open=(~same & ~could & ~worse).sum(),
        error=EQUAL_ERR,
        visible=_visible(outcomes, could) if could.any() else "",
        control=_control(control) if len(control) else "",
        unadjusted="; ".join(_sides(outcomes, m) for m in LEAST),
    )


def _sides(outcomes: pd.DataFrame, measure: str) -> str:
    found = sides(outcomes, measure)
    return (
        f"{MEASURES[measure]} lower in {found.lower}, higher in {found.higher}, "
        f"by chance alone about {found.chance:.0f} each"
    )


def _visible(outcomes: pd.DataFrame, could: pd.Series) -> str:
    words: dict[str, object] = {"could": could.sum()}
    for measure, least in LEAST.items():
        sizes = visible(outcomes, measure)[could]
        words |= {
            measure: f"{sizes.median():.3f}",
            f"most_{measure}": f"{sizes.quantile(0.9):.3f}",
            f"least_{measure}": least,
            f"enough_{measure}": (sizes == least).sum(),
        }
    return prose.VISIBLE.format(**words)


def _control(control: pd.DataFrame) -> str:
    helped = [
        f"{row['system']} at intensity {row['intensity']:g} on {task_label(row['task'])}"
        for _, row in control[control["outcome"] == "helps"].iterrows()
    ]
    which = f" ({'; '.join(helped)})" if helped else ""
    counts = outcome_counts(control)
    less = sum(counts[key] for key in ("helps", "costs", "mixed"))
    equal = could_help(control).sum()
    return prose.CONTROL.format(n=len(control), less=less, equal=equal, which=which, **counts)


def _regimes(outcomes: pd.DataFrame, control: pd.DataFrame) -> str:
    """Return the section on where neutralization helps."""
    intro = f"## {JUDGED}\n\n{prose.HELP.format(**LEAST, error=EQUAL_ERR).strip()}"
    if not len(outcomes):
        return intro
    return "\n\n".join([intro, _judged(outcomes, _power(outcomes, control))])


def _form(name: str, outcomes: pd.DataFrame) -> str:
    """Return the section on another form of the method."""
    could = could_help(outcomes)
    could_have = prose.FORM_POWER.format(
        n=len(outcomes),
        same=same_heads(outcomes).sum(),
        could=could.sum(),
        worse=surely_worse(outcomes).sum(),
        error=EQUAL_ERR,
        visible=_visible(outcomes, could) if could.any() else "",
        unadjusted="; ".join(_sides(outcomes, m) for m in LEAST),
    )
    intro = f"### {FORMS[name]}\n\n{prose.FORMS[name].strip()}"
    return f"{intro}\n\n{_judged(outcomes, could_have)}"


def _judged(outcomes: pd.DataFrame, could_have: str) -> str:
    """Return the numbers of outcomes, what could have been shown, and all comparisons."""
    counts = markdown(
        ["experiment", "beside", *OUTCOMES.values()],
        (
            [short_title(name), reference, *(f"{(part['outcome'] == o).sum()}" for o in OUTCOMES)]
            for (name, reference), part in outcomes.groupby(["experiment", "reference"], sort=False)
        ),
    )
    order = outcomes["outcome"].map(list(OUTCOMES).index)
    listed = [
        _regime_row(row)
        for _, row in outcomes.loc[order.sort_values(kind="stable").index].iterrows()
    ]
    header = [
        "outcome",
        "beside",
        "regime",
        *(f"{m}: reference, difference" for m in MEASURES.values()),
    ]
    shown = [row for row in listed if row[0] != "no difference"]
    rest = [row for row in listed if row[0] == "no difference"]
    parts = [counts, could_have]
    if shown:
        parts += ['All that is not "no difference":', markdown(header, shown)]
    number = f"The {len(rest)} others" if shown else f"All {len(rest)}"
    parts.append(folded(number, markdown(header, rest)))
    return "\n\n".join(part.strip("\n") for part in parts)


def _regime_row(row: pd.Series) -> list[str]:
    cells = [
        f"{row[f'{m} reference']:.{digits}f}, {signed(row[f'{m} mean'], digits)} "
        f"({signed(row[f'{m} low'], digits)} to {signed(row[f'{m} high'], digits)})"
        for m, digits in DIGITS.items()
    ]
    return [OUTCOMES[row["outcome"]], row["reference"], _regime(row), *cells]


def _regime(row: pd.Series) -> str:
    """Return a regime in words."""
    words = [short_title(row["experiment"]), task_label(row["task"])]
    forms = {"rank_asked": "rank {:g}", "rows": "{:g} rows", "max_epochs": "epochs: {:g}"}
    words += [form.format(row[key]) for key, form in forms.items() if pd.notna(row.get(key))]
    if pd.notna(row.get("trained")):
        words.append("trained" if row["trained"] else "untrained")
    if pd.notna(row.get("fisher")):
        words.append(f"{row['fisher']} Fisher at the {row['at']} layer")
    return "; ".join(words)
