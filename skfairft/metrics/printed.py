"""What is shown as text, Markdown or HTML, and saved as either: a lead, tables and notes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar

from .document import PAGE, document, write_file
from .markup import tag
from .tables import Table, escape_markdown, html_table, pipe_table, text_table

__all__ = ["Printed"]


class Printed:
    """A lead, tables and notes, in all forms that a reader may want."""

    _heading: ClassVar[str]

    def _lead(self) -> list[str]:
        """Return lines, of which the first sums up."""
        raise NotImplementedError

    def _tables(self) -> list[Table]:
        raise NotImplementedError

    def _notes(self) -> tuple[str, ...]:
        return ()

    def _makers(self) -> dict[str, Callable[[], str]]:
        """Return what makes a file's text without a heading, by the ending of its name."""
        return {}

    def to_markdown(self) -> str:
        """Return it as text with pipe tables.

        Returns
        -------
        str
            GitHub-flavoured Markdown; markup in group names is escaped.

        Examples
        --------
        >>> from skfairft.metrics import fairness_report
        >>> s = ["a", "a", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> report.to_markdown().splitlines()[6:9:2]
        ['| headline | value | [low, high] |', '| weighted_f1_error (%) | 0.000 |  |']
        >>> report.compare(report).to_markdown().splitlines()[0]
        '**None of 20 numbers moved: 80 rows, and 80 earlier**'
        """
        lead, *more = self._lead()
        blocks = [f"**{lead}**", *map(escape_markdown, more)]
        blocks += [pipe_table(table, escape_markdown) for table in self._tables()]
        blocks += map(escape_markdown, self._notes())
        return "\n\n".join(blocks) + "\n"

    def to_html(self) -> str:
        """Return it as an HTML fragment without scripts or outside resources.

        Returns
        -------
        str
            One ``div``; group names are escaped.

        Examples
        --------
        >>> from skfairft.metrics import fairness_report
        >>> s = ["<a>", "<a>", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> "<a>" in report.to_html()
        False
        >>> report.compare(report).to_html()[:28]
        '<div class="skfairft-report"'
        """
        blocks = [tag("p", text) for text in self._lead()]
        blocks += [html_table(table) for table in self._tables()]
        blocks += [tag("p", note) for note in self._notes()]
        return str(tag("div", blocks, class_="skfairft-report", style=PAGE))

    _repr_html_ = to_html

    def save(self, path: str | os.PathLike[str], *, title: str | None = None) -> None:
        """Write it to a file, of the kind that its name ends in.

        Parameters
        ----------
        path : str or path-like
            Ends in ``.html`` for a page, or ``.md`` for text with tables; a report's also in
            ``.json`` for numbers, which `skfairft.metrics.load_report` reads. A file that exists is
            overwritten.
        title : str or None, default=None
            Heading of a page or a text; None says what it is.

        Raises
        ------
        ValueError
            For another ending.

        Examples
        --------
        >>> from skfairft.metrics import fairness_report
        >>> s = ["a", "a", "b", "b"] * 20
        >>> report = fairness_report([0, 1] * 40, [0, 1] * 40, sensitive_features=s, n_boot=0)
        >>> for ending in ("html", "md", "json"):
        ...     report.save(f"audit.{ending}")
        >>> report.compare(report).save("change.html")
        """
        heading = self._heading if title is None else title
        makers = {
            ".html": lambda: document(heading, self.to_html()),
            ".md": lambda: f"# {escape_markdown(heading)}\n\n{self.to_markdown()}",
        }
        write_file(path, makers | self._makers())

    def __str__(self) -> str:
        blocks = ["\n".join(self._lead()), *map(text_table, self._tables())]
        blocks += ["\n".join(self._notes())] if self._notes() else []
        return "\n\n".join(blocks)

    __repr__ = __str__
