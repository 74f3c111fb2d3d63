"""A fingerprint stays the same under what does not matter and changes with all that does."""

import collections
import contextvars
import copy
import dataclasses
import datetime
import functools
import itertools
import operator
import os
import pathlib
import pickle
import random
import re
import subprocess
import sys
import threading
import types
from enum import Enum

import numpy as np
import pytest
import torch
from torch import nn

import skfairft
from skfairft.feature_store.fingerprint import UnknownContentError, fingerprint

ROWS = torch.linspace(-1, 1, 12).reshape(4, 3)


def linear():
    module = nn.Linear(3, 3)
    with torch.no_grad():
        module.weight.copy_(torch.arange(9.0).reshape(3, 3))
        module.bias.zero_()
    return module


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = linear()
        self.scale = 2.0
        self.columns = [0, 1]

    def forward(self, x):
        return self.layer(x)[:, self.columns] * self.scale


class Stats:
    def __init__(self):
        self.rows = 0
        self.seen = []
        self.limit = 3


class Nested(Base):
    def __init__(self):
        super().__init__()
        self.stats, self.n = Stats(), 0
        self.table = {"n": [0]}
        self.lock = threading.RLock()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m, "n", 1),
        lambda m: setattr(m.stats, "limit", 4),
        lambda m: m.stats.seen.append(1),
        lambda m: m.table["n"].append(1),
        lambda m: m.layer.bias.data.add_(1),
        lambda m: setattr(m, "scale", 2),
        lambda m: m.columns.append(2),
        lambda m: m.eval(),
        lambda m: setattr(m, "cache", torch.zeros(1)),
        lambda m: m.layer.register_forward_hook(lambda *_: None),
    ],
)
def test_whatever_is_held_counts(change):
    module = Nested()
    before = fingerprint(module)
    module(ROWS)
    assert fingerprint(module) == before
    change(module)
    assert fingerprint(module) != before


def test_running_statistics_count():
    module = nn.BatchNorm1d(3).train()
    before = fingerprint(module)
    module(ROWS)
    assert fingerprint(module) != before


def changed_copies():
    def other(change):
        module = nn.Sequential(linear(), nn.BatchNorm1d(3))
        module.register_buffer("offset", torch.zeros(2), persistent=False)
        change(module)
        return module

    def at(module, weight):
        with torch.no_grad():
            weight.view(-1)[-1] += 1e-6

    return {
        "nothing": other(lambda m: None),
        "weight": other(lambda m: at(m, m[0].weight)),
        "buffer": other(lambda m: at(m, m[1].running_mean)),
        "non-persistent": other(lambda m: at(m, m.offset)),
        "dtype": other(lambda m: m.double()),
        "bfloat16": other(lambda m: m.bfloat16()),
        "order": other(lambda m: m.insert(0, m.pop(1))),
        "attribute": other(lambda m: setattr(m[1], "eps", 1e-4)),
        "forward": other(lambda m: setattr(m, "forward", lambda x: x)),
        "child": other(lambda m: m.append(nn.ReLU())),
        "child class": other(lambda m: m.append(nn.Tanh())),
        "hook": other(lambda m: m.register_forward_hook(lambda m, x, y: y + 1)),
        "hook code": other(lambda m: m.register_forward_hook(lambda m, x, y: y + 2)),
        "pre-hook": other(lambda m: m.register_forward_pre_hook(lambda m, x: x)),
        "child hook": other(lambda m: m[0].register_forward_hook(lambda m, x, y: y + 1)),
        "tied": other(lambda m: m.append(m[0])),
    }


def test_whatever_changes_a_module_changes_its_fingerprint():
    modules = changed_copies()
    prints = {name: fingerprint(module) for name, module in modules.items()}
    assert len(set(prints.values())) == len(prints)
    assert prints == {name: fingerprint(module) for name, module in changed_copies().items()}


def test_order_in_which_a_sequential_runs_its_children_counts():
    children = [("a", linear()), ("b", nn.Tanh())]
    modules = [nn.Sequential(collections.OrderedDict(each)) for each in (children, children[::-1])]
    assert not torch.equal(*(module(ROWS) for module in modules))
    assert len({fingerprint(module) for module in modules}) == 2


def frozen(module):
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    "same",
    [
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        frozen,
        lambda m: m.to(memory_format=torch.channels_last),
        lambda m: nn.Module.load_state_dict(m, m.state_dict()) and m,
    ],
    ids=["deepcopy", "pickle", "frozen", "channels_last", "load"],
)
def test_copies_change_no_fingerprint(same):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(2), Base())
    module[2] = nn.Linear(2, 3)
    before = fingerprint(module)
    assert fingerprint(same(module)) == before


