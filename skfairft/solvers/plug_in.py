"""`PlugIn`: a head of cells of class and group, and the most accurate rule of parity by them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..head.cells import CellVote, safe_log
from ..head.modules import cell_probabilities, head_scores
from ..head.outputs import fit_linear_heads_of_folds
from ..head.start import parse_head, scores_classes
from ..inputs.warn import no_warnings
from ..lowrank.factorization import resolve_rank
from ..lowrank.layer import LowRankHead
from ..rows.blocks import Features
from ..rows.folds import Folds
from ..rows.parts import Parts
from ..rows.tensor_rows import TensorRows
from .dual import ParityDual, some_rows
from .estimated_groups import EstimatedGroups
from .fitter import HeadFitter, warn_of_alike
from .joint import JointDual
from .maximin import MaximinDual, Worst
from .problem import FittedHead, Problem
from .rule import votes
from .trained import TrainedSolver
from .trials import Trial, Trials

__all__ = ["PlugIn"]

_VOTES = (
    "Probabilities are votes",
    "predict_proba gives the shares of the votes that decide. They are not estimates of "
    "how likely a class is, and not to be used as such; predict_label_proba gives these.",
)

_SAME_DECISIONS = "the decisions without a constraint do not differ between groups"

# Singular values below this share of the largest are zero.
_ROUNDING = 1e-12


class PlugIn(TrainedSolver):
    """Decide by the most accurate rule of parity, from probabilities of class and group together.

    The head estimates the probabilities of the cells of class and group (here a rank below
    ``k G - 1`` bites); a small table of votes, one for each weight of fairness, turns them into
    classes [1]_. It estimates the group from the features, and needs it at ``fit`` only.
    ``solver="plug_in"`` stands for ``PlugIn()``.

    Parameters
    ----------
    max_epochs, lr, batch_size, optimizer, optimizer_kwargs, weight_decay, early_stopping, \
