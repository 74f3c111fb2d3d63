"""Fine-tuning with a parity penalty: what it minimizes, and how much disparity it removes."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from oracles import PARITIES, parity_penalty
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from skfairft.datasets import make_biased_classification
from skfairft.head.modules import StandardizedHead
from skfairft.head.outputs import fit_linear_head
from skfairft.head.training import TensorBatches, TensorRows, fine_tune
from skfairft.lowrank.layer import LowRankHead
from skfairft.lowrank.moments import column_moments
from skfairft.parity.constraints import parity
from skfairft.parity.penalty import ParityPenalty
from skfairft.parity.running_mass import RunningMass
from skfairft.parity.sums import cell_counts, mass_table
from skfairft.parity.table import RATES, TABLE
from skfairft.rows import mapped
from skfairft.solvers.strength import penalty_strength, stiffness

FORMS = ["squared_gaps", "distance"]
# Rates that are what others leave to 1 have their penalty: see test_constraint_table.
COMPLEMENTS = ("true_negative_rate_parity", "false_negative_rate_parity")
DISTINCT = [name for name in PARITIES if name not in COMPLEMENTS]
CPU = torch.device("cpu")
# Tight enough for what is compared with an optimum. Where the penalty is stiff, the last digits of
# the loss take 12 epochs or 222, depending on how sums are rounded.
EXACT = {
    "tol": 1e-14,
    "max_epochs": 2000,
    "optimizer_kwargs": {"tolerance_grad": 1e-12, "tolerance_change": 1e-16},
}
ADAMW = {"optimizer": torch.optim.AdamW, "lr": 0.02, "batch_size": 32, "tol": None}
# A learning rate that holds the parameters, so that all batches see the same head.
STILL = {"optimizer": torch.optim.SGD, "lr": 1e-300, "batch_size": 32, "tol": None}


def make_rows(n=300, weighted=True, random_state=0, **kwargs):
    X, y, s = make_biased_classification(n, random_state=random_state, **kwargs)
    w = np.random.default_rng(0).exponential(size=n) if weighted else np.ones(n)
    return TensorRows(*map(torch.from_numpy, (X, y, w, s))).with_unit_mean_weights()


def classes_of(rows):
    return int(rows.y.max()) + 1


def l2_of(rows):
    return (2.0 if classes_of(rows) == 2 else 1.0) / len(rows)


def make_module(rows):
    """The head without a penalty, as the classifier finds it first."""
    weight, bias = fit_linear_head(
        TensorRows(rows.Z, rows.y, rows.w * len(rows)), classes_of(rows), 1.0
    )
    return StandardizedHead(
        LowRankHead(weight, None, bias), None, *column_moments(rows.Z, rows.w), None, torch.float64
    )


def make_hidden(rows, *, width=5, dropout=0.0, seed=0):
    rng, k = np.random.default_rng(seed), classes_of(rows)
    weight = torch.from_numpy(rng.normal(size=(rows.Z.shape[1], width))) / 3
    output = nn.Linear(width, k, dtype=torch.float64)
    return StandardizedHead(
        LowRankHead(weight, None, torch.zeros(width).double()),
        nn.Sequential(nn.Tanh(), nn.Dropout(dropout), output),
        *column_moments(rows.Z, rows.w),
        torch.linspace(0.5, 2.0, width).double(),
        torch.float64,
    )


def count_of(rows):
    n_groups = int(rows.codes.max()) + 1
    return cell_counts(rows, n_classes=classes_of(rows), n_groups=n_groups)


def make_penalty(rows, constraint="demographic_parity", strength=5.0, form="squared_gaps"):
    return ParityPenalty(parity(constraint, classes_of(rows)), count_of(rows), strength, form)


def train(module, rows, penalty, valid=None, **changes):
    settings = {
        "n_classes": classes_of(rows),
        "l2": l2_of(rows),
        "optimizer": None,
        "optimizer_kwargs": None,
        "lr": None,
        "weight_decay": 0.0,
        "batch_size": None,
        "max_epochs": 100,
        "tol": 1e-4,
        "patience": 5,
        "callbacks": None,
        "device": CPU,
        "seed": 0,
        "verbose": 0,
    }
    return fine_tune(module, rows, valid, penalty=penalty, **{**settings, **changes})


def proba(module, rows):
    return torch.softmax(module(rows.Z), dim=1)


def gaps_of(module, rows, moments):
    count = count_of(rows)
    mass, _ = mass_table(proba(module, rows).detach(), rows, n_groups=count.shape[1])
    return moments.gaps(moments.rates(mass, count), count)


def constraint_of(moments):
    """The name of the constraint that has these rates."""
    rates = {name: tuple(RATES[rate] for rate in row.rates) for name, row in TABLE.items()}
    rates = {name: rates[name] for name in PARITIES}
    return next(name for name, kinds in rates.items() if kinds == moments.kinds)


def objective(module, rows, l2, penalty, weight=1.0):
    """Cross-entropy, L2 penalty and parity penalty by their definitions."""
    each = F.cross_entropy(module(rows.Z), rows.y, reduction="none")
    value = parity_penalty(
        proba(module, rows),
        rows.y,
        rows.codes,
        rows.w,
        constraint_of(penalty.parity),
        penalty.count.shape[1],
        penalty.form,
    )
    loss = (rows.w * each).sum() / rows.w.sum()
    return loss + l2 / 2 * module.squared_norm() + penalty.strength * value


def gradients(value, module):
    return torch.autograd.grad(value, list(module.parameters()))


def assert_same_parameters(ours, theirs):
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def same_parameters(ours, theirs):
    state = theirs.state_dict()
    return all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


class Gradients(Callback):
    """Keep the gradients of each batch."""

    def __init__(self):
        self.all = []

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.all.append([p.grad.clone() for _, p in named_parameters])


class TestObjective:
    # One block, and some of which the last is shorter; more sizes in the slow run.
    @pytest.mark.parametrize(
        "block", [7, 60, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 40))]
    )
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("constraint", DISTINCT)
    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.some(3)
    def test_is_loss_plus_penalty_whatever_the_blocks(
        self, k, constraint, form, block, monkeypatch
    ):
        rows = make_rows(60, n_classes=k, n_groups=3)
        module = make_module(rows)
        penalty = make_penalty(rows, constraint, 3.0, form)
        net = train(copy.deepcopy(module), rows, penalty, max_epochs=0)
        expected = objective(module, rows, l2_of(rows), penalty)
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", block)
        step = net.train_step_single(rows[:])
        assert step["loss"].item() == pytest.approx(expected.item(), rel=1e-12)
        oracle = gradients(expected, module)
        for parameter, gradient in zip(net.module_.parameters(), oracle, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-13)
        # The penalty is a part of it that shows.
        plain = objective(module, rows, l2_of(rows), make_penalty(rows, constraint, 0.0, form))
        assert expected > plain + 1e-3
        assert not torch.allclose(gradients(plain, module)[0], oracle[0], rtol=0.01)

    @pytest.mark.parametrize("intensity", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
    def test_of_retraining_is_loss_plus_intensity_times_distance(self, constraint, intensity):
        rows = make_rows()
        module = make_module(rows)
        net = train(module, rows, make_penalty(rows, constraint, intensity, "distance"))
        inputs, y = rows[:]
        logits = module(rows.Z)
        moments = parity(constraint, 2)
        mass, count = mass_table(
            torch.softmax(logits, dim=1), TensorRows(logits, y, rows.w, rows.codes), n_groups=2
        )
        distance = moments.distance(moments.rates(mass, count))
        each = (rows.w * F.cross_entropy(logits, y, reduction="none")).mean()
        expected = each + l2_of(rows) / 2 * module.squared_norm() + intensity * distance
        loss = net.get_loss(net.infer(inputs), y, X=inputs, training=True)
        rounding = intensity * 1e-4 * len(moments.events)
        assert expected.item() - rounding <= loss.item() <= expected.item() + 1e-12
        # Outside training it is the loss alone.
        assert net.get_loss(logits, y, X=inputs).item() == pytest.approx(each.item(), rel=1e-12)

    @pytest.mark.parametrize("intensity", [0.1, 0.9])
    def test_of_retraining_is_what_training_lowers(self, intensity):
        rows = make_rows(2000)
        penalty = make_penalty(rows, strength=intensity, form="distance")
        module = make_module(rows)
        start = copy.deepcopy(module)
        train(module, rows, penalty)
        before = parity("demographic_parity", 2)
        low, high = (objective(some, rows, l2_of(rows), penalty).item() for some in (module, start))
        assert low < high - 0.001
        assert gaps_of(module, rows, before).abs().max() < gaps_of(start, rows, before).abs().max()

    @pytest.mark.parametrize("constraint", DISTINCT)
    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.some(2)
    def test_has_no_gradient_where_full_batches_end(self, k, constraint):
        rows = make_rows(n_classes=k)
        module = make_module(rows)
        penalty = make_penalty(rows, constraint)
        start = gradients(objective(module, rows, l2_of(rows), penalty), module)
        train(module, rows, penalty, **EXACT)
        end = gradients(objective(module, rows, l2_of(rows), penalty), module)
        assert max(float(g.abs().max()) for g in start) > 1e-2
        assert max(float(g.abs().max()) for g in end) < 1e-5

    def test_with_blocks_ends_where_it_ends_without(self, monkeypatch):
        rows = make_rows()
        whole, blocks = make_module(rows), make_module(rows)
        train(whole, rows, make_penalty(rows), **EXACT)
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", 37)
        train(blocks, rows, make_penalty(rows), **EXACT)
        plain = make_module(rows)
        torch.testing.assert_close(proba(blocks, rows), proba(whole, rows), rtol=0, atol=1e-6)
        assert not torch.allclose(proba(plain, rows), proba(whole, rows), rtol=0, atol=0.05)

    @pytest.mark.parametrize("settings", [{}, {**ADAMW, "max_epochs": 3}])
    @pytest.mark.parametrize("block", [10, 1000])
    def test_is_the_same_for_features_in_a_file(self, settings, block, monkeypatch):
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", block)
        rows = make_rows()
        file = mapped.allocate_features(rows.Z.shape, "float64", limit=0)
        file[:] = rows.Z.numpy()
        moments = parity("equalized_odds", 2)
        stored = TensorRows(file, rows.y, rows.w, rows.codes)
        assert stiffness(make_module(rows), stored, moments, l2=0.1) == stiffness(
            make_module(rows), rows, moments, l2=0.1
        )
        heads = [make_module(rows) for _ in range(2)]
        for module, some in zip(heads, (rows, stored), strict=True):
            train(module, some, make_penalty(rows), some.take(np.arange(90)), **settings)
        assert_same_parameters(*heads)

    def test_counts_a_weight_of_two_as_the_row_twice(self):
        rows = make_rows(weighted=False)
        times = torch.from_numpy(np.random.default_rng(1).integers(1, 4, size=len(rows)))
        weighted = TensorRows(rows.Z, rows.y, times.double(), rows.codes)
        repeated = TensorRows(
            *(values.repeat_interleave(times, dim=0) for values in (rows.Z, rows.y)),
            None,
            rows.codes.repeat_interleave(times),
        )
        heads = []
        for some in (weighted, repeated, rows):
            module = make_module(rows)
            scaled = some.with_unit_mean_weights()
            train(module, scaled, make_penalty(scaled), l2=0.01, **EXACT)
            heads.append(proba(module, rows))
        torch.testing.assert_close(heads[0], heads[1], rtol=0, atol=1e-6)
        assert not torch.allclose(heads[0], heads[2], rtol=0, atol=1e-3)


class TestNoPenalty:
    @pytest.mark.parametrize("settings", [{}, {**ADAMW, "max_epochs": 3}])
    @pytest.mark.parametrize("hold_out", [False, True])
    def test_of_strength_zero_is_none(self, settings, hold_out):
        rows = make_rows()
        valid = make_rows(90, random_state=1) if hold_out else None
        heads = [make_module(rows) for _ in range(4)]
        none = train(heads[0], rows, None, valid, **settings)
        zero = train(heads[1], rows, make_penalty(rows, strength=0.0), valid, **settings)
        # Groups of which nothing is asked change nothing either.
        without = TensorRows(rows.Z, rows.y, rows.w)
        train(heads[2], without, None, valid, **settings)
        some = train(heads[3], rows, make_penalty(rows), valid, **settings)
        assert_same_parameters(heads[1], heads[0])
        assert_same_parameters(heads[2], heads[0])
        assert not same_parameters(heads[3], heads[0])
        assert zero.history[:, "train_loss"] == none.history[:, "train_loss"]
        assert some.history[0, "train_loss"] > none.history[0, "train_loss"]


DATA = {
    "plain": {},
    "few in a group": {"group_proportions": [0.95, 0.05], "proxy": 0.5},
    "hard": {"class_sep": 0.3, "disparity": 0.5},
    "wide": {"n_features": 30, "n_samples": 600},
    "rare class": {"n_samples": 4000, "positives": 0.1},
    "small scale": {"scale": 1e-4},
}


def make_data(name):
    kwargs = dict(DATA[name])
    scale, n = kwargs.pop("scale", 1.0), kwargs.pop("n_samples", 2000)
    positives = kwargs.pop("positives", 1.0)
    rows = make_rows(n, weighted=False, **kwargs)
    keep = np.flatnonzero((rows.y == 0) | (torch.arange(n) % 1000 < 1000 * positives))
    return TensorRows(scale * rows.Z, rows.y, rows.w, rows.codes).take(keep)


class TestCalibration:
    def removed(self, rows, constraint, weight, strength=None):
        """The share of the gaps that training removes, and the trained head."""
        moments = parity(constraint, classes_of(rows))
        module = make_module(rows)
        train(module, rows, None, **EXACT)
        before = gaps_of(module, rows, moments)
        if strength is None:
            c = stiffness(module, rows, moments, l2=l2_of(rows))
            strength = penalty_strength(c, weight)
        train(module, rows, make_penalty(rows, constraint, strength), **EXACT)
        after = gaps_of(module, rows, moments)
        return 1.0 - float(after.norm() / before.norm()), module

    @pytest.mark.parametrize("constraint", ["demographic_parity", "true_positive_rate_parity"])
    @pytest.mark.parametrize("data", DATA)
    @pytest.mark.some(2)
    def test_is_exact_to_first_order(self, data, constraint):
        share, _ = self.removed(make_data(data), constraint, 1e-3)
        # The stiffness itself may have an error of 0.003.
        assert share == pytest.approx(1e-3, rel=0.01)

    @pytest.mark.parametrize("weight", [0.25, 0.75])
    @pytest.mark.parametrize("constraint", DISTINCT)
    @pytest.mark.parametrize("data", DATA)
    @pytest.mark.some(4)
    def test_removes_about_the_share_asked_for(self, data, constraint, weight):
        share, _ = self.removed(make_data(data), constraint, weight)
        assert share < weight + 0.1
        # Where two moments are not equally stiff, less.
        assert share > weight - (0.25 if constraint == "equalized_odds" else 0.1)

    def test_takes_another_strength_for_other_data(self):
        # Control: no strength would do everywhere.
        plain, rare = make_data("plain"), make_data("rare class")
        c = stiffness(make_module(plain), plain, parity("demographic_parity", 2), l2=l2_of(plain))
        half = penalty_strength(c, 0.5)
        first, _ = self.removed(plain, "demographic_parity", None, half)
        more, _ = self.removed(rare, "true_positive_rate_parity", None, half)
        less, _ = self.removed(rare, "false_positive_rate_parity", None, half)
        assert first == pytest.approx(0.5, abs=0.1)
        assert more > 0.75
        assert less < 0.35

    @pytest.mark.parametrize("constraint", DISTINCT)
    @pytest.mark.parametrize("data", DATA)
    @pytest.mark.some(5)
    def test_all_of_it_is_parity_with_predictions_that_differ(self, data, constraint):
        rows = make_data(data)
        share, module = self.removed(rows, constraint, 1.0)
        assert share > (0.97 if constraint == "equalized_odds" else 0.99)
        assert proba(module, rows)[:, 1].std() > 0.05

    @pytest.mark.parametrize("k", [pytest.param(2, marks=pytest.mark.slow), 3])
    @pytest.mark.slow
    def test_of_several_groups_removes_less_than_asked_for_never_much_more(self, k):
        rows = make_rows(2000, weighted=False, n_classes=k, n_groups=3)
        for constraint in DISTINCT:
            for weight in (0.25, 0.75):
                share, _ = self.removed(rows, constraint, weight)
                assert weight - 0.25 < share < weight + 0.1

    @pytest.mark.parametrize("constraint", DISTINCT)
    @pytest.mark.parametrize("tail", [False, True])
    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.some(2)
    def test_is_the_formula_with_a_dense_hessian(self, k, tail, constraint, monkeypatch):
        rows = make_rows(200, n_classes=k, n_groups=3)
        moments = parity(constraint, k)
        module = make_hidden(rows) if tail else make_module(rows)
        l2, count = 0.05, count_of(rows)
        if tail:
            body = copy.deepcopy(module)
            body.tail = body.tail[:-1]
            X = (body.eval()(rows.Z) / module.output_scale).detach()
            weight = module.tail[-1].weight.T * module.output_scale[:, None]
            start = torch.cat([weight, module.tail[-1].bias[None]]).detach()
        else:
            X = (rows.Z - module.shift) / module.scale
            start = torch.cat([module.head.weight, module.head.bias[None]]).detach()

        def loss(flat):
            V = flat.reshape(start.shape)
            each = F.cross_entropy(X @ V[:-1] + V[-1], rows.y, reduction="none")
            return (rows.w * each).mean() + l2 / 2 * V[:-1].square().sum()

        def gaps(flat):
            V = flat.reshape(start.shape)
            p = torch.softmax(X @ V[:-1] + V[-1], dim=1)
            mass, _ = mass_table(p, rows, n_groups=3)
            return moments.gaps(moments.rates(mass, count), count).flatten()

        H = torch.autograd.functional.hessian(loss, start.flatten())
        A = torch.autograd.functional.jacobian(gaps, start.flatten())
        g0 = gaps(start.flatten())
        u = A.T @ g0 / g0.norm()
        c = 2 * u @ torch.linalg.pinv(H, rtol=1e-10) @ u
        ours = stiffness(module, rows, moments, l2=l2)
        assert ours == pytest.approx(1 / c.item(), rel=0.003)
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", 17)
        assert stiffness(module, rows, moments, l2=l2) == pytest.approx(ours, rel=1e-10)

    def test_leaves_the_module_alone(self):
        rows = make_rows()
        module = make_hidden(rows, dropout=0.5).train()
        before = copy.deepcopy(module)
        one, two = (stiffness(module, rows, parity("equalized_odds", 2), l2=0.1) for _ in "12")
        assert one == two  # without dropout
        assert_same_parameters(module, before)
        assert module.training
        assert all(parameter.requires_grad for parameter in module.parameters())

    def test_of_a_head_at_parity_is_finite(self):
        # A constant head; the training leaves it.
        rows = make_rows()
        module = make_module(rows)
        with torch.no_grad():
            module.head.A.zero_()
        moments = parity("demographic_parity", 2)
        assert not gaps_of(module, rows, moments).abs().max() > 1e-12
        constant = stiffness(module, rows, moments, l2=l2_of(rows))
        assert 0 < penalty_strength(constant, 0.5) < math.inf
        # And about what it is at the end.
        fitted = stiffness(make_module(rows), rows, moments, l2=l2_of(rows))
        assert 0.2 < constant / fitted < 5

    def test_of_gaps_that_cannot_change_is_no_penalty(self):
        rows = make_rows()
        rows = TensorRows(rows.Z, rows.y, rows.w, torch.zeros_like(rows.codes))
        c = stiffness(make_module(rows), rows, parity("demographic_parity", 2), l2=0.1)
        assert c == math.inf
        assert penalty_strength(c, 0.5) == penalty_strength(c, 1.0) == 0.0

    def test_strength_grows_without_a_jump_up_to_the_limit(self):
        weights = np.linspace(0, 1, 2001)
        strengths = [penalty_strength(2.0, weight) for weight in weights]
        assert (np.diff(strengths) >= 0).all()
        assert strengths[0] == 0
        assert strengths[-1] == penalty_strength(2.0, 1.0 - 1e-12) < math.inf


class TestRunningMass:
    def test_is_the_table_of_the_latest_probabilities(self):
        rows = make_rows(100, n_classes=3)
        rng = np.random.default_rng(0)
        p = torch.from_numpy(rng.dirichlet(np.ones(3), size=100))
        latest = p.clone()
        running = RunningMass(p.clone(), rows, n_groups=2)
        for _ in range(50):
            numbers = torch.from_numpy(rng.permutation(100)[:13])
            new = torch.from_numpy(rng.dirichlet(np.ones(3), size=13))
            latest[numbers] = new
            expected, _ = mass_table(latest, rows, n_groups=2)
            torch.testing.assert_close(running.update(numbers, new), expected)
        assert not torch.allclose(latest, p)

    def test_rounding_does_not_outlast_an_epoch(self):
        rows = make_rows(100)
        p = torch.full((100, 2), 0.5).double()
        running = RunningMass(p.clone(), rows, n_groups=2)
        exact = running.mass.clone()
        running.update(torch.arange(100), 1e9 * p)
        running.update(torch.arange(100), p)
        assert not torch.equal(running.mass, exact)
        running.refresh()
        assert torch.equal(running.mass, exact)


class TestMinibatches:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("constraint", DISTINCT)
    @pytest.mark.parametrize("block", [10_000, 10])
    @pytest.mark.some(2)
    def test_average_to_the_gradient_of_all_rows(self, constraint, form, block, monkeypatch):
        rows = make_rows(100, n_classes=3)
        module = make_module(rows)
        penalty = make_penalty(rows, constraint, 3.0, form)
        expected = objective(module, rows, l2_of(rows), penalty)
        oracle = gradients(expected, module)
        monkeypatch.setattr(mapped, "_BLOCK_ROWS", block)
        seen = Gradients()
        net = train(module, rows, penalty, callbacks=[seen], max_epochs=2, **STILL)
        sizes = net.history[0, "batches", :, "train_batch_size"]
        assert sizes == [32, 32, 32, 4]
        for epoch in (seen.all[:4], seen.all[4:]):
            for i, gradient in enumerate(oracle):
                mean = sum(size * batch[i] for size, batch in zip(sizes, epoch, strict=True)) / len(
                    rows
                )
                torch.testing.assert_close(mean, gradient, rtol=1e-9, atol=1e-13)
        for loss in net.history[:, "train_loss"]:
            assert loss == pytest.approx(expected.item(), rel=1e-12)
        # No batch alone has it.
        assert not torch.allclose(seen.all[0][0], oracle[0], rtol=0.01)

    def rare(self):
        """4,000 rows, of which 12 are of the second group, predicted lower than the first."""
        rows = make_rows(4000, weighted=False, group_proportions=[0.997, 0.003], disparity=0.6)
        assert int((rows.codes == 1).sum()) == 12
        return rows

    def per_batch(self, module, rows, penalty, *, epochs, lr, batch_size):
        """Train with the rates of each batch, where a rare group's are noise."""
        optimizer = torch.optim.AdamW(module.parameters(), lr, weight_decay=0.0)
        batches = TensorBatches(rows, batch_size, seed=0)
        for _ in range(epochs):
            for inputs, y in batches:
                optimizer.zero_grad()
                logits = module(inputs["Z"])
                mass, count = mass_table(
                    torch.softmax(logits, dim=1),
                    TensorRows(logits, y, inputs["w"], inputs["codes"]),
                    n_groups=2,
                )
                own = ParityPenalty(penalty.parity, count, penalty.strength, penalty.form)
                loss = (inputs["w"] * F.cross_entropy(logits, y, reduction="none")).mean()
                shrinkage = l2_of(rows) / 2 * module.squared_norm()
                (loss + shrinkage + own.value(mass)).backward()
                optimizer.step()

    @pytest.mark.slow
    def test_do_not_lose_a_rare_group(self):
        rows = self.rare()
        moments = parity("demographic_parity", 2)
        start, full, ours, control = (make_module(rows) for _ in range(4))
        c = stiffness(start, rows, moments, l2=l2_of(rows))
        penalty = make_penalty(rows, strength=penalty_strength(c, 0.5))
        train(full, rows, penalty, **EXACT)
        settings = {"lr": 0.005, "batch_size": 64}
        train(ours, rows, penalty, tol=None, max_epochs=15, **settings)
        self.per_batch(control, rows, penalty, epochs=15, **settings)
        before, best, running, batch = (
            float(gaps_of(module, rows, moments)[0, 1].abs())
            for module in (start, full, ours, control)
        )
        assert best < 0.7 * before
        assert running == pytest.approx(best, abs=0.1 * before)
        assert abs(batch - best) > 3 * abs(running - best) + 0.1 * before
        assert abs(batch - best) > 0.3 * before

    def test_of_lbfgs_come_near_too(self):
        rows = make_rows(2000)
        penalty = make_penalty(rows)
        start, full, ours = (make_module(rows) for _ in range(3))
        train(full, rows, penalty, **EXACT)
        settings = {"optimizer": torch.optim.LBFGS, "tol": None, "max_epochs": 10}
        train(ours, rows, penalty, batch_size=500, **settings)
        target, begun, ended = (
            objective(module, rows, l2_of(rows), penalty).item() for module in (full, start, ours)
        )
        assert ended - target < 0.25 * (begun - target)

    def test_sum_the_table_anew_in_each_epoch(self):
        rows = make_rows()
        module = make_module(rows)
        expected = objective(module, rows, l2_of(rows), make_penalty(rows)).item()

        class Spoil(Callback):
            def on_epoch_end(self, net, **kwargs):
                net._running.mass += torch.arange(8.0).reshape(2, 2, 2)

        callbacks = [Spoil()]
        net = train(module, rows, make_penalty(rows), callbacks=callbacks, max_epochs=3, **STILL)
        assert net.history[:, "train_loss"] == pytest.approx([expected] * 3, rel=1e-12)

    def test_keep_nothing_of_the_rows(self):
        rows = make_rows(3000)
        net = train(make_module(rows), rows, make_penalty(rows), max_epochs=2, **ADAMW)
        assert net._running is None
        assert len(pickle.dumps(net)) < 0.3 * rows.Z.nbytes


