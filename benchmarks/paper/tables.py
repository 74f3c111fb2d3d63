"""Tables of each experiment, as Markdown: means ± standard deviations and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from .labels import DIGITS, MEASURES, bias_of, task_label
from .neutralization import FORMS, METHOD, REFERENCES, Form
from .paired import by_seed, difference, pick, ratio
from .tasks import INTENSITIES, PENALTIES
from .verdicts import PRE_TRAINED, TABLE_2, signed, text

_PARTS = ("train", "val", "test")
_UNTIL = {True: "yes", False: "no"}


def mean_std(values: pd.Series, digits: int) -> str:
    """Return "mean ± standard deviation", or the mean of one value."""
    values = values.dropna().astype(float)
    if not len(values):
        return "-"
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std():.{digits}f}"


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table."""
    header = list(header)
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def folded(summary: str, body: str) -> str:
    """Return a part that opens when it is asked for."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def by_task(frame: pd.DataFrame, table: Callable[[pd.DataFrame], str]) -> str:
    """Return a folded table for each task."""
    return "\n\n".join(
        folded(task_label(task), table(pick(frame, task=task)))
        for task in dict.fromkeys(frame["task"])
    )


def measures(part: pd.DataFrame) -> list[str]:
    """Return the cells of Err, ΔDP and ΔEO."""
    return [mean_std(part[column], DIGITS[column]) for column in MEASURES]


def grouped(
    frame: pd.DataFrame,
    keys: dict[str, tuple[str, Callable[[Any], str]]],
    more: dict[str, Callable[[pd.DataFrame], str]] | None = None,
) -> str:
    """Return a table of the measures by some columns.

    Parameters
    ----------
    frame : DataFrame
        Rows.
    keys : dict
        Column -> its header and how a value of it is shown.
    more : dict, optional
        Header -> function of a group's rows, for columns behind the measures.
    """
    more = more or {}
    rows = []
    for values, part in frame.groupby(list(keys), sort=False, dropna=False):
        shown = [show(value) for (_, show), value in zip(keys.values(), values, strict=True)]
        rows.append([*shown, *measures(part), *(function(part) for function in more.values())])
    return markdown([*(header for header, _ in keys.values()), *MEASURES.values(), *more], rows)


def plain(value: Any) -> str:
    """Return a setting as text; a missing one is empty."""
    if value is None or pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mean(column: str, form: str) -> Callable[[pd.DataFrame], str]:
    def show(part: pd.DataFrame) -> str:
        values = part[column].dropna()
        return form.format(values.mean()) if len(values) else ""

    return show


SYSTEM, RANK = ("system", str), ("rank", plain)
PARAMETERS = {"parameters": _mean("parameters", "{:,.0f}")}


def datasets(frame: pd.DataFrame) -> str:
    """Table 1."""
    rows = []
    for task in dict.fromkeys(frame["task"]):
        part = pick(frame, task=task)
        test = pick(part, system="test")
        least = pd.Series([min(min(group) for group in counts) for counts in test["counts"]])
        rows.append(
            [
                task_label(task),
                f"{test['features'].iloc[0]:.0f}",
                *(f"{pick(part, system=p)['rows'].mean():,.0f}" for p in _PARTS),
                mean_std(test["label DDP"], 3),
                f"{least.mean():.0f}",
            ]
        )
    sizes = ["training", "validation", "test"]
    return markdown(["task", "features", *sizes, "ΔDP of the labels", "least cell"], rows)


def representations(frame: pd.DataFrame) -> str:
    """Figure 1."""
    probes = {
        "probe of all rows": "all test rows",
        "probe": "predicted positive",
        "probe of two components": "the same, two components",
    }
    rows = []
    for task in dict.fromkeys(frame["task"]):
        part = pick(frame, task=task)
        name = "f_B" if task == "adult" else task.split(", ")[1]
        rows.append([name, *(mean_std(part[probe], 3) for probe in probes), *measures(part)])
    return markdown(["pre-trained network", *probes.values(), *MEASURES.values()], rows)


def fisher_by_group(frame: pd.DataFrame) -> str:
    """Figure 3."""
    rows = []
    for (task, at), part in frame.groupby(["task", "system"], sort=False):
        true, chance = pick(part, groups="true"), pick(part, groups="shuffled")
        cells = [mean_std(true["cosine"], 3), mean_std(chance["cosine"], 4)]
        cells += [mean_std(true["rank correlation"], 3), mean_std(true["ratio"], 2)]
        rows.append([task_label(task), at, *cells])
    header = ["task", "head", "cosine", "of shuffled groups", "rank correlation"]
    return markdown([*header, "second group's size / first's"], rows)


def comparison(frame: pd.DataFrame) -> str:
    """Figure 4."""
    more = PARAMETERS | {"cosine of the groups": _mean("cosine", "{:.3f}")}
    return grouped(frame, {"task": ("task", task_label), "system": SYSTEM}, more)


def fair_pretraining(frame: pd.DataFrame) -> str:
    """Table 2."""
    rows = []
    for kind in PENALTIES:
        bias = bias_of(kind)
        for i in (None, *INTENSITIES):
            part = pick(frame, task="adult" if i is None else f"adult, f_F {kind} {i}")
            if not len(part):
                continue
            cells = []
            for system in ("pre-trained", "TL", "paper"):
                some = pick(part, system=system)
                cells += [mean_std(some["Err"], 2), mean_std(some[bias], 3)]
            published = f"{PRE_TRAINED['Err']:.2f}, {PRE_TRAINED[bias]:.3f}"
            if i is not None:
                before, after = (f"{e:.2f}, {b:.3f}" for e, b in TABLE_2[kind, i])
                published = f"{before} → {after}"
            rows.append([MEASURES[bias], plain(i) or "f_B", *cells, published])
    systems = ("pre-trained", "TL", "paper's method")
    header = [f"{system}: {x}" for system in systems for x in ("Err", "bias")]
    return markdown(["bias", "intensity", *header, "paper's figures"], rows)


def against_penalties(frame: pd.DataFrame) -> str:
    """Table 3."""
    keys = {"system": SYSTEM, "intensity": ("intensity", plain)}
    return by_task(frame, lambda part: grouped(part, keys, PARAMETERS))


def group_weights(frame: pd.DataFrame) -> str:
    """Return the table of the ablation."""
    keys = {
        "trained": ("trained", _UNTIL.get),
        "system": SYSTEM,
        "group_weight": ("weight", plain),
    }
    return by_task(frame, lambda part: grouped(part, keys))


def ranks(frame: pd.DataFrame) -> str:
    """Return the tables of the rank sweep."""

    def table(part: pd.DataFrame) -> str:
        full = by_seed(part, "seconds", system="TL")
        base = pick(part, system="TL")["parameters"].mean()
        rows = []
        for (system, rank), some in part.groupby(
            ["system", "rank_asked"], sort=False, dropna=False
        ):
            times = ratio(some.set_index("seed")["seconds"], full)
            parameters = some["parameters"].mean()
            seconds = f"{times.mean:.2f} ({times.low:.2f} to {times.high:.2f})"
            saved = 100 * (1 - parameters / base)
            cells = [f"{parameters:,.0f}", f"{saved:.0f} %", "1" if system == "TL" else seconds]
            rows.append([system, plain(rank), *cells, *measures(some)])
        header = ["system", "rank", "parameters", "saved", "seconds / TL's"]
        return markdown([*header, *MEASURES.values()], rows)

    return by_task(frame, table)


def where_rank_bites(frame: pd.DataFrame) -> str:
    """Return the tables of several classes and groups."""
    keys = {"trained": ("trained", _UNTIL.get), "rank_asked": RANK, "system": SYSTEM}
    gap = {"accuracy gap": lambda some: mean_std(some["gap"], 1)}

    def table(part: pd.DataFrame) -> str:
        order = ["trained", "rank_asked"]
        return grouped(part.sort_values(order, kind="stable", na_position="first"), keys, gap)

    return by_task(frame, table)


def few_shot(frame: pd.DataFrame) -> str:
    """Return the tables of few training rows."""
    keys = {"rows": ("rows", plain), "system": SYSTEM, "rank_asked": RANK}
    return by_task(frame, lambda part: grouped(part, keys))


def training_budget(frame: pd.DataFrame) -> str:
    """Return the tables of epochs, of our training and of the paper's as it is written."""
    written = FORMS["as written"]
    there = (frame["system"] == written.system).any()
    ours = by_epochs(frame, METHOD)
    return f"{ours}\n\nAs written:\n\n{by_epochs(frame, written)}" if there else ours


