"""What came out of each experiment, in a paragraph of the page: numbers of the rows, no others.

Each is a function of all rows, and of why a claim does not hold, to a paragraph. It is empty where
the rows that it speaks of were not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from .claims import chosen_weights
from .labels import DIGITS, MEASURES, SYMBOLS, bias_of, task_label
from .neutralization import REFERENCES
from .paired import Interval, by_seed, difference, pick, ratio
from .tables import markdown, mean_std
from .tasks import INTENSITIES, PENALTIES
from .verdicts import PAPERS_TASKS, TABLE_1, TABLE_2, text

_PARTS = ("train", "val", "test")
WHOLE = "whole network, "


def datasets(frame: pd.DataFrame, why: str) -> str:
    """Table 1."""
    rows = pick(frame, experiment="table1")
    named = {name: task for name, task in PAPERS_TASKS.items() if (rows["task"] == task).any()}
    if not named:
        return ""
    sizes = [
        f"{name} {sum(by_seed(rows, 'rows', task=task, system=p).mean() for p in _PARTS):,.0f} and "
        f"{sum(TABLE_1[name]):,}"
        for name, task in named.items()
    ]
    test = pick(rows, system="test")
    distances = test.groupby("task")["label DDP"].mean()
    least = test["counts"].map(lambda counts: min(map(min, counts))).groupby(test["task"]).mean()
    return (
        f"Rows here, and the sum in the paper: {'; '.join(sizes)}. The labels themselves differ "
        f"between the groups, by a ΔDP of {_range(distances, 3)}. Of the rarest combination of "
        f"label and group {_range(least, 0)} rows are in test, which makes its rates coarse. {why}"
    )


def representations(frame: pd.DataFrame, why: str) -> str:
    """Figure 1."""
    rows = pick(frame, experiment="figure1")
    if not len(rows):
        return ""
    probes = rows.groupby("task")["probe"]
    means = probes.mean()
    fair = means.drop("adult", errors="ignore")
    if "adult" not in means or not len(fair):
        return ""
    biased = mean_std(probes.get_group("adult"), 3)
    return (
        "The AUC with which a linear probe tells women from men among the rows predicted as "
        f"positive (0.5: not at all) is {biased} in f_B, the network pre-trained without a "
        f"penalty, and {_range(fair, 3)} in the {len(fair)} fair ones, f_F. It is lower than in "
        f"f_B in {(fair < means['adult']).sum()} of these. {why}"
    )


def fisher_by_group(frame: pd.DataFrame, why: str) -> str:
    """Figure 3."""
    rows = pick(frame, experiment="figure3")
    if not len(rows):
        return ""
    adult = pick(rows, task="adult", system="pre-trained")
    fitted = pick(rows, system="fitted", groups="true").groupby("task")["cosine"].mean()
    if not len(adult) or not len(fitted):
        return ""
    true, chance = (pick(adult, groups=of)["cosine"] for of in ("true", "shuffled"))
    return (
        "The cosine between the two groups' importances is 1 where they are parallel. On Adult's "
        f"pre-trained layer it is {mean_std(true, 3)}; of random groups of these sizes "
        f"{mean_std(chance, 4)}. {why} At the fitted heads of all {len(fitted)} tasks it is "
        f"{_range(fitted, 3)}, the least on {task_label(fitted.idxmin())}."
    )


def comparison(frame: pd.DataFrame, why: str) -> str:
    """Figure 4."""
    rows = pick(frame, experiment="figure4")
    same, others = same_and_others(rows)
    if not len(rows):
        return ""
    papers = [name for name, task in PAPERS_TASKS.items() if task in same]
    among = f", {_and(papers)} of the paper among them" if papers else ""
    said = (
        f"On {len(same)} of {len(same) + len(others)} tasks TL, f+SVD and the method have the same "
        f"Err, ΔDP and ΔEO in every seed{among}."
    )
    if not others:
        return f"{said} {why}"
    found = {
        m: [each for task in others for each in _beside(pick(rows, task=task), m)] for m in MEASURES
    }
    most = [
        f"{max(abs(each.mean) for each in each_of):.{DIGITS[m]}f} in {SYMBOLS[m]}"
        for m, each_of in found.items()
    ]
    all_of = [each for each_of in found.values() for each in each_of]
    return (
        f"{said} {why} On the other {len(others)} the method differs from either by at most "
        f"{_and(most)}, means over the seeds; of {len(all_of)} differences "
        f"{sum(each.below for each in all_of)} are surely lower, and "
        f"{sum(each.above for each in all_of)} surely higher."
    )


def fair_pretraining(frame: pd.DataFrame, why: str) -> str:
    """Table 2."""
    rows = pick(frame, experiment="table2")
    ladders = []
    for kind in PENALTIES:
        tasks = ["adult", *(f"adult, f_F {kind} {i}" for i in INTENSITIES)]
        means = pick(rows, system="pre-trained").groupby("task")[["Err", bias_of(kind)]].mean()
        if {*tasks} <= {*means.index}:
            shown = {
                m: " → ".join(f"{x:.{DIGITS[m]}f}" for x in means.loc[tasks, m]) for m in means
            }
            ladders.append(f"{SYMBOLS[bias_of(kind)]} {shown[bias_of(kind)]} at Err {shown['Err']}")
    found = returns(rows)
    if not ladders or not found:
        return ""
    papers = [after[1] - before[1] for before, after in TABLE_2.values()]
    surely = sum(each.above for each, _ in found.values())
    still = sum(each.mean == each.low == each.high == 0 for _, each in found.values())
    return (
        f"Without a penalty in pre-training, and with one of {_and([*map(str, INTENSITIES)])}, the "
        f"network itself has {', and '.join(ladders)}. After TL the bias is higher in "
        f"{sum(each.mean > 0 for each, _ in found.values())} of {len(found)} fair networks, surely "
        f"in {surely}, by {_range([each.mean for each, _ in found.values()], 3)} (in the paper by "
        f"{_range(papers, 3)}). After the method it is that of TL, seed by seed, in {still} of "
        f"{len(found)}. {why}"
    )


def against_penalties(frame: pd.DataFrame, why: str) -> str:
    """Table 3."""
    rows = pick(frame, experiment="table3", task="adult")
    trained, most = pick(rows, system="TL"), max(INTENSITIES)
    head, whole = (pick(rows, system=f"{where}Retrain+DP", intensity=most) for where in ("", WHOLE))
    ours = rows[rows["system"].str.startswith("ours DP")]
    if not all(map(len, (trained, head, whole, ours))):
        return ""
    ours = ours[ours["intensity"] == most].groupby("system")[["Err", "DDP"]].mean()
    paper = pick(rows, system="paper")
    found = []
    for (system, kind), _ in retrained(rows).groupby(["system", "kind"], sort=False):
        for i in INTENSITIES:
            other = pick(rows, system=system, intensity=i)
            found.append([difference(by_seed(paper, m), by_seed(other, m)) for m in ("Err", kind)])
    return (
        f"On Adult TL has {_point(trained)}. "
        f"Retrain+DP at intensity {most} has {_point(head)} on the head, and {_point(whole)} on "
        f"the whole network. Our solvers at weight {most} have Err {_range(ours['Err'], 2)} and "
        f"ΔDP {_range(ours['DDP'], 3)}. The method has surely less error than "
        f"{sum(e.below for e, _ in found)} of {len(found)} Retrain systems, and surely more of the "
        f"bias that each is for than {sum(b.above for _, b in found)}. {why}"
    )


def group_weights(frame: pd.DataFrame, why: str) -> str:
    """Return the paragraph on the ablation."""
    shown = [f"{text(each, 3)} on {task_label(t)}" for t, each in chosen_weights(frame).items()]
    if not shown:
        return ""
    return (
        "Err on test of the weight that has the least Err on validation rows, minus that of equal "
        f"weights, is {'; '.join(shown)}. {why}"
    )


def ranks(frame: pd.DataFrame, why: str) -> str:
    """Return the paragraph on ranks, which is a table of the lowest."""
    rows = pick(frame, experiment="ranks")
    cells, times = [], []
    for task in dict.fromkeys(rows["task"]):
        part = pick(rows, task=task)
        ours, full = pick(part, system="paper"), pick(part, system="TL")
        if len(ours) and len(full):
            at, least = smaller(part, ours["rank_asked"].min()), ours["rank_asked"].min()
            before = f"{full['parameters'].mean():,.0f}"
            cells.append([task_label(task), before, f"{least:g}", at.saved, at.seconds, at.error])
            times.append(at.times)
    if not cells:
        return ""
    header = ["layer", "parameters of TL", "rank", "saved", "seconds / TL's", "Err minus TL's"]
    return (
        f"The method at the lowest rank, beside TL:\n\n{markdown(header, cells)}\n\n"
        f"Its fit takes surely less time than TL's on {sum(each.high < 1 for each in times)} of "
        f"{len(times)} layers, and surely more on {sum(each.low > 1 for each in times)}. {why}"
    )


@dataclass(frozen=True)
class Smaller:
    """What a rank saves beside TL, and what it costs, as texts; the ratio of seconds as it is."""

    saved: str
    seconds: str
    error: str
    times: Interval


def smaller(part: pd.DataFrame, rank: float) -> Smaller:
    """Compare the method at a rank with TL on the same task."""
    ours, full = pick(part, system="paper", rank_asked=rank), pick(part, system="TL")
    saved = 100 * (1 - ours["parameters"].mean() / full["parameters"].mean())
    times = ratio(by_seed(ours, "seconds"), by_seed(full, "seconds"))
    seconds = f"{times.mean:.2f} ({times.low:.2f} to {times.high:.2f})"
    error = text(difference(by_seed(ours, "Err"), by_seed(full, "Err")), DIGITS["Err"])
    return Smaller(f"{saved:.1f} %", seconds, error, times)


def same_and_others(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the tasks on which the method is TL and f+SVD, seed by seed, and the others."""
    same, others = [], []
    for task in dict.fromkeys(rows["task"]):
        found = [each for m in MEASURES for each in _beside(pick(rows, task=task), m)]
        tied = all(each.low == each.high == 0 for each in found)
        (same if tied else others).append(task)
    return same, others


