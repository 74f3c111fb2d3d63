"""Slow, obvious references in float64, for comparison with the kernels.

Weight matrices are (d, k), inputs by outputs; ``tail`` maps the layer's outputs
to logits and is None where they are the logits.
"""

import itertools
import math

import numpy as np
import torch
from scipy.optimize import linprog
from torch.nn import functional as F

from skfairft.parity.table import TABLE

# Constraints of equal rates; of others the largest rate is to be small.
PARITIES = tuple(name for name, row in TABLE.items() if not row.largest)


def row_loss(weight, bias, z, label, tail=None):
    """Cross-entropy of one row z (d,)."""
    output = z @ weight + bias
    logits = output if tail is None else tail(output[None])[0]
    return torch.logsumexp(logits, dim=0) - logits[label]


def loop_gradients(weight, bias, Z, y, tail=None):
    """Per-sample gradients (n, d, k) of the loss at the weight matrix: one backward per row."""
    gradients = []
    for z, label in zip(Z.double(), y, strict=True):
        leaf = weight.detach().double().clone().requires_grad_()
        loss = row_loss(leaf, bias.double(), z, label, tail)
        gradients.append(torch.autograd.grad(loss, leaf)[0])
    return torch.stack(gradients)


def vmap_gradients(weight, bias, Z, y, tail=None):
    """Per-sample gradients (n, d, k) by torch.func."""

    def loss(weight, z, label):
        output = z @ weight + bias.double()
        logits = output if tail is None else tail(output[None])[0]
        return F.cross_entropy(logits, label)

    gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    return gradient(weight.double(), Z.double(), y)


def group_fisher(gradients, codes, n_groups, w=None):
    """Eq. 1 of per-sample gradients (n, d, k): for each group the mean square, rows summed."""
    w = torch.ones(len(gradients)) if w is None else w
    fisher = []
    for group in range(n_groups):
        total, count = 0.0, 0.0
        for gradient, code, weight in zip(gradients, codes, w.double(), strict=True):
            if code == group:
                total = total + weight * (gradient**2).sum(dim=1)
                count = count + weight
        fisher.append(total / count)
    return torch.stack(fisher)


def eckart_young(W, importance, rank):
    """Least Frobenius norm of diag(importance) (W - M) over all M of a rank, by eigenvalues."""
    weighted = importance.numpy()[:, None] * W.numpy()
    gram = weighted.T @ weighted if W.shape[0] > W.shape[1] else weighted @ weighted.T
    discarded = np.sort(np.linalg.eigvalsh(gram))[: len(gram) - rank]
    return math.sqrt(max(0.0, discarded.sum()))


def alternating_least_squares(W, importance, rank, seed, sweeps=300):
    """Minimize the same norm over A (d, r) and B (r, k) in turns, from a random start."""
    weighted = importance.numpy()[:, None] * W.numpy()
    B = np.random.default_rng(seed).normal(size=(rank, W.shape[1]))
    for _ in range(sweeps):
        left = np.linalg.lstsq(B.T, weighted.T, rcond=None)[0].T  # diag(importance) A
        B = np.linalg.lstsq(left, weighted, rcond=None)[0]
    return torch.from_numpy(left) / importance[:, None], torch.from_numpy(B)


def weighted_error(W, importance, A, B):
    """Frobenius norm of diag(importance) (W - A B)."""
    return float(torch.linalg.norm(importance[:, None] * (W - A @ B)))


def moments(Z, w):
    """Weighted mean and standard deviation (d,) of the columns, in longdouble."""
    Z, w = np.asarray(Z, dtype=np.longdouble), np.asarray(w, dtype=np.longdouble)[:, None]
    mean = (w * Z).sum(axis=0) / w.sum()
    return mean, np.sqrt((w * (Z - mean) ** 2).sum(axis=0) / w.sum())


def logistic_objective(coef, intercept, X, y, w, C):
    """What LogisticRegression minimizes: C sum_i w_i loss_i + ||coef||^2 / 2.

    ``coef`` is (1, d) for two classes (then the loss is that of the margin) and
    (k, d) otherwise, as in scikit-learn.
    """
    total = 0.0
    for x, label, weight in zip(X, y, w, strict=True):
        scores = coef @ x + intercept
        if len(coef) == 1:
            scores = np.array([0.0, scores[0]])
        total += weight * (np.logaddexp.reduce(scores) - scores[label])
    return C * total + 0.5 * (coef**2).sum()


