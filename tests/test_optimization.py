"""Which optimizer the parameters stand for."""

import pytest
import torch

from skfairft.head.optimization import resolve_optimizer

PLAIN = {"lr": None, "weight_decay": 0.0, "batch_size": None}


class TestChoice:
    @pytest.mark.parametrize(
        ("changes", "expected", "lr", "rows", "patience"),
        [
            ({}, torch.optim.LBFGS, 1.0, -1, 1),
            ({"lr": 0.1}, torch.optim.AdamW, 0.1, 100, 5),
            ({"batch_size": 7}, torch.optim.AdamW, 0.001, 7, 5),
            ({"nonlinear": True}, torch.optim.AdamW, 0.001, 100, 5),
            ({"optimizer": torch.optim.SGD, "patience": 2}, torch.optim.SGD, 0.001, 100, 2),
            ({"optimizer": torch.optim.LBFGS, "lr": 0.5}, torch.optim.LBFGS, 0.5, -1, 1),
        ],
    )
    def test_of_optimizer_rate_and_rows(self, changes, expected, lr, rows, patience):
        given = {**PLAIN, **changes}
        chosen = resolve_optimizer(given.pop("optimizer", None), None, **given)
        assert chosen.optimizer is expected
        assert (chosen.lr, chosen.patience) == (lr, patience)
        assert chosen.rows_per_step(1000) == rows

    def test_arguments_win_over_defaults(self):
        chosen = resolve_optimizer(None, {"line_search_fn": None}, **PLAIN)
        assert chosen.settings == {"line_search_fn": None, "history_size": 20}
        decay = {**PLAIN, "weight_decay": 0.1, "lr": 0.1}
        assert resolve_optimizer(None, {"eps": 1e-6}, **decay).settings == {
            "weight_decay": 0.1,
            "eps": 1e-6,
        }
        with pytest.raises(ValueError, match="weight_decay"):
            resolve_optimizer(None, {"weight_decay": 0.2}, **decay)

    @pytest.mark.parametrize(
        ("optimizer", "arguments", "words"),
        [
            (torch.optim.SparseAdam, {}, "dense gradients"),
            (torch.optim.AdamW, {"differentiable": True}, "leaf Variable"),
            (torch.optim.LBFGS, {"line_search_fn": "wolfe"}, "strong_wolfe"),
            (torch.optim.LBFGS, {"max_iter": 0}, "no step"),
            (torch.optim.SGD, {"param_groups": 3}, "list of pairs"),
            (torch.optim.SGD, {"param_groups": [], "momentums": 3}, "momentums"),
        ],
    )
    def test_what_cannot_take_a_step_is_refused(self, optimizer, arguments, words):
        with torch.inference_mode(), pytest.raises(ValueError, match=words):
            resolve_optimizer(optimizer, arguments, **PLAIN)

    def test_all_others_of_torch_can(self):
        kinds = [kind for kind in vars(torch.optim).values() if isinstance(kind, type)]
        refused = []
        for kind in kinds:
            if issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer:
                try:
                    resolve_optimizer(kind, None, **PLAIN)
                except ValueError:
                    refused.append(kind.__name__)
        assert set(refused) <= {"SparseAdam", "Muon"}  # Muon takes matrices alone
        assert len(kinds) > 5

    def test_groups_of_parameters_are_skorchs_to_check(self):
        groups = {"param_groups": [("head.A", {"lr": 0.1})]}
        chosen = resolve_optimizer(torch.optim.SGD, groups, **PLAIN)
        assert chosen.settings["param_groups"] == groups["param_groups"]