def returns(rows: pd.DataFrame) -> dict[str, tuple[Interval, Interval]]:
    """Return each fair network's bias: after TL minus before, and after the method minus TL."""
    found = {}
    for kind in PENALTIES:
        for i in INTENSITIES:
            part = pick(rows, task=f"adult, f_F {kind} {i}")
            if len(part):
                before, after, ours = (
                    by_seed(part, bias_of(kind), system=system)
                    for system in ("pre-trained", "TL", "paper")
                )
                found[f"{kind} {i}"] = difference(after, before), difference(ours, after)
    return found


def retrained(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of Retrain, with the measure that each is for."""
    of = {f"{where}Retrain+{kind}": bias_of(kind) for kind in PENALTIES for where in ("", WHOLE)}
    return rows[rows["system"].isin(of)].assign(kind=rows["system"].map(of))


def _beside(part: pd.DataFrame, measure: str) -> list[Interval]:
    ours = by_seed(part, measure, system="paper")
    return [difference(ours, by_seed(part, measure, system=other)) for other in REFERENCES]


def _point(part: pd.DataFrame) -> str:
    means = part[[*MEASURES]].mean()
    return _and([f"{SYMBOLS[m]} {means[m]:.{DIGITS[m]}f}" for m in MEASURES])


def _range(values: Iterable[float], digits: int) -> str:
    low, high = (f"{end:,.{digits}f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


SECTIONS: dict[str, Callable[[pd.DataFrame, str], str]] = {
    "table1": datasets,
    "figure1": representations,
    "figure3": fisher_by_group,
    "figure4": comparison,
    "table2": fair_pretraining,
    "table3": against_penalties,
    "weights": group_weights,
    "ranks": ranks,
}