class TestTraining:
    @pytest.mark.parametrize("settings", [{}, {**ADAMW, "max_epochs": 4}])
    @pytest.mark.parametrize("dropout", [None, 0.0, 0.5])
    @pytest.mark.some(2)
    def test_is_deterministic(self, settings, dropout):
        rows = make_rows()

        def run(strength, dropout=dropout):
            module = make_module(rows) if dropout is None else make_hidden_again(rows, dropout)
            settings_ = {"max_epochs": 3, "tol": None, **settings}
            train(module, rows, make_penalty(rows, strength=strength), **settings_)
            return module

        ours = run(5.0)
        torch.rand(1)  # the global random state moves on
        assert_same_parameters(ours, run(5.0))
        assert not same_parameters(ours, run(6.0))

    @pytest.mark.parametrize("settings", [{}, pytest.param(ADAMW, marks=pytest.mark.slow)])
    def test_of_a_hidden_layer_reduces_its_gaps(self, settings):
        rows = make_rows(400)
        moments = parity("demographic_parity", 2)
        some = {"max_epochs": 30, "tol": None, **settings}
        plain, fair = make_hidden_again(rows), make_hidden_again(rows)
        train(plain, rows, None, **some)
        c = stiffness(plain, rows, moments, l2=l2_of(rows))
        train(fair, rows, make_penalty(rows, strength=penalty_strength(c, 0.75)), **some)
        before, after = (float(gaps_of(m.eval(), rows, moments).norm()) for m in (plain, fair))
        assert after < 0.7 * before
        assert proba(fair, rows)[:, 1].std() > 0.05

    def test_goes_on_from_a_pickled_net(self):
        rows = make_rows()
        net = train(make_module(rows), rows, make_penalty(rows), max_epochs=2, **ADAMW)
        again = pickle.loads(pickle.dumps(net))
        assert again.penalty.strength == net.penalty.strength
        for some in (net, again):
            some.partial_fit(rows)
        assert len(net.history) == 4
        assert net.history[:, "train_loss"] == again.history[:, "train_loss"]
        assert_same_parameters(again.module_, net.module_)

    @pytest.mark.parametrize(
        "settings", [ADAMW, {"optimizer_kwargs": {"max_iter": 2}, "tol": None}]
    )
    def test_interrupted_keeps_the_last_whole_epoch(self, settings):
        rows = make_rows(320)

        class Interrupt(Callback):
            def on_grad_computed(self, net, named_parameters, **kwargs):
                if len(net.history) == 3:
                    raise KeyboardInterrupt

        heads = [make_module(rows) for _ in range(3)]
        net = train(heads[0], rows, make_penalty(rows), callbacks=[Interrupt()], **settings)
        assert net._running is None
        train(heads[1], rows, make_penalty(rows), max_epochs=2, **settings)
        train(heads[2], rows, make_penalty(rows), max_epochs=1, **settings)
        assert_same_parameters(heads[0], heads[1])
        assert not same_parameters(heads[0], heads[2])

    def test_an_error_of_a_callback_leaves_no_table(self):
        class Fail(Callback):
            def on_batch_end(self, net, **kwargs):
                self.net = net
                raise RuntimeError("from a callback")

        rows, fail = make_rows(), Fail()
        with pytest.raises(RuntimeError, match="from a callback"):
            train(make_module(rows), rows, make_penalty(rows), callbacks=[fail], **ADAMW)
        assert fail.net._running is None