@pytest.mark.slow  # torch.compile imports for seconds
@pytest.mark.filterwarnings("ignore")
def test_compiled_module_counts_as_the_module_inside():
    module = Base()
    before = fingerprint(module)
    assert fingerprint(torch.compile(module)) == before == fingerprint(module)
    module.scale = 3.0
    assert fingerprint(torch.compile(module)) != before


def test_patched_class_is_seen_until_it_is_restored(monkeypatch):
    for kind, module in ((Base, Base()), (nn.Linear, linear())):
        before = fingerprint(module)
        with monkeypatch.context() as patch:
            patch.setattr(kind, "forward", lambda self, x: x)
            assert fingerprint(module) != before
        assert fingerprint(module) == before


def compiled(source, **names):
    space = {"__name__": "notebook", **names}
    exec(source, space)
    return space["f"]


HELPER = "def g(x): return x * {}\nK = {}\ndef f(x, size=3):\n    '''{}'''\n    return g(x) + K\n"


def test_functions_are_known_by_what_they_do():
    same = [
        HELPER.format(2, 1, "doc"),
        "\n\n" + HELPER.format(2, 1, "another doc"),
        HELPER.format(2, 1, "").replace("    ''''''\n", ""),
        HELPER.format(2, 1, "doc").replace("(x, size=3)", "(x: 'int', size: int = 3) -> 'int'"),
        "UNUSED = 5\n" + HELPER.format(2, 1, "doc"),
    ]
    different = [
        HELPER.format(3, 1, "doc"),  # what it calls
        HELPER.format(2, 2, "doc"),  # a global constant
        HELPER.format(2, 1.0, "doc"),
        HELPER.format(2, [1], "doc"),
        HELPER.format(2, 1, "doc").replace("size=3", "size=4"),
        HELPER.format(2, 1, "doc").replace("+ K", "- K"),
        HELPER.format(2, 1, "doc").replace("return g(x)", "return abs(x)"),
        HELPER.format(2, 1, "doc").replace("return g(x)", "return (lambda y: g(y) + 1)(x)"),
        HELPER.format(2, 1, "doc").replace("return g(x)", "return (lambda y: g(y) + 2)(x)"),
    ]
    assert len({fingerprint(compiled(source)) for source in same}) == 1
    prints = {fingerprint(compiled(source)) for source in [same[0], *different]}
    assert len(prints) == 1 + len(different)


def test_attributes_of_the_users_own_modules_count():
    helper = types.ModuleType("helper_of_a_user")
    exec("def g(x): return x + 1\nunused = 1", vars(helper))
    function = compiled("def f(x): return helper.g(x)", helper=helper)
    before = fingerprint(function)
    helper.unused = 2
    assert fingerprint(function) == before
    exec("def g(x): return x + 2", vars(helper))
    assert fingerprint(function) != before


def test_what_a_function_imports_counts():
    helper = types.ModuleType("helper_of_a_user")
    inner = types.ModuleType("helper_of_a_user.conf")
    helper.conf, inner.K = inner, 1
    sources = (
        "def f(x):\n import helper_of_a_user\n return x * helper_of_a_user.conf.K",
        "def f(x):\n from helper_of_a_user.conf import K\n return x * K",
        "def f(x): return (lambda y: y * pk.conf.K)(x)",
    )
    for source in sources:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, helper.__name__, helper)
            patch.setitem(sys.modules, inner.__name__, inner)
            function = compiled(source, pk=helper)
            before = fingerprint(function)
            patch.setattr(inner, "K", 2)
            assert fingerprint(function) != before
            patch.setattr(inner, "K", 1)
            assert fingerprint(function) == before


def closure(size, calls):
    def preprocess(x):
        calls.append(len(x))
        return x[:size]

    return preprocess


class Preprocess:
    def __init__(self, size):
        self.size = size

    def __call__(self, x):
        return x[: self.size]

    def method(self, x):
        return x[: self.size]


@pytest.mark.parametrize(
    "make",
    [
        lambda size: closure(size, []),
        Preprocess,
        lambda size: Preprocess(size).method,
        lambda size: functools.partial(Preprocess(size).method),
        lambda size: functools.lru_cache(closure(size, [])),
        lambda size: functools.wraps(len)(closure(size, [])),
    ],
    ids=["closure", "object", "method", "partial", "cache", "wraps"],
)
def test_callables_count_their_settings(make):
    assert fingerprint(make(2)) == fingerprint(make(2)) != fingerprint(make(1))


