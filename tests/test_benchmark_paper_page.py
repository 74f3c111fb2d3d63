"""The page of the paper's rerun is short; its numbers and its advice are those of the rows."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from paper import follows, labels, sections, store, tasks, titles
from paper.experiments import EXPERIMENTS
from paper.page import SHOWN
from paper.results import results

DOCS = Path(__file__).resolve().parents[1] / "docs"
SEEDS = np.arange(10)
WHY = "Because."


@pytest.fixture(scope="module")
def stored():
    return store.read(DOCS / f"{titles.NAME}.json")[0]


def read(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def parts_of(text):
    """Return the text below each heading of the second order."""
    found = re.split(r"^## (.+)$", text, flags=re.M)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


class TestThePage:
    def test_is_read_in_minutes_and_has_few_figures(self):
        text = read(titles.NAME)
        assert len(text.split()) <= 2500
        shown = re.findall(r"\(images/reproduction/(\w+)\.svg\)", text)
        assert shown == list(SHOWN)
        assert len(shown) <= 6

    def test_its_sections_lead_to_their_tables(self):
        text, tables = (parts_of(read(name)) for name in (titles.NAME, titles.TABLES_NAME))
        for name in sections.SECTIONS:
            title = EXPERIMENTS[name].title
            assert titles.linked("Claims and tables", title) in text[title]
            assert title in tables
        # What goes beyond the paper is one section, with a link to each of its experiments.
        for name in EXPERIMENTS.keys() - sections.SECTIONS.keys() - {"reading"}:
            assert (
                f"(reproduction_tables.md#{titles.anchor(EXPERIMENTS[name].title)})"
                in (text["Beyond the paper"])
            )

    def test_has_every_section_and_all_advice(self, stored):
        text = read(titles.NAME)
        for name, section in sections.SECTIONS.items():
            assert f"## {EXPERIMENTS[name].title}\n" in text
            assert section(stored, "").split(". ")[0] in text
        assert text.count("\n- **") == len(follows.FOLLOWS)


def measured(frame, measure, **where):
    """Return a measure by seed, with pandas alone."""
    rows = frame.query(" and ".join(f"`{key}` == @where['{key}']" for key in where))
    return rows.sort_values("seed")[measure].to_numpy()


def surely(a, b, side):
    low, high = stats.ttest_rel(a, b).confidence_interval(0.95)
    return low > 0 if side == "more" else high < 0


class TestNumbers:
    """Each beside a slow computation from the stored rows."""

    def test_of_figure_4(self, stored):
        rows = stored[stored["experiment"] == "figure4"]
        values = rows.groupby(["task", "seed"])[["Err", "DDP", "DEO"]].nunique().max(axis=1)
        same = (values.groupby("task").max() == 1).sum()
        said = sections.comparison(stored, WHY)
        assert said.startswith(f"On {same} of {rows['task'].nunique()} tasks TL, f+SVD and the")
        lower = higher = most = 0
        for task in values[values > 1].index.unique("task"):
            for measure in ("Err", "DDP", "DEO"):
                for other in ("TL", "f+SVD"):
                    a, b = (measured(rows, measure, task=task, system=s) for s in ("paper", other))
                    lower, higher = lower + surely(a, b, "less"), higher + surely(a, b, "more")
                    most = max(most, abs((a - b).mean())) if measure == "Err" else most
        assert f"at most {most:.2f} in Err" in said
        assert f"{lower} are surely lower, and {higher} surely higher" in said

    def test_of_table_2(self, stored):
        rows = stored[stored["experiment"] == "table2"]
        rises, still = [], 0
        for kind, measure in (("DP", "DDP"), ("EO", "DEO")):
            for i in tasks.INTENSITIES:
                before, after, ours = (
                    measured(rows, measure, task=f"adult, f_F {kind} {i}", system=system)
                    for system in ("pre-trained", "TL", "paper")
                )
                rises.append((after - before).mean())
                still += (ours == after).all()
        said = sections.fair_pretraining(stored, WHY)
        assert f"surely in 6, by {min(rises):.3f} to {max(rises):.3f}" in said
        assert f"seed by seed, in {still} of {len(rises)}" in said
        means = rows[(rows["task"] == "adult, f_F EO 0.9") & (rows["system"] == "pre-trained")]
        assert said.count(f" → {means['DEO'].mean():.3f} at Err") == 1

    def test_of_table_3(self, stored):
        rows = stored[(stored["experiment"] == "table3") & (stored["task"] == "adult")]
        less = more = 0
        for where in ("", "whole network, "):
            for kind, measure in (("DP", "DDP"), ("EO", "DEO")):
                for i in tasks.INTENSITIES:
                    ours, theirs = (
                        [measured(rows, m, **which) for m in ("Err", measure)]
                        for which in (
                            {"system": "paper"},
                            {"system": f"{where}Retrain+{kind}", "intensity": i},
                        )
                    )
                    less += surely(ours[0], theirs[0], "less")
                    more += surely(ours[1], theirs[1], "more")
        said = sections.against_penalties(stored, WHY)
        assert f"surely less error than {less} of 12 Retrain systems" in said
        assert f"each is for than {more}." in said

    def test_of_ranks(self, stored):
        rows = stored[stored["experiment"] == "ranks"]
        said = sections.ranks(stored, WHY)
        faster = 0
        for task in rows["task"].unique():
            full = measured(rows, "parameters", task=task, system="TL").mean()
            low = measured(rows, "parameters", task=task, system="paper", rank_asked=1.0).mean()
            row = (
                f"| {labels.task_label(task)} | {full:,.0f} | 1 | {100 - 100 * low / full:.1f} % |"
            )
            assert row in said
            a, b = (
                np.log(measured(rows, "seconds", task=task, **which))
                for which in ({"system": "paper", "rank_asked": 1.0}, {"system": "TL"})
            )
            faster += surely(a, b, "less")
        assert f"surely less time than TL's on {faster} of 4 layers" in said

    def test_of_the_price_of_constraints(self, stored):
        part = stored[stored["experiment"].isin(["table3"])]
        tl = part[part["system"] == "TL"].groupby("task")["Err"].mean()
        held = part[part["constraint"].notna()]
        means = held.groupby(["task", "system", "constraint", "intensity"])["Err"].mean()
        prices = means - tl.reindex(means.index.get_level_values("task")).to_numpy()
        said = follows.constraint(results(part))
        assert f"{len(prices)} of {len(prices)} systems with a constraint" in said
        low, middle, high = (f"{prices.quantile(q):.2f}" for q in (0, 0.5, 1))
        assert f"{low} to {high} points more than TL and {middle} in the median" in said


def rows(experiment, task, system, seed=0, **values):
    """Rows of a system on ten seeds, with a little noise of its own."""
    rng = np.random.default_rng(seed)
    mean = {"Err": 15.0, "DDP": 0.2, "DEO": 0.2, "rank_asked": None} | values
    return [
        {"experiment": experiment, "task": task, "system": system, "seed": int(number)}
        | mean
        | {m: mean[m] + 1e-4 * rng.normal() for m in ("Err", "DDP", "DEO")}
        for number in SEEDS
    ]


def figure_4(seed=0, **ours):
    """The method beside two references that are one head; by default it is that head, too."""
    same = rows("figure4", "adult", "TL") + rows("figure4", "adult", "f+SVD")
    return same + rows("figure4", "adult", "paper", seed, rank_asked=1.0, **ours)


def table_2(after):
    found = []
    for kind in tasks.PENALTIES:
        for i in tasks.INTENSITIES:
            task = f"adult, f_F {kind} {i}"
            found += rows("table2", task, "pre-trained", 1, DDP=0.1, DEO=0.1)
            for system in ("TL", "paper"):
                found += rows("table2", task, system, 2, DDP=after, DEO=after, rank_asked=1.0)
    return found


def table_3(**retrained):
    found = rows("table3", "adult", "TL", 1) + rows("table3", "adult", "whole network, TL", 2)
    known = {"constraint": "demographic_parity", "intensity": max(tasks.INTENSITIES)}
    return found + rows("table3", "adult", "whole network, Retrain+DP", 3, **known, **retrained)


def sweep(parameters):
    costs = {"parameters": parameters, "seconds": 1.0, "rank_asked": 1.0}
    full = rows("ranks", "adult", "TL", 1, parameters=4290, seconds=1.0)
    return full + [
        row
        for seed, system in ((2, "f+SVD"), (3, "paper"))
        for row in rows("ranks", "adult", system, seed, **costs)
    ]


# Of each piece of advice: rows that bear it out, and rows that do not.
ADVICE = {
    "no_help": (figure_4(), figure_4(1, DDP=0.1)),
    "constraint": (table_3(DDP=0.1, Err=17.0), table_3()),
    "other_parity": (table_3(DDP=0.1, DEO=0.4), table_3(DDP=0.1, DEO=0.1)),
    "compression": (sweep(322), sweep(1000)),
    "one_optimum": (figure_4(), figure_4(1)),
    "early": (figure_4(1, DDP=0.1, Err=17.0), figure_4(1, DDP=0.1)),
    "measure_again": (table_2(0.2), table_2(0.05)),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice_is_given_where_the_rows_bear_it_out_alone(name):
    rule, (yes, no) = getattr(follows, name), ADVICE[name]
    assert rule in follows.FOLLOWS
    assert rule(results(pd.DataFrame(yes))).startswith("**")
    assert rule(results(pd.DataFrame(no))) == ""


def test_all_advice_is_tested():
    assert {rule.__name__ for rule in follows.FOLLOWS} == ADVICE.keys()


def test_nothing_is_said_of_what_was_not_run():
    frame = pd.DataFrame(rows("budget", "adult", "TL"))
    assert {name: said for name, s in sections.SECTIONS.items() if (said := s(frame, WHY))} == {}
    assert follows.follows(results(frame)) == ""
