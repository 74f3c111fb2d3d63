"""The extractor's box in scikit-learn's HTML diagrams.

scikit-learn asks an estimator for its box by ``_sk_visual_block_`` and does the rest: styles for
light and dark pages, escaping, what unfolds, pipelines and searches around it. Should it no longer
have what is used here, it falls back on its usual box by itself.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .modules import count_parameters

__all__ = ["backbone_block", "block_class", "extractor_block"]


def extractor_block(extractor: Any) -> Any:
    """Return the box of a `FrozenFeatureExtractor`: its module, and how large that is."""
    name = type(extractor).__name__
    return block_class()(
        "single",
        extractor,
        names=_backbone_title(extractor.module),
        name_details=str(extractor),
        name_caption=name,
        doc_link_label=name,
    )


def backbone_block(module: nn.Module) -> Any:
    """Return the box of a module that is no extractor yet."""
    return block_class()(
        "single",
        module,
        names=_backbone_title(module),
        name_details="Shared by all clones, never trained here.",
        name_caption="feature_extractor",
    )


def block_class() -> Any:
    """Return scikit-learn's class of boxes; imported when one is drawn, because it is private."""
    try:
        from sklearn.utils._repr_html.estimator import _VisualBlock
    except ImportError:  # before 1.7
        from sklearn.utils._estimator_html_repr import _VisualBlock
    return _VisualBlock


def _backbone_title(module: nn.Module) -> str:
    count = count_parameters(module)
    size = "parameters not known" if count is None else f"{count:,} parameters"
    return f"{type(module).__name__}: {size}, frozen"
