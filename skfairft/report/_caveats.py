"""What to know before a report's numbers are used, derived from its facts."""

from __future__ import annotations

from collections.abc import Iterator

from . import _caveats_model, _caveats_rows
from ._caveat import Caveat
from ._facts import Facts

__all__ = ["find_caveats"]


def find_caveats(facts: Facts) -> tuple[Caveat, ...]:
    """Return the caveats of a report, those found first."""
    finders = (
        _caveats_rows.groups,
        _caveats_rows.classes,
        _caveats_rows.one_decision,
        _caveats_rows.few_rows,
        _caveats_rows.undefined,
        _caveats_model.wrapper,
        _caveats_model.constraint,
        _caveats_model.by_column,
        _caveats_model.bound,
        _caveats_model.solver,
        _caveats_model.estimated_groups,
        _caveats_model.calibration,
        _caveats_model.path,
        _caveats_rows.base_rates,
        _caveats_rows.intervals,
        _always,
    )
    return tuple(caveat for find in finders for caveat in find(facts))


def _always(facts: Facts) -> Iterator[Caveat]:
    columns = facts.fairness.by_group.index.nlevels
    level = 100 * facts.fairness.confidence_level
    said = {
        "These rows": "Nothing here can tell whether they took part in fitting or choosing the "
        "model. If they did, the numbers are likely to be better than on new rows.",
        "Intervals": "They cover the drawing of these rows, for this one model. They do not cover "
        "another training run, other training rows, or a world that changes.",
        "Distances": "A largest difference is never negative, so chance alone makes it positive, "
        "the more so the smaller and the more numerous the groups. The lower end of its interval "
        f"allows for that: of equal groups it is above 0 in about {100 - level:g} of 100 samples.",
        "Groups": "Only the groups named here were compared"
        + (", and not their intersections with any other." if columns == 1 else ".")
        + " Of people inside a group, and of groups that no one recorded, nothing is said.",
        "Labels": "Error, true and false positive rates take the label for the truth. They cannot "
        "tell whether it is right, or just, or carries past decisions on.",
        "Decisions": "Rates of decisions are not what decisions do to people. Parity on these "
        "rows is not fairness. Those who are affected should be in the room where it is decided "
        "what the model is for, and whether.",
    }
    for topic, text in said.items():
        yield Caveat(topic, text, found=False)
