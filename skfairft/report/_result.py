"""The report on a model as its reader gets it: what was measured, apart from how it is shown."""

from __future__ import annotations

import os
from typing import Any

from ..metrics.comparison import ReportComparison
from ..metrics.document import write_file
from ..metrics.report import FairnessReport
from ._card import card
from ._caveat import Caveat
from ._caveats import find_caveats
from ._facts import Facts
from ._page import frame, page

__all__ = ["ModelReport"]


class ModelReport(Facts):
    """What a fitted model is, and what it does to each group; `model_report` makes one.

    A notebook shows it as a page. The parts are there as tables and arrays, too.

    Parameters
    ----------
    title : str or None
        Heading of the page, if it has one of its own.
    summary : ModelSummary
        What the model is made of.
    fairness : FairnessReport
        Error and rates by group with intervals, on the rows of the report.
    counts : DataFrame
        Number of rows of each group (in the order of ``fairness.by_group``) and class.
    calibration : DataFrame or None
        How far ``predict_label_proba`` is from the labels, by group, as `calibration_error` says
        it; None where something else than the classifier decides.
    cell_calibration : DataFrame or None
        The same of each cell of class and group, by which a plug-in rule decides that is not told
        the groups; over the rows of groups that the fit has seen. None of other models.
    group_importance : ndarray of shape (G, d)
        Importance of each feature to each group of the fit.
    importance : ndarray of shape (d,)
        The importance that weighted the factorization.
    singular_values : ndarray of shape (min(d, k),)
        Of the weighted weight matrix, the largest first.
    features : tuple of str or None
        Names of the features, where X has them and is not mapped by a backbone.
    path : FairnessPath or None
        The trade-off, if it was passed.
    chosen : int or None
        The row of ``path.table`` that is this model; None if none is.
    peers : mapping, DataFrame or None
        Other systems, drawn beside the path.
    parameters : dict of str to (str, bool)
        Each parameter of the classifier as text, and whether it differs from the default.
    versions : dict of str to str
        Versions of Python and of the libraries.
    weighted : bool
        Whether sample weights were passed: then rates are weighted, counts are of rows.
    known_groups : bool
        Whether the model was told the groups where it decided.
    wrapper : str or None
        Class of what decides around the classifier, such as ``TunedThresholdClassifierCV``.
    date : str, date or None
        As passed.

    See Also
    --------
    model_report : Measures it.
    FairnessReport : The tables by group alone.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, model_report
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=1000, random_state=0)
    >>> clf = FairLowRankHeadClassifier(rank=1).fit(X[:500], y[:500], sensitive_features=s[:500])
    >>> report = model_report(clf, X[500:], y[500:], sensitive_features=s[500:], random_state=0)
    >>> report
    ModelReport: 500 rows, 2 groups, 1 caveat found
    >>> [caveat.topic for caveat in report.caveats if caveat.found]
    ['No constraint']
    """

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """What to know before the numbers are used; what follows from these facts comes first."""
        return find_caveats(self)

    def to_html(self) -> str:
        """Return the report as one HTML page.

        Returns
        -------
        str
            A whole document without scripts, which asks for nothing from outside: style and
            figures are inside it. Names are escaped. Without matplotlib it has no figures, and
            says so.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, model_report
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, random_state=0)
        >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        >>> page = model_report(clf, X, y, sensitive_features=s, n_boot=0).to_html()
        >>> page.splitlines()[0], page.count("<h1")
        ('<!DOCTYPE html>', 1)
        """
        return page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report to a file, of the kind that its name ends in.

        Parameters
        ----------
        path : str or path-like
            Ends in ``.html`` for the page, ``.md`` for the model card without figures, or ``.json``
            for the numbers by group, ``fairness``, which `skfairft.metrics.load_report` reads. A
            file that exists is overwritten.

        Raises
        ------
        ValueError
            For another ending.
        ImportError
            For a card without skops.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, model_report
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, random_state=0)
        >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        >>> model_report(clf, X, y, sensitive_features=s, n_boot=0).save("report.html")
        """
        write_file(
            path,
            {".html": self.to_html, ".md": self.to_markdown, ".json": self.fairness.to_json},
        )

    def compare(self, earlier: FairnessReport | ModelReport) -> ReportComparison:
        """Return what has changed since an earlier report, and whether the bounds still hold.

        Parameters
        ----------
        earlier : FairnessReport or ModelReport
            Of other rows, such as those on which the model was first measured.

        Returns
        -------
        ReportComparison
            As of `FairnessReport.compare`.

        Raises
        ------
        TypeError, ValueError
            As there.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, model_report
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=3000, random_state=0)
        >>> fit, *rest = (slice(i, i + 1000) for i in (0, 1000, 2000))
        >>> clf = FairLowRankHeadClassifier(rank=1).fit(X[fit], y[fit], sensitive_features=s[fit])
        >>> reports = [
        ...     model_report(clf, X[rows], y[rows], sensitive_features=s[rows], n_boot=0)
        ...     for rows in rest
        ... ]
        >>> reports[1].compare(reports[0]).moved.empty
        True
        """
        return self.fairness.compare(
            earlier.fairness if isinstance(earlier, ModelReport) else earlier
        )

    def to_card(
        self, *, figures: str | os.PathLike[str] | None = None, **filled: str | None
    ) -> Any:
        """Return the report as a model card, to be completed and saved.

        The headings are those of model cards in common use. What only you can know, such as the
        intended use, is a line that begins with "To be filled in". Pass it here, or later with
        ``card.add(**{"Intended use": "..."})``.

        Parameters
        ----------
        figures : str or path-like, default=None
            A folder for the card's figures, PNG files that the card then points to; it is made
            if it does not exist. Their names hold a digest of what they show, so that cards can
            share a folder. None: a card without figures. Needs matplotlib.
        **filled : str
            Markdown in place of a line to be filled in, by its name: ``developers``,
            ``license``, ``contact``, ``intended_use``, ``out_of_scope``, ``evaluation_data``,
            ``training_data``, ``ethics``, ``get_started``, ``citation``. None leaves it open.

        Returns
        -------
        skops.card.Card
            With ``add``, ``add_table``, ``add_plot``, ``render`` and ``save``. ``save(file)``
            points to these figures as from the folder of that file: put them in it, or below,
            and it can be moved with all that is in it. ``save(file, copy_files=True)`` copies
            them there. ``render()``, which knows no file, points to them as from the working
            directory. The card holds no model; set ``card.model`` to your estimator before its
            ``add_model_plot`` or ``add_hyperparams``.

        Raises
        ------
        ImportError
            Without skops (``pip install 'skfairft[card]'``), or with ``figures`` without
            matplotlib.
        TypeError
            For a name that the card has no line for, or what is no text.

        Notes
        -----
        A skops card has no metadata block. Where a card is published with one (licence, tags),
        put it in front of the text.

        References
        ----------
        .. [1] Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, model_report
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, random_state=0)
        >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        >>> report = model_report(clf, X, y, sensitive_features=s, n_boot=0)
        >>> card = report.to_card(license="BSD-3-Clause")
        >>> card.select("Intended use/Primary uses").content[:16]
        'To be filled in:'
        """
        return card(self, figures, filled)

    def to_markdown(self, **filled: str | None) -> str:
        """Return the text of the model card.

        Parameters
        ----------
        **filled : str
            As for `to_card`.

        Returns
        -------
        str
            Markdown.

        Raises
        ------
        ImportError, TypeError
            As `to_card`.

        Examples
        --------
        >>> from skfairft import FairLowRankHeadClassifier, model_report
        >>> from skfairft.datasets import make_biased_classification
        >>> X, y, s = make_biased_classification(n_samples=1000, random_state=0)
        >>> clf = FairLowRankHeadClassifier(rank=1).fit(X, y, sensitive_features=s)
        >>> text = model_report(clf, X, y, sensitive_features=s, n_boot=0).to_markdown()
        >>> [line for line in text.splitlines() if line.startswith("# ")][:3]
        ['# Model details', '# Intended use', '# Factors']
        """
        return str(self.to_card(**filled).render())

    def _repr_html_(self) -> str:
        return frame(self)

    def __repr__(self) -> str:
        found = sum(caveat.found for caveat in self.caveats)
        return (
            f"ModelReport: {int(self.fairness.overall['count']):,} rows, "
            f"{len(self.fairness.by_group)} groups, {found} caveat{'s' * (found != 1)} found"
        )
