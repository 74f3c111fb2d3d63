"""What the gallery needs beyond sphinx-gallery: the pages' order, and a page that stops early."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx_gallery import gen_rst
from sphinx_gallery.sorting import FunctionSortKey

# The way of a reader: the main job first, then what each part does, then other data, then use.
PAGES = (
    "plot_adult.py",
    "plot_search.py",
    "plot_path.py",
    "plot_intersections.py",
    "plot_worst_group.py",
    "plot_several.py",
    "plot_missing_groups.py",
    "plot_images.py",
    "plot_texts.py",
    "plot_hugging_face.py",
    "plot_deploy.py",
    "plot_compress.py",
    "plot_sequences.py",
)


def _place(filename: Any) -> tuple[int, str]:
    """Return the place of a page; those not named above come last, by name."""
    name = Path(filename).name
    return (PAGES.index(name) if name in PAGES else len(PAGES), name)


in_order = FunctionSortKey(_place, "in_order")


def stoppable(execute: Callable[..., str]) -> Callable[..., str]:
    """Let an example end itself with ``raise SystemExit("what is missing, and what to do")``.

    sphinx-gallery would let it end the whole build. Here the page shows the line where the output
    of the block would be, and the blocks below are not run. The checksum is written only for pages
    that ran to their end, so the next build tries again.
    """

    @functools.wraps(execute)
    def execute_code_block(
        compiler: Any, block: Any, example_globals: Any, script_vars: dict[str, Any], *args: Any
    ) -> str:
        try:
            return execute(compiler, block, example_globals, script_vars, *args)
        except SystemExit as stop:
            script_vars["execute_script"] = False
            return ".. note::\n\n" + textwrap.indent(f"Not run here. {stop}", "   ") + "\n\n"

    return execute_code_block


def remove_stale(app: Sphinx, config: Config) -> None:
    """Remove the pages of examples that are gone, which sphinx-gallery leaves behind."""
    made = Path(app.srcdir) / config.sphinx_gallery_conf["gallery_dirs"]
    examples = Path(app.srcdir) / config.sphinx_gallery_conf["examples_dirs"]
    kept = {example.stem for example in examples.glob("plot_*.py")}
    for file in made.glob("plot_*.*"):
        if file.name.partition(".")[0] not in kept:
            file.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    """Take the place of sphinx-gallery's function, for which it has no hook; tidy up."""
    if not hasattr(gen_rst.execute_code_block, "__wrapped__"):
        gen_rst.execute_code_block = stoppable(gen_rst.execute_code_block)
    app.connect("config-inited", remove_stale)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