def other_reading(frame: pd.DataFrame) -> str:
    """Return the table of the method with importance from heads of each group."""
    distinct = frame.groupby(["task", "seed", "max_epochs"], dropna=False)[[*MEASURES]].nunique()
    differ = (distinct > 1).any(axis=1).groupby("task").any()
    same = [task for task in dict.fromkeys(frame["task"]) if not differ[task]]
    parts = []
    if same:
        named = "; ".join(map(task_label, same))
        parts += [f"The same measures in all systems, seed by seed, before and after: {named}."]
    if differ.any():
        others = frame[~frame["task"].isin(same)]
        parts += [by_epochs(others, FORMS["heads by group"])]
    return "\n\n".join(parts)


def by_epochs(frame: pd.DataFrame, form: Form) -> str:
    """Return TL by epochs, and a form of the method minus each of its references."""
    rows = []
    for task in dict.fromkeys(frame["task"]):
        part = pick(frame, task=task)
        for epochs in pick(part, system=form.system)["max_epochs"].unique():
            some = pick(part, max_epochs=None if pd.isna(epochs) else epochs)
            cells = []
            for reference in REFERENCES:
                for column in MEASURES:
                    systems = (form.system, reference + form.suffix)
                    a, b = (by_seed(some, column, system=s) for s in systems)
                    found = difference(a, b)
                    bold = "**" if found.below or found.above else ""
                    cells.append(f"{bold}{signed(found.mean, DIGITS[column])}{bold}")
            until = "converged" if pd.isna(epochs) else f"{epochs:.0f}"
            tl = pick(some, system=f"TL{form.suffix}")
            rows.append([task_label(task), until, *measures(tl), *cells])
    header = ["task", "epochs", *(f"TL: {m}" for m in MEASURES.values())]
    header += [f"minus {r}: {m}" for r in REFERENCES for m in MEASURES.values()]
    return markdown(header, rows)