validation_fraction, n_iter_no_change, tol, callbacks
        Of the training of the head of cells; as for `FineTune`.

    References
    ----------
    .. [1] A. K. Menon and R. C. Williamson, "The cost of fairness in binary classification",
       FAT* 2018.

    Examples
    --------
    >>> from skfairft import FairLowRankHeadClassifier, PlugIn
    >>> from skfairft.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(n_samples=500, disparity=0.4, random_state=0)
    >>> clf = FairLowRankHeadClassifier(
    ...     constraint="demographic_parity", fairness_weight=1.0, solver=PlugIn(max_epochs=50)
    ... ).fit(X, y, sensitive_features=s)
    >>> selected = clf.predict(X) == 1
    >>> bool(abs(selected[s == 0].mean() - selected[s == 1].mean()) < 0.05)
    True
    """

    name: ClassVar[str] = "plug_in"
    needs_groups: ClassVar[bool] = True
    votes: ClassVar[bool] = True
    estimates_groups: ClassVar[bool] = True
    starts_with_constraint: ClassVar[bool] = False
    several: ClassVar[bool] = True
    default_C: ClassVar[float | str] = "auto"
    told_caveats: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "The group is used",
            "The group of each row was told to the model, and decides with the features: two rows "
            "that differ in the group alone can be decided differently. In many places that is "
            "unlawful, whatever the intention. Ask before it is deployed.",
        ),
        _VOTES,
    )
    caveats: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "The group is inferred",
            "No group is needed to predict, because the head estimates it: it holds the "
            "probability of each class and group together, and decides by both. Two rows with the "
            "same chance of a class can be decided differently because the features of one speak "
            "for one group. Where the use of the group in a decision is unlawful or unwanted, an "
            "estimate of it may be no better. Ask before it is deployed.",
        ),
        _VOTES,
    )

    def check_head(self, head: nn.Module | None, n_classes: int, device: torch.device) -> None:
        """Refuse a head of the classes, too, which knows no groups; as `Solver.check_head`."""
        super().check_head(head, n_classes, device)
        if head is not None and scores_classes(head, n_classes):
            linear, _ = parse_head(head)
            raise ValueError(
                f"head has {linear.out_features} outputs, for the {n_classes} classes, but "
                "solver='plug_in' needs the probabilities of label and group together, which such "
                "a head does not hold. Pass head=None, or the hidden layer before it."
            )

    def fitter(self, problem: Problem, seed: Any) -> HeadFitter:
        """Return what fits heads of any weight to the rows of a problem."""
        return self._fitter(problem, seed)

    def _fitter(
        self, problem: Problem, seed: Any, groups: EstimatedGroups | None = None
    ) -> _PlugInFitter:
        """Return the fitter, with what is known of the groups where some rows have none."""
        if not problem.complete:
            groups = EstimatedGroups.of(problem) if groups is None else groups
            problem = groups.divided(problem)
        return _PlugInFitter(
            problem,
            seed,
            early_share=self.early_share(problem.head, problem.n_classes),
            training=self._training(),
            by_default=not self.changed(),
        )

    def again(self, problem: Problem, fitted: FittedHead) -> Trials:
        """Return the votes of each weight for a head that was fitted to other rows.

        Parameters
        ----------
        problem : Problem
            The rows, with the classes and groups of the fit, each row's group known.
        fitted : FittedHead
            What the fit handed out: its cells stay, its votes are found anew.

        Returns
        -------
        Trials
            Judged by the rows of the problem, on which the votes are found, too.
        """
        *layers, vote = _layers(fitted.head)
        assert isinstance(vote, CellVote)
        cells = vote.labels * problem.n_groups + vote.groups
        cell_head = _CellHead(replace(fitted, head=nn.Sequential(*layers)), cells)
        p = torch.zeros(len(problem.rows), problem.n_classes * problem.n_groups).double()
        p[:, cells] = cell_probabilities(fitted.head, problem.rows.Z).double()
        rules, rows = _Rules(problem, problem.rows, p), problem.as_they_are
        voter = _Voter(cell_head, partial(warn_of_alike, problem.constraint, _SAME_DECISIONS))
        return _CellTrials(voter, rules, rows, p, refit=False, tuned=True)

    def _held_out(self, problem: Problem, seed: Any, rows: TensorRows) -> Trials:
        assert rows.codes is not None
        unknown = not problem.complete or bool((rows.codes < 0).any())
        groups = EstimatedGroups.of(problem) if unknown else None
        fitter = self._fitter(problem, seed, groups)
        p = fitter.probabilities(rows.Z)
        if groups is None:
            return _CellTrials(fitter, fitter.rules, rows, p, refit=False)
        parts = Parts.divided(rows, groups.shares(rows))
        return _CellTrials(fitter, fitter.rules, parts.rows, p[parts.of], refit=False, parts=parts)

    def _out_of_fold(self, problem: Problem, seed: Any, folds: Folds) -> Trials:
        """Find the votes by probabilities that heads of other folds give the rows to judge.

        They are those of the head on all rows, too. Rows that no fold judges, such as one alone in
        its group, count by its probabilities. Where rows have no group, it is estimated for the
        rows of a fold, and for those that its head is fitted to, without the fold's groups.
        """
        groups = None if problem.complete else EstimatedGroups.of(problem)
        whole = self._fitter(replace(problem, folds=None), seed, groups)
        judged, rows = folds.judged, problem.as_they_are
        p = whole.probabilities(rows.Z)  # what no fold judges stays as it is
        shares = None if groups is None else groups.shares(rows)
        with no_warnings():  # what there is to say is said of the head on all rows
            problem = replace(problem, C=whole.C)
            others: list[EstimatedGroups] = []
            if groups is not None:
                others = [
                    EstimatedGroups.of(problem.fitted_to(fold.train), groups.C)
                    for fold in folds.parts
                ]
            quick = whole.of_folds(folds, [each.shares(rows) for each in others])
            for i, fold in enumerate(folds.parts):
                part: _Part | _PlugInFitter
                test, own = rows.take(fold.test), others[i] if others else None
                if quick:
                    part = quick[i]
                else:
                    part = self._fitter(problem.fitted_to(fold.train), seed, own)
                    if part.cell_head.fitted.interrupted:
                        raise KeyboardInterrupt
                p[fold.test] = part.probabilities(test.Z)
                if own is not None and shares is not None:
                    shares[fold.test] = own.shares(test)
        if shares is None:
            rules = _Rules(problem, problem.rows, p)
            return _CellTrials(whole, rules, rows.take(judged), p[judged], refit=True)
        every = Parts.divided(problem.rows, shares)
        rules = _Rules(problem, every.rows, p[every.of], every)
        parts = Parts.divided(rows.take(judged), shares[judged])
        p = p[judged][parts.of]
        return _CellTrials(whole, rules, parts.rows, p, refit=True, parts=parts)


class _Rules:
    """The votes of each weight, for rows whose group is to be inferred and for those of known ones.

    ``p`` (n, k G) are the probabilities of the cells that some rows have, on which the votes are
    to bring parity. Their features are not kept. Rows may be ``parts``: of one whose group is not
    known, each in its group.
    """

    def __init__(
        self, problem: Problem, rows: TensorRows, p: Tensor, parts: Parts | None = None
    ) -> None:
        self.n_groups = n_groups = problem.n_groups
        self._demands, self.joint = problem.demands, problem.joint
        self._asked = problem.rules(as_trained=True)
        cells = rows.cells(n_groups)
        taken, self._w = some_rows(rows.w, cells)
        self._p, self._cells = p[taken], cells[taken]  # a path keeps them as long as it lives
        counted = rows.w > 0 if parts is None else (rows.w > 0) & parts.alone
        self._counts = torch.bincount(cells[counted], minlength=p.shape[1])
        #: Weights that are solved in their order, whichever is asked for first.
        self.along: tuple[float, ...] = ()
        self._duals: dict[bool, ParityDual | MaximinDual | JointDual] = {}
        self._found: dict[tuple[Any, bool], Tensor] = {}

    def votes(self, weight: Any, *, known: bool = False) -> Tensor:
        """Return the votes of all cells: (k G, k)."""
        k = self._p.shape[1] // self.n_groups
        if not self._asked or (weight == 0.0 and not self.joint):
            return torch.eye(k, dtype=torch.float64).repeat_interleave(self.n_groups, dim=0)
        if (weight, known) not in self._found:
            dual = self._dual(known)
            if not isinstance(weight, tuple):  # each solution starts at the one before
                for before in sorted(each for each in self.along if 0.0 < each < weight):
                    dual.scores(before)
            self._found[weight, known] = votes(dual.scores(weight).flatten(0, 1))
        return self._found[weight, known]

    def worst(self, weight: Any) -> Worst | None:
        """Return what the votes of a weight are to reach, if they are for the worst cell."""
        if not self._asked or weight == 0.0:
            return None
        dual = self._dual(known=False)
        return dual.worst(weight) if isinstance(dual, MaximinDual) else None

    def shares(self, weight: Any, *, known: bool = False) -> tuple[float, ...] | None:
        """Return what each of several limits takes away."""
        if not self.joint:
            return None
        dual = self._dual(known)
        assert isinstance(dual, JointDual)
        return tuple(dual.shares(weight))

    def check(self) -> None:
        """Refuse probabilities that lead to no votes, before these are asked for."""
        if self._asked:
            self._dual(known=True)

    def idle(self) -> bool:
        """Tell whether there is nothing to take away."""
        return bool(self._asked) and self._dual(known=False).idle()

    def _dual(self, known: bool) -> ParityDual | MaximinDual | JointDual:
        if known not in self._duals:
            n_groups, p = self.n_groups, self._p
            if known:
                p = _within_groups(p, self._cells % n_groups, n_groups)
            rows, rule = self._counts.reshape(-1, n_groups), self._asked[0]
            dual: ParityDual | MaximinDual | JointDual
            if self.joint:
                dual = JointDual(
                    *(p, self._w, self._demands, self._asked),
                    n_groups=n_groups,
                    cells=self._cells,
                    rows=rows,
                )
            elif rule.largest:
                dual = MaximinDual(p, self._w, rule, n_groups=n_groups, rows=rows)
            else:
                dual = ParityDual(p, self._w, rule, n_groups=n_groups, cells=self._cells)
            self._duals[known] = dual
        return self._duals[known]


def _within_groups(p: Tensor, codes: Tensor, n_groups: int) -> Tensor:
    """Return the probabilities (n, k G) of cells where each row's group (n,) is known."""
    own = nn.functional.one_hot(codes, n_groups).double().repeat(1, p.shape[1] // n_groups)
    there = p * own
    return there / there.sum(dim=1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny)


class _PlugInFitter(HeadFitter):
    """Trains one head of cells, and finds votes for each weight."""

    def __init__(self, problem: Problem, seed: Any, *, by_default: bool, **settings: Any) -> None:
        self._by_default = by_default
        super().__init__(problem, seed, **settings)

    def _prepare(self) -> None:
        # Cells that occur; others have no rows to be told apart by.
        codes = self._cell_codes(self._rows)
        self._cells = torch.unique(codes[self._rows.w > 0])
        self._n_outputs = len(self._cells)
        self._target = self._with_targets(self._rows)
        earlier = self._problem.earlier
        self._measure(None if earlier is None else self._without_votes(earlier), hidden=True)

    def _with_targets(self, rows: TensorRows) -> TensorRows:
        codes = torch.searchsorted(self._cells, self._cell_codes(rows))
        codes.clamp_max_(self._n_outputs - 1)  # of rows of weight zero, which are none
        return TensorRows(rows.Z, codes, rows.w, rows.codes)

    def _without_votes(self, earlier: nn.Module) -> nn.Module:
        """Return the layers of an earlier fit's head before its votes."""
        assert isinstance(earlier, nn.Sequential)
        *layers, vote = earlier
        if not isinstance(vote, CellVote) or len(vote.vote) != self._n_outputs:
            raise ValueError(
                "warm_start=True goes on from a head for other cells of class and group than the "
                f"{self._n_outputs} of this data; set warm_start=False."
            )
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def fit(self, weight: float = 0.0, near: FittedHead | None = None) -> FittedHead:
        """Return the head of cells with the votes of one fairness weight."""
        rules = self.rules
        if weight > 0.0 and rules.idle():
            self.say_alike()
        return self.cell_head.voting(rules, weight, weight)

    def say_alike(self) -> None:
        """Say once that there is nothing to take away."""
        self._report_alike(_SAME_DECISIONS)

    def unconstrained(self) -> nn.Module:
        """Return the head that a constraint starts from, whose cells vote for their own class."""
        own = self._cells // self._problem.n_groups
        labels = nn.functional.one_hot(own, self._problem.n_classes)
        return nn.Sequential(
            *_layers(super().unconstrained()), CellVote(labels.double(), labels=own)
        )

    @cached_property
    def cell_head(self) -> _CellHead:
        """The head of cells, without votes."""
        found = self._decomposition.at(0.0)
        tail = self._measured.start.tail
        fitted = self._finish(self._cut(found, 0.0), tail, found.S, train=not self._at_end)
        return _CellHead(fitted, self._cells)

    @cached_property
    def _at_end(self) -> bool:
        """Whether the head is at the optimum as it was fitted, where training would stay."""
        problem, S = self._problem, self._decomposition.at(0.0).S
        if not self._by_default or problem.head is not None or problem.earlier is not None:
            return False
        rank = None if problem.rank is None else resolve_rank(problem.rank, S)
        return rank is None or rank >= int((S / S[0] > _ROUNDING).sum())

    def of_folds(self, folds: Folds, shares: list[Tensor]) -> list[_Part] | None:
        """Return the heads of each fold's rows to fit, where these take no more than one fit.

        Of parts the shares (n, G) of their groups are those of each fold.
        """
        if not self._at_end:  # else some rows may be held out to stop early
            return None
        parts = self._parts
        held_out = folds.codes(self._rows.w.numpy() if parts is None else parts.whole[2])
        if held_out is None:
            return None
        start, codes = self._measured.start, torch.from_numpy(held_out)
        found = fit_linear_heads_of_folds(
            self._target,
            self._n_outputs,
            self.C,
            codes if parts is None else codes[parts.of],
            (start.weight, start.bias),
            None if parts is None else [parts.weights(each) for each in shares],
        )
        return [_Part(LowRankHead(W, None, b), self._spread) for W, b in found]

    @cached_property
    def rules(self) -> _Rules:
        """The votes that are found by the rows that are fitted."""
        p = self.probabilities(self._rows.Z)
        return _Rules(self._problem, self._rows, p, self._parts)

    def probabilities(self, Z: Features) -> Tensor:
        """Return the probabilities (n, k G) of the cells."""
        return self._spread(head_scores(self.cell_head.fitted.head, Z))

    def _spread(self, scores: Tensor) -> Tensor:
        width = self._problem.n_classes * self._problem.n_groups
        p = torch.zeros(len(scores), width, dtype=torch.float64)
        p[:, self._cells] = torch.softmax(scores, dim=1)
        return p


class _CellHead(NamedTuple):
    """A head of cells (c,), by their codes."""

    fitted: FittedHead
    cells: Tensor

    def voting(self, rules: _Rules, weight: Any, known_weight: Any) -> FittedHead:
        """Return the head with the votes of a weight, and those for rows of known groups."""
        vote, known_vote = rules.votes(weight), rules.votes(known_weight, known=True)
        labels, groups = self.cells // rules.n_groups, self.cells % rules.n_groups
        last = CellVote(vote[self.cells], groups, known_vote[self.cells], labels)
        layers = copy.deepcopy(_layers(self.fitted.head))
        return replace(
            self.fitted,
            head=nn.Sequential(*layers, last),
            worst=rules.worst(weight),
            shares=rules.shares(weight),
            known_shares=rules.shares(known_weight, known=True),
        )


class _Voter(NamedTuple):
    """A head of cells, whoever fitted it, and what says that there is nothing to take away."""

    cell_head: _CellHead
    say_alike: Callable[[], None]


class _Part(NamedTuple):
    """A head of cells, of the rows of a fold."""

    head: nn.Module
    spread: Callable[[Tensor], Tensor]

    def probabilities(self, Z: Features) -> Tensor:
        """Return the probabilities (n, k G) of the cells."""
        return self.spread(head_scores(self.head, Z))


class _CellTrials(Trials):
    """Votes of each weight, by one head of cells, or of one for each fold."""

    def __init__(
        self,
        fitter: _PlugInFitter | _Voter,
        rules: _Rules,
        rows: TensorRows,
        p: Tensor,
        *,
        refit: bool,
        tuned: bool | None = None,
        parts: Parts | None = None,
    ) -> None:
        # Where they are fitted, too, the votes are found on them.
        super().__init__(rows, refit=refit, tuned=refit if tuned is None else tuned, parts=parts)
        self.separate = rules.joint
        self._fitter, self._rules, self._p = fitter, rules, p

    def path(
        self, weights: NDArray[np.float64], *, known: bool = False, heads: bool = False
    ) -> Iterator[Trial]:
        """Yield the votes' scores for each weight; as `Trials.path`."""
        self._rules.along = tuple(weights.tolist())
        for weight in weights.tolist():
            yield self._scored(weight, known)

    def between(self, weight: Any, near: Any, *, known: bool = False) -> Trial:
        """Return the votes' scores for a weight; as `Trials.between`."""
        return self._scored(weight, known)

    def maker(self, trial: Trial, known: Trial | None = None) -> Callable[[], FittedHead]:
        """Hand out the head of cells with the votes; as `Trials.maker`."""
        if np.any(trial.weight) and self._rules.idle():
            self._fitter.say_alike()
        self._rules.check()
        weight = trial.weight if known is None else known.weight
        return partial(self._fitter.cell_head.voting, self._rules, trial.weight, weight)

    def _scored(self, weight: Any, known: bool) -> Trial:
        if self._fitter.cell_head.fitted.interrupted:
            raise KeyboardInterrupt
        votes = self._rules.votes(weight, known=known)
        return Trial(weight, safe_log((self._known if known else self._p) @ votes))

    @cached_property
    def _known(self) -> Tensor:
        assert self.rows.codes is not None
        return _within_groups(self._p, self.rows.codes, self._rules.n_groups)


def _layers(head: nn.Module) -> list[nn.Module]:
    return list(head) if isinstance(head, nn.Sequential) else [head]
