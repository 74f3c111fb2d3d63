"""docs/reproduction.md and its figures, from the rows of the runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from . import prose, store
from .claims import findings
from .experiments import EXPERIMENTS
from .figures import CAPTIONS, draw_all
from .labels import DIGITS, MEASURES, task_label
from .neutralization import EQUAL_ERR, FORMS, LEAST, compare, compare_constrained
from .paired import pick
from .power import could_help, same_heads, sides, surely_worse, visible
from .tables import TABLES, folded, markdown
from .verdicts import NOT, PARTLY, REPRODUCED, Finding, signed

NAME, FIGURES = "reproduction", "images/reproduction"
OUTCOMES = {
    "helps": "helps",
    "costs": "less bias, not equal Err",
    "mixed": "mixed",
    "hurts": "hurts",
    "no difference": "no difference",
}


def write_report(rows: list[dict[str, Any]], about: dict[str, Any], docs: Path) -> None:
    """Write reproduction.json, reproduction.md and the figures into a folder of documents.

    Parameters
    ----------
    rows, about
        Of `runs.read`; without rows, those of the reproduction.json that is there.
    docs : path
        The folder.
    """
    (docs / FIGURES).mkdir(parents=True, exist_ok=True)
    if rows:
        store.write(docs / f"{NAME}.json", rows, about)
    frame, about = store.read(docs / f"{NAME}.json")
    drawn = draw_all(frame, docs / FIGURES)
    (docs / f"{NAME}.md").write_text(render(frame, about, drawn), encoding="utf-8")
    print(f"Wrote {docs / NAME}.md, {NAME}.json and {len(drawn)} figures.")


def render(frame: pd.DataFrame, about: dict[str, Any], figures: Iterable[str]) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    frame : DataFrame
        Rows of `store.read`.
    about : dict
        What they ran on.
    figures : iterable of str
        Names of the figures that there are.
    """
    found, outcomes = findings(frame), compare(frame)
    forms = {name: compare(frame, form) for name, form in FORMS.items()}
    forms = {name: each for name, each in forms.items() if len(each)}
    parts = [prose.HEAD, _summary(found, outcomes, forms), _measured(frame, about)]
    for name, table in TABLES.items():
        rows = pick(frame, experiment=name)
        if not len(rows):
            continue
        pictures = "\n\n".join(
            f"![{caption}]({FIGURES}/{figure}.svg)"
            for figure, (experiment, caption) in CAPTIONS.items()
            if experiment == name and figure in set(figures)
        )
        claims = "\n\n".join(_finding(each) for each in found if each.experiment == name)
        title = f"## {EXPERIMENTS[name].title}"
        parts += [title, claims, prose.INTROS[name], pictures, table(rows)]
    parts += [_regimes(outcomes, compare_constrained(frame))]
    parts += [_form(name, each) for name, each in forms.items()]
    parts += [prose.FOOT]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _summary(found: list[Finding], outcomes: pd.DataFrame, forms: dict[str, pd.DataFrame]) -> str:
    """Return the verdicts in a sentence and a table."""
    verdicts = [each.verdict for each in found]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in (REPRODUCED, PARTLY, NOT))
    lines = [f"**Of {len(found)} claims: {counts}.**"]
    if len(outcomes):
        could = could_help(outcomes).sum()
        lines.append(prose.OUTCOMES.format(n=len(outcomes), could=could, **_counts(outcomes)))
    lines += [
        prose.FORM_IN_SHORT[name].format(n=len(each), **_counts(each)).rstrip()
        for name, each in forms.items()
    ]
    table = markdown(
        ["claim", "where", "verdict"],
        ([each.claim, each.source, f"**{each.verdict}**"] for each in found),
    )
    return "\n".join(lines) + f"\n\n{table}"


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
        f"{count} in “{_short_title(name)}”"
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


def _counts(outcomes: pd.DataFrame) -> dict[str, int]:
    """Return how many comparisons have each outcome, by names for a text."""
    return {key.replace(" ", "_"): (outcomes["outcome"] == key).sum() for key in OUTCOMES}


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
    counts = _counts(control)
    less = sum(counts[key] for key in ("helps", "costs", "mixed"))
    equal = could_help(control).sum()
    return prose.CONTROL.format(n=len(control), less=less, equal=equal, which=which, **counts)


def _regimes(outcomes: pd.DataFrame, control: pd.DataFrame) -> str:
    """Return the section on where neutralization helps."""
    intro = prose.HELP.format(**LEAST, error=EQUAL_ERR)
    if not len(outcomes):
        return intro
    return "\n\n".join([intro.strip("\n"), _judged(outcomes, _power(outcomes, control))])


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
    return f"{prose.FORMS[name].strip()}\n\n{_judged(outcomes, could_have)}"


def _judged(outcomes: pd.DataFrame, could_have: str) -> str:
    """Return the numbers of outcomes, what could have been shown, and all comparisons."""
    counts = markdown(
        ["experiment", "beside", *OUTCOMES.values()],
        (
            [_short_title(name), reference, *(f"{(part['outcome'] == o).sum()}" for o in OUTCOMES)]
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


def _short_title(name: str) -> str:
    title = EXPERIMENTS[name].title.split(": ")[-1]
    return title[0].upper() + title[1:]


def _regime(row: pd.Series) -> str:
    """Return a regime in words."""
    words = [_short_title(row["experiment"]), task_label(row["task"])]
    forms = {"rank_asked": "rank {:g}", "rows": "{:g} rows", "max_epochs": "epochs: {:g}"}
    words += [form.format(row[key]) for key, form in forms.items() if pd.notna(row.get(key))]
    if pd.notna(row.get("trained")):
        words.append("trained" if row["trained"] else "untrained")
    if pd.notna(row.get("fisher")):
        words.append(f"{row['fisher']} Fisher at the {row['at']} layer")
    return "; ".join(words)