def fisher_choices(frame: pd.DataFrame) -> str:
    """Return the table of kinds of Fisher information."""
    rows = []
    ours = pick(frame, system="paper")
    for (task, at, kind), part in ours.groupby(["task", "at", "fisher"], sort=False):
        before = pick(part, trained=False)
        cells = [mean_std(before[c], 3) for c in ("cosine", "cosine with empirical")]
        for trained in (False, True):
            some = pick(part, trained=trained)
            reference = pick(frame, task=task, system="f+SVD", trained=trained)
            for column in ("Err", "DDP"):
                found = difference(by_seed(some, column), by_seed(reference, column))
                cells.append(text(found, DIGITS[column]))
        rows.append([task_label(task), at, kind, *cells])
    header = ["task", "layer", "Fisher", "cosine of the groups", "cosine with empirical"]
    header += [f"{when}: {m}" for when in ("untrained", "trained") for m in ("Err", "ΔDP")]
    return markdown(header, rows)


TABLES: dict[str, Callable[[pd.DataFrame], str]] = {
    "table1": datasets,
    "figure1": representations,
    "figure3": fisher_by_group,
    "figure4": comparison,
    "table2": fair_pretraining,
    "table3": against_penalties,
    "weights": group_weights,
    "ranks": ranks,
    "many": where_rank_bites,
    "few": few_shot,
    "budget": training_budget,
    "reading": other_reading,
    "fisher": fisher_choices,
}
