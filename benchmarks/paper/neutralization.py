"""Does neutralization help anywhere? What counts as help, settled before the experiments ran.

A *regime* is one experiment on one task with everything but the system fixed: layer, rank, rows,
epochs, Fisher information. In each, the paper's method is compared with TL and with f+SVD, paired
over the seeds. Against a reference it

- **helps** if, in ΔDP or in ΔEO, it is lower by at least `LEAST` in the mean, and that is
  significant (one-sided paired t-test, 5 %, adjusted by Holm for all regimes, both measures and
  both references), and Err is equal or lower: the upper end of the 95 % interval of its difference
  is at most `EQUAL_ERR`;
- **costs** if the same holds but for Err: bias went down with, perhaps, accuracy (what is
  undertrained, or predicts one class, looks fair);
- **hurts** if ΔDP or ΔEO is significantly higher, by at least `LEAST`, adjusted alike;
- is **mixed** if one of the two is so much lower and the other so much higher;
- and else makes **no difference** that these seeds can show.

The claim that neutralization reduces bias holds in general only if it helps against both references
in most regimes; where it helps at all is listed whatever the answer.

Two other forms of the method are judged by the same rule, each adjusted among its own comparisons
(`FORMS`), so that the judgement of the method above stays as it was settled. This, too, was written
before their rows were there:

- *as written*: Algorithm 1's own steps, beside TL and f+SVD of as many of the same steps, in
  "budget", where a budget is finite;
- *heads by group*: the other reading of section 3.3, beside TL and f+SVD from the same fitted head,
  in "reading". Its tasks are those whose last layer is cut. It does not apply to a layer that an
  output layer follows, which a head of one group's rows is not, nor to the task of 14 occupations,
  some of which have no woman, and it is not run where the training rows of a seed lack a class in a
  group.

Either form, too, reduces bias in general only if it helps against both references in most regimes.

Added afterwards, as a control: what the same rule says of systems that are known to reduce bias
(`compare_constrained`). What it could have seen is in `power`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .paired import Interval, by_seed, difference, holm, pick

LEAST = {"DDP": 0.01, "DEO": 0.02}
EQUAL_ERR = 0.25  # percentage points
SIGNIFICANCE = 0.05
REFERENCES = ("TL", "f+SVD")
# What tells regimes apart, besides experiment and task. A reference need not have all of them: TL
# has no rank.
KEYS = ("rank_asked", "rows", "max_epochs", "trained", "fisher", "at")
EXPERIMENTS = ("figure4", "table2", "ranks", "many", "few", "budget", "fisher")


@dataclass(frozen=True)
class Form:
    """A form of the method: its system, those that it stands beside, and where it was run."""

    system: str = "paper"
    experiments: tuple[str, ...] = EXPERIMENTS
    suffix: str = ""  # of the references' systems


METHOD = Form()
FORMS = {
    "as written": Form("paper, as written", ("budget",), ", as written"),
    "heads by group": Form("paper, heads by group", ("reading",)),
}


def compare(frame: pd.DataFrame, form: Form = METHOD) -> pd.DataFrame:
    """Return one row per regime and reference, with the outcome.

    Parameters
    ----------
    frame : DataFrame
        Rows of `runs.read`.
    form : Form
        Of the method; its comparisons are adjusted among themselves.

    Returns
    -------
    DataFrame
        Columns experiment, task, the `KEYS`, reference, seeds; for Err, DDP and DEO the reference's
        mean, and mean, low, high, standard error, n and both p-values of "method minus reference";
        the adjusted p-values; outcome.
    """
    frame = frame[frame["experiment"].isin(form.experiments)]
    keys = [key for key in KEYS if key in frame]
    found = []
    for (experiment, task), part in frame.groupby(["experiment", "task"], sort=False):
        ours = part[part["system"] == form.system]
        for values, rows in ours.groupby(keys, dropna=False, sort=False):
            regime = dict(zip(keys, values, strict=True))
            for name in REFERENCES:
                reference = _reference(part[part["system"] == name + form.suffix], regime)
                if len(reference):
                    row = {"experiment": experiment, "task": task, **regime, "reference": name}
                    found.append(row | _differences(rows, reference))
    return _judged(found)


def compare_constrained(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the same for every system with a constraint beside TL, adjusted among themselves.

    Parameters
    ----------
    frame : DataFrame
        Rows of `runs.read`.

    Returns
    -------
    DataFrame
        As of `compare`, with columns system, constraint and intensity in place of the `KEYS`.
    """
    frame = pick(frame, experiment="table3")
    keys = ["task", "system", "constraint", "intensity"]
    if not {*keys} <= {*frame}:
        return pd.DataFrame()
    # Rows without a constraint have none to be grouped by, and are left out.
    return _judged(
        [
            dict(zip(keys, values, strict=True))
            | _differences(rows, pick(frame, task=values[0], system="TL"))
            for values, rows in frame.groupby(keys, sort=False)
        ]
    )


def _judged(found: list[dict]) -> pd.DataFrame:
    out = pd.DataFrame(found)
    return out.assign(**_outcomes(out)) if len(out) else out


def _reference(rows: pd.DataFrame, regime: dict) -> pd.DataFrame:
    """Return the reference's rows of a regime; settings that it does not have do not count."""
    for key, value in regime.items():
        if rows[key].notna().any():
            missing = rows[key].isna() if pd.isna(value) else rows[key] == value
            rows = rows[missing]
    return rows


def _differences(ours: pd.DataFrame, reference: pd.DataFrame) -> dict:
    out: dict = {"seeds": len(set(ours["seed"]) & set(reference["seed"]))}
    for column in ("Err", "DDP", "DEO"):
        a, b = by_seed(ours, column), by_seed(reference, column)
        one: Interval = difference(a, b)
        out |= {
            f"{column} reference": float(b.mean()),
            f"{column} mean": one.mean,
            f"{column} low": one.low,
            f"{column} high": one.high,
            f"{column} error": one.std / np.sqrt(one.n),
            f"{column} n": one.n,
            f"{column} p below": one.p_below,
            f"{column} p above": one.p_above,
        }
    return out


def _outcomes(table: pd.DataFrame) -> dict:
    """Return the adjusted p-values and the outcome of each row."""
    adjusted = {}
    for side, of in (("lower", "below"), ("higher", "above")):
        p = np.column_stack([table[f"{measure} p {of}"] for measure in LEAST])
        adjusted[side] = holm(p.ravel()).reshape(p.shape)
    sizes = np.column_stack([table[f"{measure} mean"] for measure in LEAST])
    least = np.array(list(LEAST.values()))
    less = ((adjusted["lower"] < SIGNIFICANCE) & (sizes <= -least)).any(axis=1)
    more = ((adjusted["higher"] < SIGNIFICANCE) & (sizes >= least)).any(axis=1)
    equal = (table["Err high"] <= EQUAL_ERR).to_numpy()
    outcome = np.select(
        [more & less, more, less & equal, less],
        ["mixed", "hurts", "helps", "costs"],
        "no difference",
    )
    columns = {
        f"{measure} {side}": values[:, i]
        for side, values in adjusted.items()
        for i, measure in enumerate(LEAST)
    }
    return columns | {"outcome": outcome}
