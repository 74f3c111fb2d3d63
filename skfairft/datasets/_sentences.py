"""Sentences made from the rows of UCI Adult."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["make_adult_sentences"]

WORK = {
    "Federal-gov": "federal government worker",
    "Local-gov": "local government worker",
    "Never-worked": "person who never worked",
    "Private": "private sector worker",
    "Self-emp-inc": "owner of an incorporated business",
    "Self-emp-not-inc": "self-employed worker",
    "State-gov": "state government worker",
    "Without-pay": "unpaid worker",
}
EDUCATION = {
    "Preschool": "no schooling",
    "HS-grad": "a high school diploma",
    "Some-college": "some college",
    "Assoc-voc": "a vocational degree",
    "Assoc-acdm": "an associate degree",
    "Bachelors": "a bachelor's degree",
    "Masters": "a master's degree",
    "Prof-school": "a professional degree",
    "Doctorate": "a doctorate",
}
OCCUPATION = {
    "Adm-clerical": "administrative and clerical work",
    "Armed-Forces": "the armed forces",
    "Craft-repair": "craft and repair",
    "Exec-managerial": "executive and managerial work",
    "Farming-fishing": "farming and fishing",
    "Handlers-cleaners": "handling and cleaning",
    "Machine-op-inspct": "operating and inspecting machines",
    "Other-service": "other services",
    "Priv-house-serv": "service in private houses",
    "Prof-specialty": "a professional specialty",
    "Protective-serv": "protective services",
    "Sales": "sales",
    "Tech-support": "technical support",
    "Transport-moving": "transport and moving",
}
MARRIED = {"Married-AF-spouse": "married", "Married-civ-spouse": "married"}


def make_adult_sentences(frame: pd.DataFrame) -> list[str]:
    """Make a sentence of each row of Adult, which names neither sex nor race nor income.

    Texts with labels and groups to try things on, nothing to download. They are a table in other
    words: what a model makes of them says little of what it makes of texts that people wrote.

    Parameters
    ----------
    frame : DataFrame
        Rows of `skfairft.datasets.fetch_adult`, as the frame or as X.

    Returns
    -------
    list of str
        One for each row. "Relationship" is left out, as it holds "husband" and "wife", and so is
        what is missing.

    Examples
    --------
    >>> from skfairft.datasets import fetch_adult
    >>> make_adult_sentences(fetch_adult().iloc[:1])[0][:79]
    "A 39-year-old state government worker with a bachelor's degree, never married, "
    """
    return [_sentence(row) for row in frame.to_dict("records")]


def _sentence(row: dict[Hashable, Any]) -> str:
    def words(name: str) -> str:
        return str(row[name]).replace("-", " ")

    work = WORK.get(row["workclass"], "person")
    grade = row["education"].split("-")[-1]  # of "1st-4th" the last
    education = EDUCATION.get(row["education"], f"schooling up to {grade} grade")
    married = MARRIED.get(row["marital-status"], words("marital-status").lower())
    parts = [f"A {row['age']}-year-old {work} with {education}", married]
    if isinstance(row["occupation"], str):  # else missing
        parts.append(f"in {OCCUPATION[row['occupation']]}")
    parts.append(f"working {row['hours-per-week']} hours a week")
    if isinstance(row["native-country"], str):
        parts.append(f"born in {words('native-country')}")
    if row["capital-gain"]:
        parts.append(f"with a capital gain of {row['capital-gain']} dollars")
    if row["capital-loss"]:
        parts.append(f"with a capital loss of {row['capital-loss']} dollars")
    return ", ".join(parts) + "."
