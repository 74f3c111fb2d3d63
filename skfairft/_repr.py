"""The estimators' boxes in scikit-learn's HTML diagrams: the frozen backbone, and its small head.

scikit-learn asks an estimator for its box by ``_sk_visual_block_`` and does the rest: styles for
light and dark pages, escaping, what unfolds, pipelines and searches around it. Should it no longer
have what is used here, it falls back on its usual box by itself.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from torch import nn

from ._modules import count_parameters

if TYPE_CHECKING:
    from .summary import ModelSummary

__all__ = ["classifier_block", "extractor_block"]


def extractor_block(extractor: Any) -> Any:
    """Return the box of a `FrozenFeatureExtractor`: its module, and how large that is."""
    name = type(extractor).__name__
    return _block_class()(
        "single",
        extractor,
        names=_backbone_title(extractor.module),
        name_details=str(extractor),
        name_caption=name,
        doc_link_label=name,
    )


def classifier_block(clf: Any, summary: ModelSummary) -> Any:
    """Return the box of a classifier, with two in it: its backbone, if any, and its head."""
    # What was fitted, also where the parameter has been set to something else since.
    extractor = clf.feature_extractor_ if summary.fitted else clf.feature_extractor
    boxes: list[Any] = []
    names: list[str] = []
    if isinstance(extractor, nn.Module):
        boxes, names = [_backbone_block(extractor)], ["feature_extractor"]
    elif extractor is not None and isinstance(clf.feature_extractor, nn.Module):
        boxes, names = [_backbone_block(extractor.module)], ["feature_extractor"]
    elif extractor is not None:
        boxes, names = [extractor], [f"feature_extractor: {type(extractor).__name__}"]
    # The name of a box is the prefix that its parameters are copied with. Those in the head's box
    # are the classifier's own.
    return _block_class()("serial", [*boxes, _head_block(clf, summary)], names=[*names, None])


def _backbone_title(module: nn.Module) -> str:
    count = count_parameters(module)
    size = "parameters not known" if count is None else f"{count:,} parameters"
    return f"{type(module).__name__}: {size}, frozen"


def _backbone_block(module: nn.Module) -> Any:
    return _block_class()(
        "single",
        module,
        names=_backbone_title(module),
        name_details="Shared by all clones, never trained here.",
        name_caption="feature_extractor",
    )


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
    block = _block_class()(
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


def _block_class() -> Any:
    """Return scikit-learn's class of boxes; imported when one is drawn, because it is private."""
    try:
        from sklearn.utils._repr_html.estimator import _VisualBlock
    except ImportError:  # before 1.7
        from sklearn.utils._estimator_html_repr import _VisualBlock
    return _VisualBlock
