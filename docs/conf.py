"""How Sphinx builds the site: ``make docs``. Nothing is downloaded, nor when a page is opened."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import skfairft

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the gallery's models come from packages

project = "skfairft"
author = "The skfairft developers"
copyright = f"2026, {author}"
version = release = skfairft.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "gallery",
    "pages",
    "references",
]
exclude_patterns = ["_build", "_templates", "_extensions", "auto_examples/**/*.ipynb"]
templates_path = ["_templates"]
default_role = "py:obj"  # `name` in a docstring is a link; what is no object is a warning

# Pages are Markdown. Headings are anchors, as on code hosts, so the same links work there.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

# Docstrings say the types in words and shapes; the annotations are for type checkers.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = True
numpydoc_show_class_members = False  # the pages of classes list them themselves
numpydoc_validation_checks = {
    "GL06",  # unknown section
    "GL07",  # sections in another order
    "GL08",  # no docstring
    "SS01",  # no summary
    "SS02",  # summary without a capital
    "SS03",  # summary without a period
    "SS06",  # summary longer than a line
    "PR01",  # parameter not documented
    "PR02",  # documented parameter that does not exist
    "PR03",  # parameters in another order
    "PR05",  # type that ends with a period
    "PR07",  # parameter without a description
    "PR10",  # no space before the colon
    "RT01",  # no Returns
    "RT03",  # return value without a description
    "YD01",  # no Yields
}

numpydoc_validation_exclude = {r"ModelSummary\.describe_"}  # each is a line of ModelSummary.lines

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^(?!plot_)",  # helpers of the examples, and the command line demo
    "within_subsection_order": "gallery.in_order",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skfairft",),
    "prefer_full_module": {r"skfairft\.(metrics|datasets|preprocessing|onnx)"},
    "image_srcset": ["2x"],
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # its page loads scripts from elsewhere
    "inspect_global_variables": False,
    "reset_modules": ("matplotlib",),
}

# One file with all of MathJax and its glyphs, from a package, instead of a CDN.
_package = importlib.util.find_spec("sphinx-mathjax-offline")
_mathjax = Path(_package.origin).parent / "static" / "mathjax" / "tex-svg-full.js"
mathjax_path = _mathjax.name
mathjax3_config = {"svg": {"fontCache": "global"}, "options": {"enableMenu": False}}

smartquotes = False  # values of parameters are quoted, too
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "skfairft"
html_static_path = ["_static", str(_mathjax)]
html_context = {"default_mode": "auto"}
html_css_files = ["skfairft.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "logo": {"text": "skfairft"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "show_nav_level": 1,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "back_to_top_button": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    "index": [],
    "getting_started": [],
    "from_csv": [],
    "comparison": [],
    "method": [],
    "reproduction": [],
    "tradeoff": [],
    "reproduction_tables": [],
    "tradeoff_tables": [],
    "changelog": [],
    "contributing": [],
    "security": [],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
