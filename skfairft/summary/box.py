"""The classifier's box in scikit-learn's HTML diagrams: the frozen backbone, and its small head."""

from __future__ import annotations

from html import escape
from typing import Any

from torch import nn

from ..backbone.box import backbone_block, block_class
from .model import ModelSummary

__all__ = ["classifier_block"]


def classifier_block(clf: Any, summary: ModelSummary) -> Any:
    """Return the box of a classifier, with two in it: its backbone, if any, and its head."""
    # What was fitted, also where the parameter has been set to something else since.
    extractor = clf.feature_extractor_ if summary.fitted else clf.feature_extractor
    boxes: list[Any] = []
    names: list[str] = []
    if isinstance(extractor, nn.Module):
        boxes, names = [backbone_block(extractor)], ["feature_extractor"]
    elif extractor is not None and isinstance(clf.feature_extractor, nn.Module):
        boxes, names = [backbone_block(extractor.module)], ["feature_extractor"]
    elif extractor is not None:
        boxes, names = [extractor], [f"feature_extractor: {type(extractor).__name__}"]
    # The name of a box is the prefix that its parameters are copied with. Those in the head's box
    # are the classifier's own.
    return block_class()("serial", [*boxes, _head_block(clf, summary)], names=[*names, None])


def _head_block(clf: Any, summary: ModelSummary) -> Any:
    """Return the box of the head: the summary, and the classifier's parameters.

    In a search the box around it has no room for these.
    """
    title = f"Head: {summary.describe_head()}"
    caption = f"constraint: {summary.describe_constraint_asked()}"
    if summary.fitted:
        title = f"Head: {summary.describe_rank()}, {summary.describe_savings()}"
        groups = f"groups {summary.describe_groups()}" if summary.groups_given else "no groups"
        caption = f"{groups}; {caption}"
    block = block_class()(
        "single", clf, names=title, name_details=summary.text(width=64), name_caption=caption
    )
    block._get_params_html = lambda *args, **kwargs: _Tables(
        _summary_table(summary), clf._get_params_html(*args, **kwargs)._repr_html_inner()
    )
    for name in ("_get_fitted_attr_html", "_get_doc_link"):
        if hasattr(clf, name):
            setattr(block, name, getattr(clf, name))
    return block


def _summary_table(summary: ModelSummary) -> str:
    """Return the summary as a table with the look of scikit-learn's own."""
    rows = "".join(
        f'<tr class="default"><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in summary.lines()
    )
    return (
        '<div class="estimator-table"><details open><summary>Model</summary>'
        f'<table class="parameters-table"><tbody>{rows}</tbody></table></details></div>'
    )


class _Tables:
    """Tables one below the other, as scikit-learn asks a box for those of its parameters."""

    def __init__(self, *tables: str) -> None:
        self._tables = tables

    def _repr_html_inner(self) -> str:
        return "".join(self._tables)
