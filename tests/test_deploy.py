"""What is deployed runs elsewhere: exported, compiled, as ONNX it says what the classifier says."""

import io
import shutil
import warnings
from functools import cache, partial
from itertools import product

import numpy as np
import pytest
import torch
from flat import trained
from torch import nn

from skfairft import FairLowRankHeadClassifier, FairnessWarning, FrozenFeatureExtractor, compress
from skfairft.datasets import make_biased_classification
from skfairft.lowrank.layer import LowRankLinear
from skfairft.solvers.registry import SOLVERS

N, D, WIDTH = 200, 8, 6


def dynamic(inputs):
    """Say of all inputs that the number of rows is free."""
    if isinstance(inputs, dict):
        return {name: dynamic(each) for name, each in inputs.items()}
    return (
        tuple(map(dynamic, inputs)) if isinstance(inputs, tuple) else {0: torch.export.Dim.DYNAMIC}
    )


def exported(module, inputs):
    program = torch.export.export(module, inputs, dynamic_shapes=dynamic(inputs))
    torch.export.save(program, file := io.BytesIO())
    file.seek(0)
    return torch.export.load(file).module()


def compiled(module, inputs, backend="aot_eager"):
    torch._dynamo.reset()  # no more than some modules of one class are compiled in a process
    return torch.compile(module, backend=backend, dynamic=True, fullgraph=True)


def as_onnx(module, inputs):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about its own code
        # Without the empty mapping behind them it would take a last mapping for keywords.
        program = torch.onnx.export(
            module, (*inputs, {}), dynamic_shapes=dynamic(inputs), verbose=False
        )
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    def run(*inputs):
        names = [each.name for each in session.get_inputs()]
        tensors = torch.utils._pytree.tree_leaves(inputs)
        given = {name: each.numpy() for name, each in zip(names, tensors, strict=True)}
        (found,) = session.run(None, given)
        return torch.from_numpy(found)

    return run


WAYS = {"exported": exported, "compiled": compiled, "onnx": as_onnx}
inductor = partial(compiled, backend="inductor")


def first(n, inputs):
    """Return the first rows of inputs."""
    return torch.utils._pytree.tree_map(lambda each: each[:n], inputs)


def check(way, module, expected, *inputs):
    """Make another module from three rows, and compare what it says of one, two and all."""
    expected = torch.as_tensor(expected)
    other = way(module, first(3, inputs))
    scale = expected.abs().max()
    assert (expected.amax(0) - expected.amin(0)).max() > 0.05 * scale  # control: rows do differ
    # Scores are sums of some tens of products, rounded to float32 in front of most heads.
    for n in (1, 2, len(expected)):
        with torch.no_grad():
            found = other(*first(n, inputs))
        assert found.shape == expected[:n].shape
        assert (found - expected[:n]).abs().max() <= 1e-5 * scale


def head_of(kind, width, k):
    return {
        "fitted": lambda: None,
        "of the classes": lambda: nn.Linear(width, k),
        "hidden": lambda: nn.Sequential(nn.Linear(width, 5), nn.ReLU()),
    }[kind]()


def accepts(solver, kind, k):
    try:
        SOLVERS[solver]().check_head(head_of(kind, WIDTH, k), k, torch.device("cpu"))
    except ValueError:
        return False
    return True


HEADS = ("fitted", "of the classes", "hidden")
CASES = [
    case for case in product(SOLVERS, HEADS, (2, 3), (None, 1), (False, True)) if accepts(*case[:3])
]


def test_solvers_take_the_heads_that_the_guide_says():
    refused = {
        (solver, kind) for solver in SOLVERS for kind in HEADS if not accepts(solver, kind, 3)
    }
    assert refused == {("plug_in", "of the classes")}


