"""A fingerprint stays the same under what does not matter and changes with all that does."""

import collections
import copy
import dataclasses
import datetime
import functools
import operator
import os
import pathlib
import pickle
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
from skfairft._identity.bytecode import ITEM, code_facts
from skfairft.fingerprint import fingerprint

ROWS = torch.linspace(-1, 1, 12).reshape(4, 3)
COUNT = 0
LOG: list[int] = []
TABLE = {"n": 0}
SCALE = 2.0


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

    def note(self, n):
        self.rows += n
        self.seen.append(n)


class CountsAttribute(Base):
    rows = 0

    def forward(self, x):
        self.rows += len(x)
        return super().forward(x)


class AppendsAndCaches(Base):
    def __init__(self):
        super().__init__()
        self.calls, self.last, self.counts = [], None, {"n": 0}

    def forward(self, x):
        self.calls.append(len(x))
        self.counts["n"] += 1
        self.last = x if self.last is None else self.last
        return super().forward(x)


class CountsInNested(Base):
    def __init__(self):
        super().__init__()
        self.stats = Stats()

    def forward(self, x):
        self.stats.rows += len(x)
        stats = self.stats
        for _ in x:
            stats.seen.append(1)
        return super().forward(x)


class CountsByMethods(Base):
    def __init__(self):
        super().__init__()
        self.stats, self.n = Stats(), 0

    def _step(self, x):
        self.n += 1
        self.stats.note(len(x))

    def forward(self, x):
        self._step(x)
        return super().forward(x)


class CountsInParent(CountsAttribute):
    def forward(self, x):
        return super().forward(x) + 1


class CountsInHelper(Base):
    n = 0

    def forward(self, x):
        count_on(self)
        return super().forward(x)


def count_on(module):
    module.n += 1


class CountsInBuffer(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))
        self.register_buffer("m", torch.zeros(2), persistent=False)
        self.register_buffer("k", torch.zeros(2))

    def forward(self, x):
        self.n += 1
        self.m[0] = self.m[0] + 1
        self.k.add_(1)
        return super().forward(x)


class CountsInGlobals(Base):
    def forward(self, x):
        global COUNT
        COUNT += 1
        LOG.append(1)
        TABLE["n"] += 1
        return super().forward(x) * SCALE


class CountsOnClass(Base):
    total = 0

    def forward(self, x):
        type(self).total += 1
        with torch.no_grad():
            return super().forward(x)


class CountsInNoGrad(CountsAttribute):
    @torch.no_grad()
    def forward(self, x):
        self.rows += 1
        return super().forward(x)


class CountsInChildren(Base):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([CountsAttribute(), CountsInBuffer()])

    def forward(self, x):
        for head in self.heads:
            head.rows = getattr(head, "rows", 0) + 1
        return self.heads[0](x) + self.heads[1](x)


class CountsInProperty(Base):
    n = 0

    @property
    def factor(self):
        self.n += 1
        return self.scale

    def forward(self, x):
        return super().forward(x) * self.factor


def with_hook(kind):
    calls, n = [], 0

    def hook(module, *arguments):
        nonlocal n
        n += 1
        calls.append(n)
        module.hooked = n

    module = Base()
    getattr(module.layer, kind)(hook)
    return module


def with_lock():
    module = CountsAttribute()
    module.lock = threading.RLock()
    module.stream = (i for i in range(3))
    return module


COUNTING = {
    kind.__name__: kind
    for kind in (
        CountsAttribute, AppendsAndCaches, CountsInNested, CountsByMethods, CountsInParent,
        CountsInHelper, CountsInBuffer, CountsInGlobals, CountsOnClass, CountsInNoGrad,
        CountsInChildren, CountsInProperty,
    )
} | {
    "forward hook": lambda: with_hook("register_forward_hook"),
    "pre-hook": lambda: with_hook("register_forward_pre_hook"),
    "lock": with_lock,
}  # fmt: skip


