"""What follows for a user. Each sentence stands on the page only where the rows bear it out."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from .labels import task_label
from .neutralization import REFERENCES
from .paired import by_seed, difference, pick
from .power import could_help
from .results import Results
from .sections import WHOLE, retrained, returns, same_and_others, smaller
from .tasks import INTENSITIES
from .verdicts import PAPERS_TASKS, text


def constraint(results: Results) -> str:
    """Say what takes bias away, and at which price."""
    control = results.control
    if not len(control):
        return ""
    less = control["outcome"].isin(["helps", "costs", "mixed"])
    if less.sum() <= len(control) / 2:
        return ""
    costs = control.loc[less, "Err mean"]
    mixed = (control["outcome"] == "mixed").sum()
    also = f" ({mixed} of them more in the other measure)" if mixed else ""
    return (
        "**For less disparity, set a [constraint](guide/constraint.md).** By the rule by which the "
        f"method is judged, {less.sum()} of {len(control)} systems with a constraint have less "
        f"bias than TL{also}. The price is error, {costs.min():.2f} to {costs.max():.2f} points "
        f"more than TL and {costs.median():.2f} in the median; equal error is shown in "
        f"{could_help(control).sum()}. How much of it you pay, [a weight or a "
        "bound](guide/constraint.md#a-weight-or-a-bound) says."
    )


def no_help(results: Results) -> str:
    """Say what the method does to bias."""
    outcomes = pd.concat([results.outcomes, *results.forms.values()])
    helps = (outcomes["outcome"] == "helps").sum() if len(outcomes) else None
    if helps != 0:
        return ""
    return (
        "**Without a constraint, expect no less disparity.** In none of "
        f"{len(outcomes)} comparisons, of all forms of the method, did neutralization help; in "
        f"{could_help(outcomes).sum()} it could have: Err was shown to be equal. "
        "[Why](guide/neutralization.md#why-little-follows-from-it)."
    )


def compression(results: Results) -> str:
    """Say what the method is worth its while for."""
    rows = pick(results.frame, experiment="ranks")
    if not len(rows):
        return ""
    full = pick(rows, system="TL").groupby("task")["parameters"].mean()
    task, part = full.idxmax(), pick(rows, task=full.idxmax())
    parameters = pick(part, system="paper").groupby("rank_asked")["parameters"].mean()
    small = parameters[parameters <= 0.1 * full[task]]
    if not len(small):
        return ""
    rank = small.index.max()
    ours, plain = (pick(part, system=system, rank_asked=rank) for system in ("paper", "f+SVD"))
    at = smaller(part, rank)
    beside = text(difference(by_seed(ours, "Err"), by_seed(plain, "Err")), 2)
    return (
        "**The method is worth its while to make a wide layer small.** On "
        f"{task_label(task)}, rank {rank:g} saves {at.saved} of {full[task]:,.0f} parameters and "
        f"takes {at.seconds} times TL's seconds; Err minus TL's is {at.error}. A plain SVD of that "
        f"rank makes it as small: Err minus that of the SVD is {beside}. Small heads gain little "
        "([rank](guide/rank.md)). Where a trained layer is cut and not trained again, equal "
        "weights of the groups [can protect a rare "
        "one](guide/compression.md#when-neutralization-helps)."
    )


def one_optimum(results: Results) -> str:
    """Say where nothing is to be chosen."""
    rows = pick(results.frame, experiment="figure4")
    same, _ = same_and_others(rows)
    ours = [task for task in PAPERS_TASKS.values() if (rows["task"] == task).any()]
    if not ours or not {*ours} <= {*same}:
        return ""
    return (
        "**A two-class linear head, trained to its end, is the same by any rank and importance.** "
        f"So it was on all {len(ours)} tasks of the paper that were run: choose rank 1, or no "
        "factors."
    )


def early(results: Results) -> str:
    """Say what only looks fair."""
    outcomes = pd.concat([results.outcomes, *results.forms.values()])
    paid = outcomes[outcomes["outcome"] == "costs"] if len(outcomes) else outcomes
    if not len(paid) or not (paid["Err low"] > 0).all():
        return ""
    return (
        "**Judge disparity only beside error.** What is cut too far or hardly trained can look "
        f"fair: the {len(paid)} cases of less bias that do not show equal Err have "
        f"{paid['Err mean'].min():.1f} to {paid['Err mean'].max():.1f} points more error than "
        f"{' or '.join(each for each in REFERENCES if (paid['reference'] == each).any())}."
    )


def measure_again(results: Results) -> str:
    """Say what fine-tuning does to a fair network."""
    found = returns(pick(results.frame, experiment="table2"))
    rose = sum(after.above for after, _ in found.values())
    if not found or rose < len(found):
        return ""
    return (
        "**Measure again after fine-tuning.** That a network was fair before says little: the bias "
        f"came back in {rose} of {len(found)}."
    )


def other_parity(results: Results) -> str:
    """Say what parity of one kind does to another."""
    rows = retrained(pick(results.frame, experiment="table3", task="adult"))
    name, most = f"{WHOLE}Retrain+DP", max(INTENSITIES)
    after = pick(rows, system=name, intensity=most)
    before = pick(results.frame, experiment="table3", task="adult", system=f"{WHOLE}TL")
    if not len(after) or not len(before):
        return ""
    found = {m: difference(by_seed(after, m), by_seed(before, m)) for m in ("DDP", "DEO")}
    if not (found["DDP"].below and found["DEO"].above):
        return ""
    values = [f"{part[m].mean():.3f}" for m in ("DDP", "DEO") for part in (before, after)]
    return (
        "**Name the parity that you need.** Parity of one kind can cost another: Retrain+DP of the "
        f"whole network at intensity {most} takes ΔDP from {values[0]} to {values[1]}, and ΔEO "
        f"from {values[2]} to {values[3]}."
    )


FOLLOWS: tuple[Callable[[Results], str], ...] = (
    no_help,
    constraint,
    other_parity,
    compression,
    one_optimum,
    early,
    measure_again,
)


def follows(results: Results) -> str:
    """Return what follows, as a list."""
    return "\n".join(f"- {said}" for rule in FOLLOWS if (said := rule(results)))