def parity_moments(constraint, n_classes):
    """The moments of a constraint, by the class whose rates they are, the positive one.

    Each is a function that tells whether a true label (or an array of them) and a predicted one
    count, and the true labels of the rows that it is a rate of.
    """
    everyone = set(range(n_classes))
    if constraint == "error_rate_parity":
        return [[(lambda true, predicted: true != predicted, everyone)]]

    def moments(c):
        def positive(true, predicted):
            return predicted == c

        def negative(true, predicted):
            return predicted != c

        return {
            "demographic_parity": [(positive, everyone)],
            "equalized_odds": [(positive, {c}), (positive, everyone - {c})],
            "true_positive_rate_parity": [(positive, {c})],
            "false_positive_rate_parity": [(positive, everyone - {c})],
            "true_negative_rate_parity": [(negative, everyone - {c})],
            "false_negative_rate_parity": [(negative, {c})],
        }[constraint]

    return [moments(c) for c in ([1] if n_classes == 2 else range(n_classes))]


def group_rate(p, y, codes, w, counted, event, groups):
    """Weighted mean of what counts of p (n, k), over rows of some labels and groups, or None."""
    total, count = 0.0, 0.0
    for row in range(len(p)):
        if int(y[row]) in event and int(codes[row]) in groups:
            for label in range(p.shape[1]):
                if counted(int(y[row]), label):
                    total = total + w[row] * p[row, label]
            count = count + float(w[row])
    return total / count if count else None


def parity_penalty(p, y, codes, w, constraint, n_groups, form):
    """``sum(gaps**2)`` or the distance, of probabilities (n, k); differentiable in them.

    Where rates are equal the distance is rounded off, at a width of 1e-4.
    """
    squares, distances = torch.zeros(()).double(), []
    for moments in parity_moments(constraint, p.shape[1]):
        distance = torch.zeros(()).double()
        for counted, event in moments:
            pooled = group_rate(p, y, codes, w, counted, event, set(range(n_groups)))
            each = [group_rate(p, y, codes, w, counted, event, {g}) for g in range(n_groups)]
            rates = [rate for rate in each if rate is not None]
            for rate in rates:
                squares = squares + (rate - pooled) ** 2
            if len(rates) > 1:
                distance = distance + ((max(rates) - min(rates)) ** 2 + 1e-8) ** 0.5 - 1e-4
        distances.append(distance)
    return squares if form == "squared_gaps" else max(distances)


def parity_distance(y, predicted, codes, constraint, n_classes):
    """The distance of decisions: arrays (n,) of true and predicted labels and of groups."""
    if constraint.startswith("worst_false"):
        rates = [
            np.mean((predicted == c)[own] if constraint.endswith("positive_rate") else miss[own])
            for c in ([1] if n_classes == 2 else range(n_classes))
            for g in np.unique(codes)
            for miss in [predicted != c]
            for own in [
                (codes == g) & ((y != c) if constraint.endswith("positive_rate") else (y == c))
            ]
        ]
        return max(rates)
    if constraint in ("worst_group", "worst_error_rate"):
        cells = [codes == g for g in np.unique(codes)]
        if constraint == "worst_group":
            cells = [own & (y == label) for own in cells for label in np.unique(y)]
        return max(np.mean((y != predicted)[own]) for own in cells if own.any())

    def difference(counted, event):
        inside, counts = np.isin(y, list(event)), counted(y, predicted)
        return np.ptp([np.mean(counts[inside & (codes == g)]) for g in np.unique(codes)])

    return max(
        sum(difference(counted, event) for counted, event in moments)
        for moments in parity_moments(constraint, n_classes)
    )


def randomized_optimum(p, w, constraint, n_classes, n_groups, bound, columns=None):
    """Most expected accuracy of any rule whose rates differ between groups by a bound at most.

    ``p`` (n, k * G) are the probabilities of label y and group g, at column y * G + g. A linear
    program over the probability h[x, j] with which point x is given label j. ``columns`` are lists
    of sets of groups, within each of which rates are compared, in place of the groups.
    """
    columns = columns or [[{g} for g in range(n_groups)]]
    p = p.numpy().reshape(len(p), n_classes, n_groups)
    share = (w / w.sum()).numpy()
    gain = share[:, None] * p.sum(axis=2)
    differences = []
    for moments in parity_moments(constraint, n_classes):
        for (counted, event), column in itertools.product(moments, columns):
            rates = []
            for level in column:
                rate, total = np.zeros((len(p), n_classes)), 0.0
                for y, g in itertools.product(event, level):
                    cells = share * p[:, y, g]
                    total += cells.sum()
                    for label in range(n_classes):
                        rate[:, label] += cells * counted(y, label)
                rates.append(rate.ravel() / total)
            differences += [a - b for a in rates for b in rates if a is not b]
    found = linprog(
        -gain.ravel(),
        A_ub=np.array(differences),
        b_ub=np.full(len(differences), bound),
        A_eq=np.kron(np.eye(len(p)), np.ones(n_classes)),
        b_eq=np.ones(len(p)),
        bounds=(0.0, 1.0),
    )
    assert found.success
    return -found.fun


