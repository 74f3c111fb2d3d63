"""Adapters begin in the directions that every group uses; checked against peft's own EVA."""

import numpy as np
import pytest
import torch
from torch import nn

from skfairft import FairnessWarning, initialize_lora

peft = pytest.importorskip("peft")
N, D, R = 400, 8, 2

PISSA = peft.LoraConfig(r=R, target_modules=["0", "2"], init_lora_weights="pissa")


def rows(n=N, share=0.1):
    """Of two groups, the rarer of which varies in other directions."""
    rng = np.random.default_rng(0)
    rare = np.arange(n) < share * n
    sizes = np.where(rare[:, None], np.linspace(0.2, 3.0, D), np.linspace(3.0, 0.2, D))
    return torch.from_numpy(rng.normal(size=(n, D)) * sizes + 1.0).float(), rare


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 12), nn.Tanh(), nn.Linear(12, 3))


def adapted(network, *targets, **settings):
    config = peft.LoraConfig(r=R, target_modules=list(targets), **settings)
    return peft.get_peft_model(network, config, low_cpu_mem_usage=bool(settings))


def directions(model, name):
    return model.base_model.model.get_submodule(name).lora_A["default"].weight.detach().double()


def projection(A):
    Q = torch.linalg.qr(A.T).Q
    return Q @ Q.T


class TestDirections:
    @pytest.mark.parametrize(
        ("weights", "shares"),
        [(None, [0.5, 0.5]), ("proportional", [0.9, 0.1]), ({False: 0.3, True: 0.7}, [0.3, 0.7])],
    )
    def test_are_those_in_which_the_weighted_groups_vary_most(self, weights, shares):
        X, rare = rows()
        model = adapted(network(), "0")
        initialize_lora(model, X, sensitive_features=rare, group_weights=weights)
        w = np.where(rare, shares[1] / rare.sum(), shares[0] / (~rare).sum())
        Z = X.double().numpy()
        Z = Z - w @ Z
        _, _, Vt = np.linalg.svd(np.sqrt(w)[:, None] * Z)
        A = directions(model, "0")
        np.testing.assert_allclose(projection(A), Vt[:R].T @ Vt[:R], atol=1e-5)
        np.testing.assert_allclose(A @ A.T, np.eye(R), atol=1e-6)

    def test_of_rows_alike_are_those_of_eva(self):
        X, rare = rows()
        ours, theirs = (
            adapted(network(), "0"),
            adapted(network(), "0", init_lora_weights="eva", eva_config=peft.EvaConfig(tau=0.999)),
        )
        initialize_lora(ours, X, sensitive_features=rare, group_weights="proportional")
        parts = X[torch.randperm(N, generator=torch.Generator().manual_seed(0))].split(100)
        peft.initialize_lora_eva_weights(
            theirs,
            [{"input": part} for part in parts] * 20,
            forward_fn=lambda model, batch: model(batch["input"]),
            prepare_model_inputs_fn=None,
            prepare_layer_inputs_fn=lambda given, *_: given[0],
            show_progress_bar=False,
        )
        P, Q = (projection(directions(each, "0")) for each in (ours, theirs))
        assert torch.trace(P @ Q) > 0.98 * R  # theirs stops at a tolerance
        initialize_lora(ours, X, sensitive_features=rare)
        assert torch.trace(projection(directions(ours, "0")) @ Q) < 0.9 * R  # control


class TestModel:
    def test_says_what_it_said(self):
        X, rare = rows()
        whole = network()
        before = whole(X)
        model = adapted(whole, "0", "2")
        initialize_lora(model, X, sensitive_features=rare)
        assert torch.equal(model(X), before)
        A = [directions(model, name) for name in ("0", "2")]
        assert [each.shape for each in A] == [(R, D), (R, 12)]

    def test_may_get_tokens(self):
        X, rare = rows(share=0.4)
        model = adapted(network(), "0")
        initialize_lora(model, X.reshape(N // 4, 4, D), sensitive_features=rare[::4], batch_size=30)
        flat = adapted(network(), "0")
        initialize_lora(flat, X, sensitive_features=rare)
        torch.testing.assert_close(
            projection(directions(model, "0")), projection(directions(flat, "0"))
        )

    def test_is_left_alone_but_for_one_adapter(self):
        X, rare = rows()
        model = adapted(network(), "0")
        model.add_adapter("second", peft.LoraConfig(r=R, target_modules=["0"]))
        state = {name: value.clone() for name, value in model.state_dict().items()}
        initialize_lora(model, X, sensitive_features=rare, adapter="second")
        changed = {n for n, v in model.state_dict().items() if not torch.equal(v, state[n])}
        assert changed == {"base_model.model.0.lora_A.second.weight"}


def embedded():
    model = nn.Sequential(nn.Embedding(9, D), nn.Linear(D, 2))
    return adapted(model, "0", "1")


def conv():
    return adapted(nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(24, 2)), "0")


@pytest.mark.parametrize(
    ("make", "settings", "match"),
    [
        (network, {}, "Sequential has no LoRA adapter named 'default'"),
        (
            lambda: adapted(network(), "0"),
            {"adapter": "x"},
            r"no LoRA adapter named 'x'.* There are \['default'\]",
        ),
        (
            lambda: peft.get_peft_model(network(), PISSA),
            {},
            r"\['base_model.model.0', 'base_model.model.2'\] are in use: B is not zero",
        ),
        (embedded, {}, r"\['base_model.model.0'\] are not on linear layers"),
        (conv, {}, r"\['base_model.model.0'\] are not on linear layers"),
        (lambda: adapted(network(), "0"), {"group_weights": "minimax"}, "'minimax' is of cuts"),
        (
            lambda: peft.get_peft_model(network(), peft.LoraConfig(r=9, target_modules=["0"])),
            {},
            "has rank 9, more than the layer's 8 inputs",
        ),
    ],
)
def test_an_error_says_what_to_do(make, settings, match):
    X, rare = rows()
    with pytest.raises(ValueError, match=match):
        initialize_lora(make(), X, **{"sensitive_features": rare, **settings})


def test_few_rows_of_a_group_are_said():
    X, rare = rows(200)
    with pytest.warns(FairnessWarning, match="few rows to tell what they need: True has 20"):
        initialize_lora(adapted(network(), "0"), X, sensitive_features=rare)