def test_what_a_function_closes_over_counts():
    calls = []
    function = closure(2, calls)
    before = fingerprint(function)
    function("abc")
    assert fingerprint(function) != before
    calls.clear()
    assert fingerprint(function) == before


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Config:
    size: int
    names: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True)
class Slotted:
    size: int


Point = collections.namedtuple("Point", "x y")
VALUES = [
    None, ..., True, 1, 1.0, 1j, "1", b"1", 0.0, -0.0, float("nan"), 2**70, 10**5000, "", b"",
    (), [], {}, set(), frozenset(), (1,), [1], {1}, frozenset([1]), {1: 1}, {"1": 1}, (1, (2,)),
    ((1, 2),), [[1], [2]], [[1, 2]], (1, 2), [[], 1], collections.deque([1]), Point(1, 2),
    collections.OrderedDict(a=1), collections.Counter("aab"), Colour.RED, Colour.BLUE,
    Config(1), Config(2), Slotted(1), Slotted(2), slice(1), slice(2), range(3), range(4),
    pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b"), datetime.date(2020, 1, 1),
    datetime.datetime(2020, 1, 1), datetime.timedelta(1), re.compile("a"), re.compile("a", re.I),
    np.float32(1), np.float64(1), np.int64(1), np.dtype("f4"), np.dtype("f8"), np.zeros(2),
    np.zeros((2, 1)), np.zeros(2, "f4"), np.array(["a", None], object), np.array(["a", "b"]),
    np.datetime64("2020"), np.ma.array([0.0, 1.0], mask=[0, 1]), np.add, np.multiply,
    torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.complex64),
    torch.zeros(2, 1), torch.tensor(0.0), torch.zeros(0), torch.float32, torch.float64,
    torch.device("cpu"), torch.Size([2]), torch.channels_last, torch.relu, torch.tanh, len, abs,
    [].append, {"a": 1}.get, {"a": 2}.get, str.lower, str.upper, operator.itemgetter(0),
    operator.itemgetter(1), functools.partial(max, 1), functools.partial(max, key=len), nn.ReLU,
    nn.Tanh, Base, Stats, torch.eye(3).to_sparse(), torch.eye(2).to_sparse(), int, str,
    torch.ops.aten.relu, torch.ops.aten.tanh,
]  # fmt: skip


def test_values_of_any_type_are_told_apart_and_survive_copies():
    prints = [fingerprint(value) for value in VALUES]
    clashes = [
        (VALUES[i], VALUES[j])
        for i in range(len(VALUES))
        for j in range(i)
        if prints[i] == prints[j]
    ]
    assert not clashes
    for value, expected in zip(VALUES, prints, strict=True):
        assert len(expected) == 16
        assert fingerprint(copy.deepcopy(value)) == expected, value
    assert fingerprint(1, 2) != fingerprint((1, 2))


def test_layout_in_memory_and_sharing_do_not_count():
    array = np.arange(12.0).reshape(3, 4)
    assert fingerprint(array) == fingerprint(np.asfortranarray(array))
    tensor = torch.arange(12.0).reshape(3, 4)
    assert fingerprint(tensor.T.contiguous()) == fingerprint(tensor.T)
    assert fingerprint(tensor) == fingerprint(nn.Parameter(tensor))
    assert fingerprint(torch.tensor([1 + 2j]).conj()) == fingerprint(torch.tensor([1 - 2j]))
    shared = [1, 2]
    assert fingerprint([shared, shared]) == fingerprint([[1, 2], [1, 2]])
    assert fingerprint({"b", "a", "c"}) == fingerprint({"c", "b", "a"})


def test_the_order_of_a_dictionary_counts_as_a_loop_over_it_would_see_it():
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"b": 2, "a": 1})
    one, two = Config(1), Config(1)
    one.a, one.b = 1, 2
    two.b, two.a = 2, 1  # attributes have no order
    assert fingerprint(one) == fingerprint(two)


def test_cycles_end():
    cyclic = [1]
    cyclic.append(cyclic)
    other = [2]
    other.append(other)
    assert fingerprint(cyclic) == fingerprint(copy.deepcopy(cyclic)) != fingerprint(other)