def worst_optimum(p, w, constraint, n_classes, n_groups, weight, columns=None):
    """Most of ``(1 - weight) accuracy - weight worst`` of any rule, and its least largest rate.

    As `randomized_optimum`, with the largest error of the cells, or of the groups, as one unknown.
    """
    p = p.numpy().reshape(len(p), n_classes, n_groups)
    share = (w / w.sum()).numpy()
    gain = share[:, None] * p.sum(axis=2)
    levels = [level for column in columns or [[{g} for g in range(n_groups)]] for level in column]
    units = [[(y, g) for y in range(n_classes) for g in level] for level in levels]
    if constraint == "worst_group":
        units = [[(y, g) for g in level] for level in levels for y in range(n_classes)]
    rows, right = [], []
    for unit in units:
        rate, total = np.zeros((len(p), n_classes)), 0.0
        for y, g in unit:
            rate[:, y] += share * p[:, y, g]
            total += (share * p[:, y, g]).sum()
        rows.append(np.append(-rate.ravel() / total, -1.0))  # 1 - right / total <= worst
        right.append(-1.0)

    def solved(weight):
        found = linprog(
            np.append(-(1.0 - weight) * gain.ravel(), weight),
            A_ub=np.array(rows),
            b_ub=np.array(right),
            A_eq=np.column_stack([np.kron(np.eye(len(p)), np.ones(n_classes)), np.zeros(len(p))]),
            b_eq=np.ones(len(p)),
            bounds=[(0.0, 1.0)] * (len(p) * n_classes) + [(0.0, 1.0)],
        )
        assert found.success
        return found.fun

    return -solved(weight), solved(1.0)


def rate_rows(p, share, constraint, n_classes, n_groups):
    """Yield, of each class, what each h[x, j] adds to its rates, by group: a list of (G, n * k)."""
    classes = [1] if n_classes == 2 else range(n_classes)
    if constraint == "worst_group":
        found = [[(lambda y, j: y != j, {c})] for c in range(n_classes)]
    elif constraint == "worst_error_rate":
        found = [[(lambda y, j: y != j, set(range(n_classes)))]]
    elif constraint == "worst_false_negative_rate":
        found = [[(lambda y, j: y != j, {c})] for c in classes]
    elif constraint == "worst_false_positive_rate":
        everything = set(range(n_classes))
        found = [[(lambda y, j, c=c: j == c, everything - {c})] for c in classes]
    else:
        found = parity_moments(constraint, n_classes)
    for moments in found:
        of_class = []
        for counted, event in moments:
            rates = np.zeros((n_groups, len(p), n_classes))
            for g in range(n_groups):
                total = sum((share * p[:, y, g]).sum() for y in event)
                for y, j in itertools.product(event, range(n_classes)):
                    rates[g, :, j] += share * p[:, y, g] * counted(y, j) / total
            of_class.append(rates.reshape(n_groups, -1))
        yield of_class


def joint_optimum(p, w, demands, n_classes, n_groups, limits):
    """Most expected accuracy of any rule that keeps several limits, NaN if none does.

    As `randomized_optimum`. Demands are pairs of a constraint and "difference" (the sum over the
    rates of a class), "largest rate" or "ratio", of which a limit is how much the smallest ratio
    may fall short of 1.
    """
    p = p.numpy().reshape(len(p), n_classes, n_groups)
    share = (w / w.sum()).numpy()
    rows, right = [], []
    for (constraint, form), limit in zip(demands, limits, strict=True):
        for of_class in rate_rows(p, share, constraint, n_classes, n_groups):
            if form == "largest rate":
                rows += [rate for rates in of_class for rate in rates]
            elif form == "ratio":
                rows += [
                    (1.0 - limit) * a - b
                    for rates in of_class
                    for a, b in itertools.permutations(rates, 2)
                ]
            else:
                apart = [[a - b for a, b in itertools.permutations(rates, 2)] for rates in of_class]
                rows += [sum(each) for each in itertools.product(*apart)]
            right += [0.0 if form == "ratio" else limit] * (len(rows) - len(right))
    found = linprog(
        -(share[:, None] * p.sum(axis=2)).ravel(),
        A_ub=np.array(rows),
        b_ub=np.array(right),
        A_eq=np.kron(np.eye(len(p)), np.ones(n_classes)),
        b_eq=np.ones(len(p)),
        bounds=(0.0, 1.0),
    )
    return -found.fun if found.success else np.nan