def make_hidden_again(rows, dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make_hidden(rows, dropout=dropout)


class TestHoldOut:
    @pytest.mark.parametrize("settings", [{}, ADAMW])
    @pytest.mark.parametrize("form", FORMS)
    def test_loss_includes_the_penalty_at_its_own_table(self, settings, form):
        rows, valid = make_rows(), make_rows(90, random_state=1)
        penalty = make_penalty(rows, "equalized_odds", 3.0, form)
        module = make_module(rows)
        net = train(module, rows, penalty, valid, **{**settings, "max_epochs": 1, "tol": None})
        expected = objective(module, valid, 0.0, penalty).item()
        assert net.history[0, "valid_loss"] == pytest.approx(expected, rel=1e-12)
        plain = F.cross_entropy(module(valid.Z), valid.y, reduction="none")
        assert expected > (valid.w * plain).mean().item() + 1e-3

    def test_leaves_out_cells_it_does_not_have(self):
        rows, valid = make_rows(), make_rows(90, random_state=1)
        keep = np.flatnonzero(~((valid.y == 1) & (valid.codes == 1)).numpy())
        valid = valid.take(keep).with_unit_mean_weights()
        penalty = make_penalty(rows, "equalized_odds", 3.0)
        module = make_module(rows)
        net = train(module, rows, penalty, valid, max_epochs=1, tol=None)
        expected = objective(module, valid, 0.0, penalty).item()
        assert net.history[0, "valid_loss"] == pytest.approx(expected, rel=1e-12)

    @pytest.mark.slow
    def test_keeps_the_best_epoch_by_loss_and_penalty(self):
        data = make_rows(1500)
        rows, valid = (
            data.take(np.arange(*some)).with_unit_mean_weights() for some in ((1000,), (1000, 1500))
        )
        penalty = make_penalty(rows, strength=20.0)

        class Plain(Callback):
            losses: list
            states: list

            def on_epoch_end(self, net, **kwargs):
                with torch.no_grad():
                    each = F.cross_entropy(net.module_(valid.Z), valid.y, reduction="none")
                self.losses.append((valid.w * each).mean().item())
                self.states.append(copy.deepcopy(net.module_.state_dict()))

        plain = Plain()
        plain.losses, plain.states = [], []
        module = make_module(rows)
        settings = {**ADAMW, "lr": 0.002, "batch_size": 100, "tol": 1e-4, "max_epochs": 200}
        net = train(module, rows, penalty, valid, callbacks=[plain], **settings)
        best = int(np.argmin(net.history[:, "valid_loss"]))
        for name, value in plain.states[best].items():
            assert torch.equal(module.state_dict()[name], value)
        # By the loss alone it would have been one of the first, which are unfair.
        first = int(np.argmin(plain.losses))
        assert best > first + 3
        fair = gaps_of(module, valid, penalty.parity).norm()
        module.load_state_dict(plain.states[first])
        assert fair < 0.5 * gaps_of(module, valid, penalty.parity).norm()


class TestErrors:
    def test_rows_without_groups(self):
        rows = make_rows()
        without = TensorRows(rows.Z, rows.y, rows.w)
        for train_rows, valid in ((without, None), (rows, without)):
            with pytest.raises(ValueError, match="needs the groups of the rows"):
                train(make_module(rows), train_rows, make_penalty(rows), valid)

    def test_penalty_of_other_weights(self):
        rows = make_rows()
        other = TensorRows(rows.Z, rows.y, 2 * rows.w, rows.codes)
        with pytest.raises(ValueError, match=r"that of rows with the weights .* as they are"):
            train(make_module(rows), rows, make_penalty(other))
