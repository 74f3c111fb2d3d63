"""References that Sphinx leaves open: our own objects by their short names, and other projects.

A docstring says `fairness_path` wherever it stands, as the reader knows the name; Sphinx looks for
it in the module of the docstring only.

For other projects intersphinx would download an inventory of each at every build. The addresses of
these follow from the names of the objects.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

OBJECTS = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{0}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{0}.html",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{0}.html",
    "torch": "https://docs.pytorch.org/docs/stable/generated/{0}.html",
}
# In docstrings that scikit-learn makes for our methods.
LABELS = {"metadata_routing": "https://scikit-learn.org/stable/metadata_routing.html"}
TERMS = {"meta-estimator": "https://scikit-learn.org/stable/glossary.html#term-meta-estimator"}


def address(kind: str, target: str) -> str | None:
    """Return the page of an object, label or term elsewhere, None if we know none."""
    if kind == "ref":
        return LABELS.get(target)
    if kind == "term":
        return TERMS.get(target)
    project = target.partition(".")[0]
    return OBJECTS[project].format(target) if project in OBJECTS and "." in target else None


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Answer Sphinx's question where a reference that it does not know leads."""
    kind, target = node["reftype"], node["reftarget"]
    if uri := address(kind, target):
        return nodes.reference("", "", content, refuri=uri, internal=False)
    if node.get("refdomain") != "py":
        return None
    if not target.replace(".", "").isidentifier():  # of a docstring of scikit-learn's
        return nodes.literal("", "", *content.children)
    known = env.domaindata["py"]["objects"]
    found = [full for full in known if full.endswith(f".{target}") and not known[full].aliased]
    if len(found) != 1:
        return None
    place = known[found[0]]
    return make_refnode(
        app.builder, node["refdoc"], place.docname, place.node_id, content, found[0]
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Ask here for what nothing else answers to."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