def test_state_that_says_where_an_object_is_does_not_count():
    parts = threading.Lock(), sys.stdout, threading.Thread()
    before = fingerprint(*parts)
    parts[0].acquire()
    assert fingerprint(*parts) == before


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: torch.Generator().manual_seed(0), lambda g: torch.rand(1, generator=g)),
        (lambda: np.random.default_rng(0), lambda g: g.normal()),
        (lambda: np.random.RandomState(0), lambda g: g.normal()),
        (lambda: np.random.PCG64(0), lambda g: np.random.Generator(g).normal()),
        (lambda: random.Random(0), lambda g: g.random()),
        (lambda: iter([1, 2]), next),
        (lambda: itertools.count(), next),
    ],
)
@pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning")
def test_generators_count_by_where_they_stand(make, draw):
    generator = make()
    before = fingerprint(generator)
    assert fingerprint(make()) == before
    draw(generator)
    assert fingerprint(generator) != before


def test_variables_of_a_thread_or_context_count_by_their_value_here():
    local, context = threading.local(), contextvars.ContextVar("context", default=1)
    local.k = 1
    before = fingerprint(local), fingerprint(context)
    token = context.set(2)
    local.k = 2
    assert fingerprint(local) != before[0]
    assert fingerprint(context) != before[1]
    context.reset(token)
    local.k = 1
    assert (fingerprint(local), fingerprint(context)) == before


def test_what_cannot_be_told_is_refused():
    with pytest.raises(UnknownContentError, match="meta device"):
        fingerprint(nn.Linear(2, 2, device="meta"))
    with pytest.raises(UnknownContentError, match=r"builtins\.generator has no attributes"):
        fingerprint(nn.Linear(2, 2), (i for i in range(2)))
    chain = []
    for _ in range(10_000):
        chain = [chain]
    with pytest.raises(TypeError, match="nested too deeply"):
        fingerprint(chain)


def test_a_lazy_layer_has_no_values_yet():
    lazy = nn.LazyLinear(2)
    before = fingerprint(lazy)
    lazy(ROWS)
    assert fingerprint(lazy) != before


class Script(nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        self.layer, self.scale = linear(), scale

    def helper(self, x):
        return x * self.scale

    def forward(self, x):
        return self.helper(self.layer(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch 2.13 and later say that it will go
def test_torchscript_and_fx_are_known_by_graph_weights_and_constants():
    for make in (torch.jit.script, torch.fx.symbolic_trace):
        module = make(Script(2.0))
        before = fingerprint(module)
        module(ROWS)
        assert fingerprint(module) == before == fingerprint(copy.deepcopy(module))
        assert fingerprint(make(Script(3.0))) != before
        with torch.no_grad():
            module.layer.weight[0] += 1
        assert fingerprint(module) != before


SCRIPT = """
import sys, types
package = types.ModuleType("skfairft")  # alone, for the rest takes seconds to import
package.__path__ = [sys.argv[1]]
sys.modules["skfairft"] = package
import cloudpickle
import torch
from torch import nn
import skfairft
from skfairft.feature_store.fingerprint import fingerprint

SIZE = (3, "a", frozenset({"x", "y", "z"}))
NAMES = {"beta", "alpha", "gamma"}

class Mine(nn.Module):
    kinds = {"p", "q", "r"}

    def __init__(self):
        super().__init__()
        self.layer, self.names, self.size = nn.Linear(2, 2), NAMES, SIZE
        self.table = {"b": NAMES, "a": helper}

    def forward(self, x):
        return self.layer(x) if "a" in {"a", "b", "c"} else helper(x)

def helper(x):
    return [y for y in x if y in NAMES and y in SIZE]

parts = (Mine(), helper)
before = fingerprint(*parts)
cloudpickle.dump(parts, open(sys.argv[2], "wb"))
parts[0](torch.ones(1, 2))
assert fingerprint(*parts) == before
print(before.hex())
"""


@pytest.mark.slow
def test_processes_agree_whatever_their_hash_seed(tmp_path):
    cloudpickle = pytest.importorskip("cloudpickle")
    script, dump = tmp_path / "script.py", tmp_path / "dump.pkl"
    script.write_text(SCRIPT)
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    result = subprocess.run(
        [sys.executable, script, pathlib.Path(skfairft.__file__).parent, dump],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    parts = cloudpickle.loads(dump.read_bytes())
    expected = fingerprint(*parts)
    assert result.stdout.strip() == expected.hex()
    parts[0].names.add("delta")
    assert fingerprint(*parts) != expected


def test_tokenizer_is_known_by_vocabulary_and_settings():
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")

    def make(words="ab"):
        vocabulary = {"[UNK]": 0, "[PAD]": 1} | {w: i for i, w in enumerate(words, start=2)}
        model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
        backend = tokenizers.Tokenizer(model)
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", model_max_length=4
        )
        return tokenizer, backend

    tokenizer, backend = make()
    before, of_backend = fingerprint(tokenizer), fingerprint(backend)
    assert fingerprint(copy.deepcopy(tokenizer)) == before
    assert before == fingerprint(pickle.loads(pickle.dumps(tokenizer)))
    assert fingerprint(make("ac")[0]) != before
    assert fingerprint(make("ac")[1]) != of_backend == fingerprint(make()[1])
    tokenizer.padding_side = "left"
    changed = fingerprint(tokenizer)
    tokenizer.padding_side = "right"
    tokenizer.add_tokens(["c"])
    assert len({before, changed, fingerprint(tokenizer)}) == 3


def test_images_and_tables_count_their_content():
    image = pytest.importorskip("PIL.Image")
    pandas = pytest.importorskip("pandas")
    parts = [image.new("L", (2, 3), colour) for colour in (0, 1)]
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None]})
    parts += [frame, frame.rename(columns={"a": "c"}), frame.iloc[::-1], frame["a"], frame["b"]]
    times = [pandas.Timestamp("2020", tz=zone) for zone in (None, "UTC", "Europe/Paris")]
    parts += [*times, *(pandas.Series([time, time]) for time in times), pandas.NaT]
    assert len({fingerprint(part) for part in parts}) == len(parts)
    assert [fingerprint(copy.deepcopy(p)) for p in parts] == [fingerprint(p) for p in parts]