def everything(module):
    """Values of all attributes, for a control that something did change."""
    state = [vars(part) for part in module.modules()]
    hooks = [
        [cell.cell_contents for cell in hook.__closure__]
        for part in module.modules()
        for hook in [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
    ]
    kinds = [getattr(type(module), "total", 0), COUNT, LOG, TABLE]
    stats = [vars(s["stats"]) for s in state if "stats" in s]
    return repr((state, hooks, kinds, stats, dict(module.named_buffers())))


@pytest.mark.parametrize("kind", COUNTING)
def test_running_changes_no_fingerprint_but_a_setting_does(kind):
    module = COUNTING[kind]().eval()
    before, state = fingerprint(module), everything(module)
    module(ROWS)
    module(ROWS)
    assert everything(module) != state  # it did count
    assert fingerprint(module) == before
    owner = module.heads[0] if kind == "CountsInChildren" else module
    owner.scale = 2.5
    changed = fingerprint(module)
    owner.scale = 2.0
    owner.columns.append(2)
    assert len({before, changed, fingerprint(module)}) == 3


@pytest.mark.parametrize("kind", ["CountsInNested", "CountsByMethods"])
def test_nested_setting_counts_beside_a_nested_count(kind):
    module = COUNTING[kind]()
    before = fingerprint(module)
    module.stats.limit = 4
    assert fingerprint(module) != before


def changes_much(self, x, flag):
    self.a += len(x)
    self.b = x if flag else None
    stats = self.c if flag else self.d
    stats.n -= 1
    for head in self.heads[1:]:
        head.e = 1
    with self.lock:
        self.f += 1
    try:
        self.g += 1
    except ValueError as error:
        self.h = error
    finally:
        self.i = 1
    if self.training and flag:
        self.dead = 1
    if not self.training:
        self.j = 1
    else:
        self.dead = 2
    one, two = self.pair
    two.k = one
    self.l = [self.m(y) for y in x]
    while flag:
        flag = self.o = flag - 1
    fresh = self.p * x
    fresh.q = 1
    del self.r
    either = self.t or self.u or self.v
    either.n = 0

    def inner():
        self.s = 1

    return inner


def test_bytecode_tells_what_a_function_rebinds():
    root = ("arg", 0)
    stores = set(code_facts(changes_much.__code__).stores)
    single = {(root, name) for name in "abfghijlors"}
    nested = {(root, name, "n") for name in "cdtuv"}
    in_items = {(root, "heads", ITEM, ITEM, "e"), (root, "pair", ITEM, "k")}
    assert stores == single | nested | in_items


class TracksInTraining(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.momentum = 0.1

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(x.mean(0))
            self.momentum = 0.05
        return super().forward(x - self.mean)


def test_running_statistics_count_since_they_are_read_in_evaluation():
    module = TracksInTraining().eval()
    before = fingerprint(module)
    module(ROWS)
    assert fingerprint(module) == before
    module.train()(ROWS)
    assert fingerprint(module) != before


class Setter(Base):
    pool = "mean"

    def set_pool(self, pool):
        self.pool = pool


def test_setting_that_another_method_writes_counts():
    module = Setter()
    before = fingerprint(module)
    module.set_pool("max")
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
        lambda m: m.eval(),
        frozen,
        lambda m: m.to(memory_format=torch.channels_last),
        lambda m: nn.Module.load_state_dict(m, m.state_dict()) and m,
    ],
    ids=["deepcopy", "pickle", "eval", "frozen", "channels_last", "load"],
)
def test_copies_and_flags_change_no_fingerprint(same):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(2), CountsInBuffer())
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


def closure(size, calls):
    def preprocess(x):
        calls.append(len(x))
        return x[:size]

    return preprocess


class Preprocess:
    def __init__(self, size):
        self.size, self.n = size, 0

    def __call__(self, x):
        self.n += 1
        return x[: self.size]

    def method(self, x):
        self.n += 1
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
def test_callables_count_their_settings_and_not_their_calls(make):
    preprocess = make(2)
    before = fingerprint(preprocess)
    preprocess("abc")
    assert fingerprint(preprocess) == before == fingerprint(make(2))
    assert fingerprint(make(1)) != before


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
    random = np.random.default_rng(0)
    before = fingerprint(random, threading.Lock(), sys.stdout, iter([1]))
    random.normal()
    assert fingerprint(random, threading.Lock(), sys.stdout, iter([2])) == before


def test_tensor_without_values_is_refused():
    with pytest.raises(TypeError, match="meta device"):
        fingerprint(nn.Linear(2, 2, device="meta"))
    chain = []
    for _ in range(10_000):
        chain = [chain]
    with pytest.raises(TypeError, match="nested too deeply"):
        fingerprint(chain)


class Script(nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        self.layer, self.scale = linear(), scale

    def helper(self, x):
        return x * self.scale

    def forward(self, x):
        return self.helper(self.layer(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
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
from skfairft._identity.bytecode import ITEM, code_facts
from skfairft.fingerprint import fingerprint

SIZE = (3, "a", frozenset({"x", "y", "z"}))
NAMES = {"beta", "alpha", "gamma"}

class Mine(nn.Module):
    kinds = {"p", "q", "r"}

    def __init__(self):
        super().__init__()
        self.layer, self.names, self.size, self.rows = nn.Linear(2, 2), NAMES, SIZE, 0
        self.table = {"b": NAMES, "a": helper}

    def forward(self, x):
        self.rows += len(x)
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
    parts[0](torch.ones(1, 2))
    assert parts[0].rows == 1
    assert fingerprint(*parts) == expected
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
    backend_before = tokenizer.backend_tokenizer.to_str()
    tokenizer(["a b a b", "a"], padding="max_length", truncation=True, max_length=3)
    tokenizer(["a b a b a b"])
    tokenizer(["a b a b", "a"], padding=True, truncation=True, max_length=3)
    assert tokenizer.backend_tokenizer.to_str() != backend_before
    assert fingerprint(tokenizer) == before == fingerprint(copy.deepcopy(tokenizer))
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
    assert len({fingerprint(part) for part in parts}) == len(parts)
    assert [fingerprint(copy.deepcopy(p)) for p in parts] == [fingerprint(p) for p in parts]