@cache
def fitted(solver, kind, k, rank, with_backbone):
    """Return a classifier with a constraint, and rows as its module takes them."""
    X, y, s = make_biased_classification(N, D, n_classes=k, disparity=0.5, random_state=0)
    backbone = nn.Sequential(nn.Linear(D, WIDTH), nn.Tanh()) if with_backbone else None
    clf = FairLowRankHeadClassifier(
        backbone,
        head=head_of(kind, WIDTH if with_backbone else D, k),
        rank=rank,
        constraint="demographic_parity",
        fairness_weight=0.5,
        solver=trained(solver, max_epochs=2),
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that two epochs are few, say
        clf.fit(X, y, sensitive_features=s)
    return clf, torch.from_numpy(X).to(torch.float32 if with_backbone else torch.float64)


class ByName(nn.Module):
    """Takes its inputs by name."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(D, 12), nn.Linear(12, WIDTH)

    def forward(self, pixels, scale):
        return self.last(torch.tanh(self.first(pixels)) * scale[:, None])


# By way, what meets in the quick run: heads, classes, ranks, backbones. ONNX takes longest.
QUICK = {
    "exported": [
        ("fitted", 2, 1, True),
        ("of the classes", 3, None, False),
        ("hidden", 2, 1, True),
    ],
    "compiled": [("hidden", 2, 1, True)],
    "onnx": [("hidden", 2, 1, True)],
}


def is_quick(way, case):
    """Say whether a case runs always: what takes long for votes alone, which compute the most."""
    return case[1:] in QUICK[way] and (way == "exported" or case[0] == "plug_in")


SLOW_ONNX = ["exported", "compiled", pytest.param("onnx", marks=pytest.mark.slow)]


class TestClassifier:
    @pytest.mark.parametrize(
        ("way", "case"),
        [
            pytest.param(
                way,
                case,
                marks=[] if is_quick(way, case) else pytest.mark.slow,
                id=f"{way}-{'-'.join(map(str, case))}",
            )
            for way, case in product(WAYS, CASES)
        ],
    )
    def test_says_the_same(self, way, case):
        clf, rows = fitted(*case)
        check(WAYS[way], clf.to_torch(), clf.decision_function(rows.numpy()), rows)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch 2.13 and later say that it will go
    @pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler of C++")
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("k", [2, 3])
    def test_compiled_to_machine_code(self, solver, k):
        clf, rows = fitted(solver, "hidden", k, 1, True)
        check(inductor, clf.to_torch(), clf.decision_function(rows.numpy()), rows)

    @pytest.mark.parametrize(
        ("way", "known_groups"),
        [
            ("onnx", False),
            ("exported", True),
            # Without groups ONNX has them from export; with groups, compiled is as exported.
            *(
                pytest.param(way, known, marks=pytest.mark.slow)
                for way, known in [("exported", False), ("compiled", False), ("compiled", True)]
            ),
        ],
    )
    def test_inputs_by_name(self, way, known_groups):
        """As one mapping: of keywords torch.export leaves no number of rows free."""
        X, y, s = make_biased_classification(N, D, disparity=0.5, random_state=0)
        items = list(zip(X, np.linspace(0.5, 2.0, N), strict=True))

        def batch(rows):
            pixels, scale = zip(*rows, strict=True)
            return {"pixels": torch.tensor(np.array(pixels)), "scale": torch.tensor(scale)}

        clf = FairLowRankHeadClassifier(
            FrozenFeatureExtractor(ByName().double(), preprocess=batch),
            constraint="demographic_parity",
            fairness_weight=0.8,
            solver="plug_in",
        ).fit(items, y, sensitive_features=s)
        module, inputs = clf.to_torch(known_groups=known_groups), batch(items)
        told = clf.decision_function(items, sensitive_features=s)
        plain = clf.decision_function(items)
        assert np.abs(told - plain).mean() > 0.05  # control
        if known_groups:
            check(WAYS[way], module, told, inputs, torch.from_numpy(s))
        else:
            check(WAYS[way], module, plain, inputs)
            np.testing.assert_array_equal(module(**inputs).detach(), module(inputs).detach())


class TestCompressed:
    @staticmethod
    def cut(model, rows, groups, **settings):
        small = compress(model, rows, sensitive_features=groups, rank=2, random_state=0, **settings)
        assert any(isinstance(part, LowRankLinear) for part in small.modules())
        return small.eval()

    @pytest.fixture
    def data(self):
        X, y, s = make_biased_classification(N, D, disparity=0.5, random_state=0)
        return torch.from_numpy(X).float(), y, s

    @pytest.mark.parametrize("way", WAYS)
    def test_network(self, way, data):
        X, _, s = data
        network = nn.Sequential(nn.Linear(D, 12), nn.ReLU(), nn.Linear(12, 4))
        small = self.cut(network, X, s, layers=["0", "2"])
        with torch.no_grad():
            check(WAYS[way], small, small(X), X)

    @pytest.mark.parametrize("way", SLOW_ONNX)
    def test_backbone(self, way, data):
        X, y, s = data
        network = nn.Sequential(nn.Linear(D, 12), nn.ReLU(), nn.Linear(12, 4))
        small = self.cut(network, X, s, layers=["0", "2"])
        clf = FairLowRankHeadClassifier(
            small, constraint="demographic_parity", fairness_weight=0.5, solver="plug_in"
        ).fit(X.numpy(), y, sensitive_features=s)
        check(WAYS[way], clf.to_torch(), clf.decision_function(X.numpy()), X)

    @pytest.mark.parametrize("way", SLOW_ONNX)
    def test_inputs_by_name(self, way, data):
        X, _, s = data
        batch = {"pixels": X, "scale": torch.linspace(0.5, 2.0, N)}
        items = [{name: each[i] for name, each in batch.items()} for i in range(N)]
        small = self.cut(ByName(), items, s)
        with torch.no_grad():
            check(WAYS[way], small, small(**batch), *batch.values())

    @pytest.mark.parametrize("way", SLOW_ONNX)
    def test_a_deployed_classifier(self, way, data):
        X, y, s = data
        backbone = nn.Sequential(nn.Linear(D, 12), nn.ReLU())
        clf = FairLowRankHeadClassifier(backbone).fit(X.numpy(), y, sensitive_features=s)
        small = self.cut(clf.to_torch(), X, s, layers=["extractor.module.0"])
        with torch.no_grad():
            check(WAYS[way], small, small(X), X)


NAMES = np.array(["a", "b", "c"])


@cache
def of_groups(k, with_backbone):
    """Return a classifier that can use groups, rows, their codes and names, some not known."""
    X, y, s = make_biased_classification(
        400, D, n_classes=k, n_groups=3, disparity=0.5, random_state=0
    )
    backbone = nn.Sequential(nn.Linear(D, WIDTH), nn.Tanh()).double() if with_backbone else None
    clf = FairLowRankHeadClassifier(
        backbone,
        constraint="demographic_parity",
        fairness_weight=0.8,
        solver="plug_in",
        random_state=0,
    ).fit(X, y, sensitive_features=NAMES[s])
    some = NAMES[s].astype(object)
    some[2::4] = None
    codes = np.where(np.arange(len(s)) % 4 == 2, -1, s)
    return clf, torch.from_numpy(X), torch.from_numpy(codes), some


class TestKnownGroups:
    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.parametrize("with_backbone", [False, True])
    def test_are_those_of_the_classifier(self, k, with_backbone):
        clf, X, codes, names = of_groups(k, with_backbone)
        module = clf.to_torch(known_groups=True)
        told = clf.decision_function(X.numpy(), sensitive_features=names)
        plain = clf.decision_function(X.numpy())
        with torch.no_grad():
            found, by_name = module(X, codes).numpy(), module(X, groups=codes).numpy()
            without = module(X).numpy()
        np.testing.assert_allclose(found, told, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(found, by_name)
        np.testing.assert_allclose(without, plain, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found[codes < 0], plain[codes < 0], rtol=0, atol=1e-10)
        assert np.abs(found - plain)[codes >= 0].mean() > 0.05  # control: they matter

    @pytest.mark.parametrize("k", [pytest.param(2, marks=pytest.mark.slow), 3])
    @pytest.mark.parametrize("way", WAYS)
    def test_are_a_second_input_elsewhere(self, way, k):
        clf, X, codes, names = of_groups(k, k == 3)
        told = clf.decision_function(X.numpy(), sensitive_features=names)
        check(WAYS[way], clf.to_torch(known_groups=True), told, X, codes)

    def test_that_are_none_are_not_known(self):
        clf, X, codes, _ = of_groups(2, False)
        module = clf.to_torch(known_groups=True)
        other = exported(module, (X[:3], codes[:3]))
        plain = module(X)
        for code in (-1, 3, -7, 99):
            strange = torch.full_like(codes, code)
            for each in (module, other):
                torch.testing.assert_close(each(X, strange), plain, rtol=0, atol=1e-12)

    @pytest.mark.filterwarnings("ignore:Anomaly Detection")
    def test_nothing_on_the_way_is_nan(self):
        """Of a row without a group, either: who trains the module on may look for it."""
        clf, X, codes, _ = of_groups(2, False)
        assert (codes < 0).any()
        with torch.autograd.detect_anomaly():
            clf.to_torch(known_groups=True)(X, codes).sum().backward()

    def test_have_the_weights_of_the_module_without(self):
        clf, X, codes, _ = of_groups(3, True)
        plain, told = clf.to_torch(), clf.to_torch(known_groups=True)
        assert told.state_dict().keys() == plain.state_dict().keys()
        before = told(X, codes)
        plain.load_state_dict({name: 0 * each for name, each in plain.state_dict().items()})
        assert torch.equal(told(X, codes), before)
        assert not any(part.training for part in told.modules())

    def test_of_another_shape_are_refused(self):
        clf, X, codes, _ = of_groups(2, False)
        module = clf.to_torch(known_groups=True)
        for wrong, shape in (
            (codes[:, None], r"\(400, 1\)"),
            (codes[:1], r"\(1,\)"),
            (codes[0], r"\(\)"),
        ):
            with pytest.raises(ValueError, match=rf"shape {shape}, for 400 rows; .* \(400,\)"):
                module(X, wrong)

    @pytest.mark.parametrize("solver", [name for name, kind in SOLVERS.items() if not kind.votes])
    def test_of_heads_that_cannot_use_them_are_refused(self, solver):
        clf, _ = fitted(solver, "fitted", 2, None, False)
        with pytest.raises(ValueError, match=r"known_groups=True .*cannot use them; leave that"):
            clf.to_torch(known_groups=True)

    def test_are_asked_for_by_yes_or_no(self):
        clf, *_, names = of_groups(2, False)
        with pytest.raises(ValueError, match=r"known_groups=array.*; expected True or False"):
            clf.to_torch(known_groups=names)

    def test_a_bound_that_they_do_not_meet_is_said(self):
        X, y, s = make_biased_classification(400, 8, disparity=0.6, random_state=0)
        clf = FairLowRankHeadClassifier(
            constraint="demographic_parity", difference_bound=0.05, confidence=0.95,
            solver="plug_in", random_state=0,
        )  # fmt: skip
        with pytest.warns(FairnessWarning, match="cannot be certified"):
            clf.fit(X, y, sensitive_features=s)
        clf.to_torch()
        with pytest.warns(FairnessWarning, match="not met for predictions that are told"):
            clf.to_torch(known_groups=True)