class Settings:
    scale = 2.0


SPACE = types.ModuleType("settings_of_a_user")


def test_texts_that_name_what_a_function_reads_count(monkeypatch):
    monkeypatch.setitem(sys.modules, "settings_of_a_user", SPACE)
    SPACE.scale = 2.0

    def by_getattr(x):
        return x * getattr(SPACE, "scale")  # noqa: B009

    def by_vars(x):
        return x * vars(SPACE)["scale"]

    before = [fingerprint(by_getattr), fingerprint(by_vars)]
    SPACE.scale = 3.0
    after = [fingerprint(by_getattr), fingerprint(by_vars)]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_partial_method_of_a_special_name_counts():
    def made(k):
        class Prepared:
            def scaled(self, k, x):
                return x * k

            __call__ = functools.partialmethod(scaled, k)

        return Prepared()

    assert fingerprint(made(2)) == fingerprint(made(2))
    assert fingerprint(made(2)) != fingerprint(made(3))


def test_an_attribute_named_like_a_module_is_no_import(monkeypatch):
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Identity()

        def forward(self, x):
            return self.body(x)

    before = fingerprint(Holds())
    other = types.ModuleType("body")
    other.body = 1
    monkeypatch.setitem(sys.modules, "body", other)
    assert fingerprint(Holds()) == before


def test_a_module_beside_it_that_a_function_imports_counts(monkeypatch):
    beside = types.ModuleType("package_of_a_user.beside")
    package = types.ModuleType("package_of_a_user")
    monkeypatch.setitem(sys.modules, "package_of_a_user", package)
    monkeypatch.setitem(sys.modules, "package_of_a_user.beside", beside)
    space = {"__name__": "package_of_a_user.main", "__package__": "package_of_a_user"}
    exec("def f(x):\n from . import beside\n return x * beside.K", space)
    beside.K = 1
    before = fingerprint(space["f"])
    beside.K = 2
    assert fingerprint(space["f"]) != before


def test_what_is_noted_on_tensors_is_no_part_of_them():
    module = nn.Linear(2, 2)
    before = fingerprint(module)
    module.weight._dynamo_static_input_type = "guarded"
    module._is_hf_initialized = module.weight._is_hf_initialized = True
    assert fingerprint(module) == before
    module.weight.mine = 2
    assert fingerprint(module) != before


def test_hooks_on_a_compiled_module_count():
    module = nn.Linear(2, 2)
    compiled = torch.compile(module, backend="eager")
    assert fingerprint(compiled) == fingerprint(module)
    compiled.register_forward_hook(lambda module, inputs, output: output * 2)
    assert fingerprint(compiled) != fingerprint(module)


def test_versions_of_libraries_count_if_asked(monkeypatch):
    from skfairft.feature_store import fingerprint as room

    module = nn.Linear(2, 2)
    with_them, without = fingerprint(module), fingerprint(module, versions=False)
    real = room.library
    monkeypatch.setattr(room, "library", lambda name: real(name) and f"{real(name)}.1")
    assert fingerprint(module) != with_them
    assert fingerprint(module, versions=False) == without
