"""The page on the method names objects and tests that exist, with the shapes it says."""

import importlib.util
import inspect
import re
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import skfairft
from skfairft import FairLowRankHeadClassifier
from skfairft.datasets import make_biased_classification

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/method.md").read_text(encoding="utf-8")
SIZES = {"n": 300, "d": 7, "k": 3, "k0": 3, "G": 4, "r": 2, "min": min}
PARAMETERS = inspect.signature(FairLowRankHeadClassifier).parameters


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def symbol_rows():
    """Return (symbol, shape, code, tests) of each row of the tables of symbols."""
    rows = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "symbol":
            symbol, shape, _, last = cells
            code, tests = last.split("<br>")
            rows.append((symbol, shape, names(code), names(tests)))
    return rows


ROWS = symbol_rows()
CODE = sorted({name for _, _, code, _ in ROWS for name in code})
TESTS = sorted({name for *_, tests in ROWS for name in tests})
ATTRIBUTES = [name for name in CODE if name.split(".")[0].endswith("_")]


@pytest.fixture(scope="module")
def fitted():
    """A classifier that has every attribute; no two of its sizes but k and k0 are the same."""
    X, y, s = make_biased_classification(
        SIZES["n"], SIZES["d"], n_classes=SIZES["k"], n_groups=SIZES["G"], random_state=0
    )
    clf = FairLowRankHeadClassifier(
        rank=SIZES["r"],
        constraint="demographic_parity",
        solver="closed_form",
        importance="covariance",
        difference_bound=0.9,
        cv=0.5,
        random_state=0,
    )
    return clf.fit(X, y, sensitive_features=s)


def find(name):
    """Return the object of a name like lowrank.fisher.FisherStatistics.fisher or fairness_path."""
    first, *path = name.split(".")
    if first in skfairft.__all__:
        found = getattr(skfairft, first)
    else:
        found = importlib.import_module(f"skfairft.{first}")
        if path and importlib.util.find_spec(f"skfairft.{first}.{path[0]}"):
            found = importlib.import_module(f"skfairft.{first}.{path.pop(0)}")
    for part in path:
        # A field without a default is no attribute of its dataclass.
        fields = getattr(found, "__dataclass_fields__", {})
        found = fields[part] if part in fields else getattr(found, part)
    return found


def test_the_tables_are_there():
    assert len(ROWS) > 40
    for symbol, _, code, tests in ROWS:
        assert code, symbol
        assert tests, symbol


@pytest.mark.parametrize("name", CODE)
def test_code_exists(name, fitted):
    if name in ATTRIBUTES:
        attrgetter(name)(fitted)
    elif name not in PARAMETERS:
        found = find(name)
        assert not inspect.ismodule(found), "a name without a dot is public or a parameter"


@pytest.mark.parametrize("name", TESTS)
def test_tests_exist(name):
    file, *path = name.split(".")
    source = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
    if len(path) == 2:
        start = re.search(rf"^class {path[0]}\b", source, flags=re.M).start()
        source = re.split(r"^(?=class |def )", source[start:], flags=re.M)[1]
    kind = "class" if path[-1].startswith("Test") else "def"
    assert re.search(rf"^\s*{kind} {path[-1]}\b", source, flags=re.M)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (code[0], shape)
        for _, shape, code, _ in ROWS
        if shape.startswith("(") and code[0] in ATTRIBUTES
    ],
)
def test_shapes_are_those_of_a_fit(name, shape, fitted):
    value = attrgetter(name)(fitted)
    found = value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)
    assert found.shape == eval(shape, SIZES)


def test_every_fitted_attribute_of_the_method_is_on_the_page():
    public = {"group_importance_", "importance_", "singular_values_", "rank_", "difference_"}
    public |= {"fairness_weight_", "difference_interval_", "head_.A", "head_.B"}
    assert public <= set(ATTRIBUTES)


def test_modules_that_are_named_exist():
    files = re.findall(r"`skfairft/([\w/]+\.py)`", PAGE)
    assert files
    for file in files:
        assert (ROOT / "skfairft" / file).exists(), file


def test_every_row_of_a_table_has_the_cells_of_its_header():
    """A bar in a formula would cut its cell; the page writes \\mid and \\lVert."""
    lines = PAGE.splitlines()
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert line.count("|") == before.count("|"), line
